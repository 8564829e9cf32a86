"""``edgevit train``: photos become a checkpoint that the other commands take, with what cross-validation says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import edgevit as package
from edgevit.commands.train_result import REPORT, WEIGHTS, TrainResult
from edgevit.errors import ConfigError, DataError, StorageError
from edgevit.images.dataset import load_images
from edgevit.model import load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.preprocess import prepare
from edgevit.training.train import PENALTIES
from tests.support import CLASSES, Outcome, write_images

Edgevit = Callable[..., Outcome]
REAL = Path(__file__).parent.parent / "model" / "fixtures" / "real"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint_path: Path, image_folder: Path) -> TrainResult:
    out = tmp_path_factory.mktemp("trained") / "model"
    return package.train(image_folder, backbone=checkpoint_path, out=out, crops=1, cache=False)


def test_it_classifies_what_it_was_trained_on(trained: TrainResult, image_folder: Path) -> None:
    found = trained.findings
    assert found.photos == 96
    assert found.accuracy > 0.9  # the backbone was trained on the like
    assert trained.penalty in PENALTIES
    assert sorted(path.name for path in trained.path.iterdir()) == sorted((WEIGHTS, REPORT))
    report = json.loads((trained.path / REPORT).read_text())
    assert report["findings"]["right"] == found.right
    assert sum(row["photos"] for row in report["classes"]) == 96
    checkpoint = load_checkpoint(trained.path)
    assert checkpoint.labels == CLASSES
    images = load_images(image_folder)
    frames = np.stack([prepare(images.frame(i), checkpoint.preprocessing) for i in range(96)])
    answers = checkpoint.model(normalise(torch.from_numpy(frames), checkpoint.preprocessing)).argmax(1)
    assert float((answers.numpy() == np.array(images.targets)).mean()) >= found.accuracy


def test_build_takes_it(trained: TrainResult, image_folder: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    done = edgevit("build", trained.path, "--data", image_folder, "-o", tmp_path / "b")
    assert done.code == 0, done.stderr


def test_the_command_says_what_to_do(image_folder: Path, checkpoint_path: Path, edgevit: Edgevit, tmp_path: Path) -> None:
    """A photo in the wrong folder, and a copy of one in another class, are named."""
    photos = tmp_path / "photos"
    shutil.copytree(image_folder, photos)
    one, other = CLASSES[:2]
    (photos / one / "000.png").rename(photos / other / "wrong.png")
    shutil.copy(photos / one / "001.png", photos / CLASSES[2] / "copy.png")
    done = edgevit("train", photos, "--backbone", checkpoint_path, "-o", tmp_path / "m", "--crops", 0)
    assert done.code == 0, done.stderr
    assert f"looks wrong: {other}/wrong.png" in done.stdout
    assert f"nearly the same, in two classes: {one}/001.png and {CLASSES[2]}/copy.png" in done.stdout
    assert "% of 97 photos right" in done.stdout
    assert "edgevit build" in done.stdout
    again = edgevit("train", photos, "--backbone", checkpoint_path, "-o", tmp_path / "m", "--crops", 0, "--json")
    assert again.code == 0, again.stderr  # its own kind is replaced
    assert json.loads(again.stdout)["findings"]["photos"] == 97


def test_another_class_later(checkpoint_path: Path, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 6)
    shutil.rmtree(photos / CLASSES[2])
    assert package.train(photos, backbone=checkpoint_path, out=tmp_path / "two", crops=0).findings.classes == CLASSES[:2]
    write_images(photos, 6)
    assert package.train(photos, backbone=checkpoint_path, out=tmp_path / "two", crops=0).findings.classes == CLASSES


@pytest.mark.parametrize("name", ["huggingface_clip_tower", "huggingface_dinov3", "vit_base_patch16_siglip_224"])
def test_any_backbone(name: str, image_folder: Path, tmp_path: Path) -> None:
    """Without a head, with one, with attention pooling."""
    result = package.train(image_folder, backbone=REAL / name, out=tmp_path / "m", crops=0, cache=False)
    checkpoint = load_checkpoint(result.path)
    assert checkpoint.labels == CLASSES
    assert not checkpoint.model.config.unit_features
    assert checkpoint.text is None


@pytest.mark.parametrize(("make", "why"), [
    (lambda folder: write_images(folder, 1), "has one photo"),
    (lambda folder: [shutil.rmtree(place / name) for place in (write_images(folder, 3),) for name in CLASSES[1:]],
     "holds one class"),
    (lambda folder: [path.rename(folder / f"{i}.png") for i, path in enumerate(sorted(write_images(folder, 2).rglob("*.png")))],
     "holds no folder of a class"),
    (lambda folder: (write_images(folder, 3) / CLASSES[0] / "000.png").write_bytes(b"no picture"), "cannot be read"),
])  # fmt: skip
def test_photos_that_teach_nothing(make: Callable[[Path], object], why: str, checkpoint_path: Path, tmp_path: Path) -> None:
    make(tmp_path / "photos")
    with pytest.raises(DataError, match=why):
        package.train(tmp_path / "photos", backbone=checkpoint_path, out=tmp_path / "m", cache=False)
    assert not (tmp_path / "m").exists()


def test_classes_are_the_folders(image_folder: Path, tmp_path: Path) -> None:
    """Whatever the backbone's head means: here labels that are independent of one another."""
    with pytest.raises(ConfigError, match="--problem-type: the classes are the folders"):
        package.train(
            image_folder, backbone=REAL / "huggingface_clip", out=tmp_path / "m", problem_type="multi_label_classification"
        )
    folder = tmp_path / "several"
    shutil.copytree(REAL / "huggingface_clip", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": "multi_label_classification"}))
    result = package.train(image_folder, backbone=folder, out=tmp_path / "m", crops=0, flip=False, cache=False)
    assert load_checkpoint(result.path).problem_type == "single_label_classification"


def test_what_is_not_its_own_stays(image_folder: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "precious").write_text("x")
    with pytest.raises(StorageError, match="is no model that edgevit train wrote"):
        package.train(image_folder, backbone=checkpoint_path, out=tmp_path / "m")
    assert (tmp_path / "m" / "precious").read_text() == "x"
