"""``edgevit train --unfreeze``: kept where it helps, left where it does not, and gone on with after an interruption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import edgevit as package
from edgevit.cache import Cache
from edgevit.commands.train_result import REPORT, WEIGHTS, TrainResult
from edgevit.errors import ConfigError, DataError
from edgevit.images.dataset import load_images
from edgevit.measure.statistics import mcnemar, tango
from edgevit.model import load_checkpoint, save_checkpoint
from edgevit.model.pixels import normalise
from edgevit.model.vit import Vit
from edgevit.preprocess import prepare
from edgevit.progress import Progress, Stage
from edgevit.training.judgement import judged
from tests.support import CLASSES, Outcome, write_images

Edgevit = Callable[..., Outcome]
TUNED: dict[str, Any] = {"crops": 0, "folds": 3, "unfreeze": "all", "lr": 3e-3, "epochs": 9}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, checkpoint_path: Path) -> Path:
    """A backbone that knows nothing: features of chance."""
    known = load_checkpoint(checkpoint_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Vit(known.model.config)
    path = tmp_path_factory.mktemp("untrained") / "model.safetensors"
    save_checkpoint(model, path, preprocessing=known.preprocessing, labels=known.labels)
    return path


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory, untrained: Path, image_folder: Path) -> TrainResult:
    out = tmp_path_factory.mktemp("tuned") / "model"
    return package.train(image_folder, backbone=untrained, out=out, cache=False, **TUNED)


def answers(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """By the checkpoint that was written, and true classes."""
    checkpoint, images = load_checkpoint(path), load_images(folder)
    frames = np.stack([prepare(images.frame(i), checkpoint.preprocessing) for i in range(len(images))])
    logits = checkpoint.model(normalise(torch.from_numpy(frames), checkpoint.preprocessing))
    return logits.argmax(1).numpy(), np.array(images.targets)


def test_it_is_kept_where_it_helps(helped: TrainResult, tmp_path: Path) -> None:
    """And the photos of tomorrow say so, too."""
    report = helped.fine_tuning
    assert report is not None
    assert report.judgement.helped
    assert report.judgement.tuned > report.judgement.frozen + 0.1
    assert report.judgement.photos == helped.findings.photos == report.frozen.photos == 96
    assert helped.findings.accuracy == report.judgement.tuned
    assert report.frozen.accuracy == report.judgement.frozen
    assert "fine-tuning helped" in helped.lines()[-1]
    found, wanted = answers(helped.path, write_images(tmp_path / "others", 20, first=500))
    assert (found == wanted).mean() > report.judgement.frozen
    written = json.loads((helped.path / REPORT).read_text())["fine_tuning"]
    assert written["unfrozen"] == "all"
    assert written["judgement"]["line"] == report.judgement.line
    assert len(written["parts"]) == 3
    assert written["epochs"] == len(written["written"]) - 1
    assert [point["epoch"] for point in written["curve"]][:2] == [0, 1]
    assert written["frozen"]["accuracy"] == report.judgement.frozen
    assert "report" not in helped._repr_html_() or "epoch" in helped._repr_html_()


def test_a_tuned_model_is_a_backbone(helped: TrainResult, image_folder: Path, untrained: Path, tmp_path: Path) -> None:
    """Its features are better than those it began with; its head is left out, and another class comes in."""
    photos = write_images(tmp_path / "photos", 8)
    again = package.train(photos, backbone=helped.path, out=tmp_path / "m", crops=0, folds=3, unfreeze=1, epochs=1, cache=False)
    assert again.fine_tuning is not None
    assert again.fine_tuning.judgement.frozen > 0.9
    assert any("was fine-tuned on 24 of these 24 photos" in note for note in again.notes)  # the first of those drawn before
    new = package.train(write_images(tmp_path / "new", 4, first=200), backbone=again.path / WEIGHTS, out=tmp_path / "n", crops=0,
                        folds=3, cache=False)  # fmt: skip
    assert not any("was fine-tuned on" in note for note in new.notes)
    assert len(new.learned_from) == 96
    assert load_checkpoint(again.path).labels == CLASSES
    shutil.rmtree(photos / CLASSES[0])
    fewer = package.train(photos, backbone=helped.path, out=tmp_path / "m", crops=0, folds=3, unfreeze=1, epochs=1, cache=False)
    assert fewer.findings.classes == CLASSES[1:]


def test_it_is_left_where_it_does_not_help(checkpoint_path: Path, image_folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """The backbone was trained on the like: nothing is to be won, and the very head of a run without --unfreeze is written."""
    arguments = ("train", image_folder, "--backbone", checkpoint_path, "--crops", 0, "--folds", 3)
    tuned = edgevit(*arguments, "-o", tmp_path / "tuned", "--unfreeze", 1, "--epochs", 2)
    assert tuned.code == 0, tuned.stderr
    assert "; the frozen head is kept" in tuned.stdout
    assert "against 9" in tuned.stdout
    assert "fine-tune part 3/3, epoch 1" in tuned.stderr
    assert "% right" in tuned.stderr
    plain = edgevit(*arguments, "-o", tmp_path / "plain")
    assert plain.code == 0, plain.stderr
    assert (tmp_path / "tuned" / WEIGHTS).read_bytes() == (tmp_path / "plain" / WEIGHTS).read_bytes()


class Interrupted(Progress):
    """Ctrl-C in the midst of the ``count``-th epoch that is run."""

    def __init__(self, count: int) -> None:
        self.left, self.seen = count, list[str]()

    def begin(self, stage: Stage) -> None:
        self.seen.append(stage.name)
        self.left -= stage.name.startswith("fine-tune") and "epoch" in stage.name

    def advance(self, stage: Stage, steps: int) -> None:
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.slow  # tests/training/test_unfrozen.py has its like for one run
def test_it_goes_on_bit_by_bit(helped: TrainResult, untrained: Path, image_folder: Path, tmp_path: Path) -> None:
    """Interrupted twice, in a part and in its refit or later, it gives what an uninterrupted run gives."""
    photos = tmp_path / "photos"
    shutil.copytree(image_folder, photos)
    settings = {"backbone": untrained, "out": tmp_path / "parts", "cache": Cache(root=tmp_path / "cache")} | TUNED
    for count, resumed in ((4, None), (11, "part 1/3, epoch 4")):
        interrupted = Interrupted(count)
        with pytest.raises(KeyboardInterrupt):
            package.train(photos, progress=interrupted, **settings)
        assert not (tmp_path / "parts").exists()
        assert resumed is None or f"fine-tune {resumed} (resumed)" in interrupted.seen
    parts = package.train(photos, **settings)
    assert any(note.startswith("resumed: fine-tuning went on with part ") for note in parts.notes)
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (helped.path / WEIGHTS).read_bytes()
    assert parts.fine_tuning is not None
    assert helped.fine_tuning is not None
    assert parts.fine_tuning.judgement == helped.fine_tuning.judgement
    next(iter((photos / CLASSES[0]).iterdir())).unlink()  # one photo less is another task
    with pytest.raises(KeyboardInterrupt):
        package.train(photos, progress=Interrupted(1), **settings)


@pytest.mark.parametrize(("arguments", "why"), [
    ({"unfreeze": 3}, "--unfreeze 3: the backbone has 2 blocks"), ({"unfreeze": 0}, "unfreeze: 0 is out of range"),
    ({"unfreeze": "some"}, "'some' is no number of blocks"), ({"epochs": 3}, "--epochs: is of fine-tuning"),
    ({"lr": 0.1}, "--lr: is of fine-tuning"), ({"unfreeze": 1, "epochs": 0}, "epochs: 0 is out of range"),
    ({"unfreeze": 1, "lr": -1.0}, "lr: -1 is out of range"), ({"unfreeze": 1, "lr": float("nan")}, "lr: nan is out of range"),
    ({"unfreeze": 1, "folds": 2}, "--folds 2: fine-tuning takes 3 or more"),
])  # fmt: skip
def test_arguments(arguments: dict[str, Any], why: str, checkpoint_path: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        package.train(image_folder, backbone=checkpoint_path, out=tmp_path / "m", cache=False, **arguments)
    assert not (tmp_path / "m").exists()


def test_arguments_of_wrong_types(checkpoint_path: Path, image_folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    for wrong in ({"unfreeze": 1.5}, {"unfreeze": True}, {"unfreeze": 1, "epochs": "3"}, {"add_class": 3}, {"add_class": "a=b"}):
        with pytest.raises(TypeError, match=f"^{list(wrong)[-1]}: expected"):
            package.train(image_folder, backbone=checkpoint_path, out=tmp_path / "m", **wrong)
    done = edgevit("train", image_folder, "--backbone", checkpoint_path, "--unfreeze", "-1")
    assert (done.code, "no number of blocks: write 2, or all" in done.stderr) == (2, True)


def test_a_class_that_lies_elsewhere(checkpoint_path: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """Two folders become classes: the same as if they lay beside the others."""
    whole, photos = write_images(tmp_path / "whole", 6), tmp_path / "photos"
    shutil.copytree(whole, photos)
    for name in CLASSES[1:]:
        (tmp_path / "more").mkdir(exist_ok=True)
        (photos / name).rename(tmp_path / "more" / name)
    arguments = ("--backbone", checkpoint_path, "--crops", 0, "--json", "-o", tmp_path / "m")
    done = edgevit("train", photos, *arguments, "--add-class", tmp_path / "more" / CLASSES[1], "--add-class",
                   f"{CLASSES[2]}={tmp_path / 'more' / CLASSES[2]}")  # fmt: skip
    assert done.code == 0, done.stderr
    apart, together = done.json["findings"], edgevit("train", whole, *arguments).json["findings"]
    assert (apart["classes"], apart["photos"]) == (list(CLASSES), 18)
    assert apart["right"] == together["right"]
    more = package.train(whole, backbone=checkpoint_path, out=tmp_path / "m", crops=0,
                         add_class={CLASSES[0]: write_images(tmp_path / "others", 2, first=90) / CLASSES[0]})  # fmt: skip
    assert [row["photos"] for row in more.rows] == [8, 6, 6]


@pytest.mark.parametrize(("added", "why"), [
    (lambda place: f"x={place / 'photos' / CLASSES[0]}", "takes photos that lie elsewhere"),
    (lambda place: f"x={place}", "takes photos that lie elsewhere"), (lambda place: f"x={place / 'none'}", "does not exist"),
])  # fmt: skip
def test_classes_that_cannot_be_added(added: Callable[[Path], str], why: str, checkpoint_path: Path, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 2)
    with pytest.raises(DataError, match=why):
        package.train(photos, backbone=checkpoint_path, out=tmp_path / "m", add_class=[added(tmp_path)])
    with pytest.raises(ConfigError, match="a class without a name"):
        package.train(photos, backbone=checkpoint_path, out=tmp_path / "m", add_class=[f"={photos}"])


def logits_of(answers: list[int]) -> torch.Tensor:
    return torch.eye(3, dtype=torch.float64)[answers]


def test_judgements_by_hand() -> None:
    """30 photos, of which fine-tuning wins eight and loses one; then the same the other way round."""
    y = torch.zeros(30, dtype=torch.int64)
    before, after = logits_of([1] * 10 + [0] * 20), logits_of([0] * 8 + [1] * 2 + [0] * 19 + [2])
    found = judged(before, after, y, balanced=False)
    assert (found.won, found.lost, found.photos) == (8, 1, 30)
    assert (found.frozen, found.tuned) == (pytest.approx(20 / 30), pytest.approx(27 / 30))
    assert (found.p, found.interval) == (mcnemar(1, 8), tango(1, 8, 30))
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.helped
    assert "fine-tuning helped: 90.0 against 66.7 %" in found.line
    other = judged(after, before, y, balanced=False)
    assert not other.helped
    assert "fine-tuning did not help: 66.7 against 90.0 %" in other.line
    few = judged(before, logits_of([0] * 3 + [1] * 7 + [0] * 20), y, balanced=False)
    assert (few.tuned > few.frozen, few.helped) == (True, False)
    assert "fine-tuning may be chance: 76.7 against 66.7 %" in few.line
    same = judged(before, before, y, balanced=False)
    assert (same.p, same.helped) == (1.0, False)


def test_balanced_judgements() -> None:
    """Where every class counts the same, nine photos of a rare class outweigh twelve of a common one."""
    y = torch.tensor([0] * 100 + [1] * 10)
    before, after = logits_of([0] * 100 + [2] * 10), logits_of([0] * 88 + [2] * 12 + [1] * 9 + [2])
    plain, balanced = (judged(before, after, y, balanced=each) for each in (False, True))
    assert not plain.helped
    assert (balanced.frozen, balanced.tuned) == (0.5, pytest.approx((0.88 + 0.9) / 2))
    assert balanced.helped
    assert balanced.interval[0] < balanced.tuned - balanced.frozen < balanced.interval[1]
