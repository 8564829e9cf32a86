"""A multi-label model from checkpoint to outputs, by command and from Python."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

import edgevit as package
from edgevit.images.dataset import ImageSet, load_images
from edgevit.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.model.pixels import normalise
from edgevit.problem import MULTI_LABEL, join_labels
from tests.support import CLASSES, Outcome, built


@pytest.fixture(scope="module")
def model(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a head of independent labels."""
    trained = load_checkpoint(checkpoint_path)
    with torch.no_grad():
        trained.model.head.bias += 1  # type: ignore[operator]
    path = tmp_path_factory.mktemp("several") / "several.safetensors"
    save_checkpoint(
        trained.model, path, preprocessing=trained.preprocessing, labels=CLASSES, problem_type=MULTI_LABEL
    )  # fmt: skip
    return path


def logits_of(checkpoint: Checkpoint, images: ImageSet) -> np.ndarray:
    """By torch, in full precision."""
    frames = np.concatenate(list(images.prepared(checkpoint.preprocessing)))
    with torch.no_grad():
        return checkpoint.model(normalise(torch.from_numpy(frames), checkpoint.preprocessing)).numpy()


@pytest.fixture(scope="module")
def data(image_folder: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures in one folder with labels.csv: what the model says, with some of it wrong, and none of the last label."""
    folder = tmp_path_factory.mktemp("labelled")
    images, checkpoint = load_images(image_folder), load_checkpoint(model)
    random = np.random.default_rng(0)
    truth = logits_of(checkpoint, images) + random.normal(0, 3, (len(images), 3)) > 0
    truth[:, 2] = False
    rows = ["file,labels"]
    for index, name in enumerate(images.names):
        file = name.replace("/", "-")
        (folder / file).write_bytes((image_folder / name).read_bytes())
        rows.append(f"{file},{join_labels([CLASSES[i] for i in np.flatnonzero(truth[index])])}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def bundle(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT8, calibrated on 64 of the pictures and measured on the other 32."""
    return built(model, tmp_path_factory.mktemp("bundle"), data=data)


def test_build_measures_map_and_f1(bundle: Path, data: Path, model: Path) -> None:
    """The figures of FP32 are scikit-learn's, of torch's logits on the images that calibration left."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["problem_type"] == MULTI_LABEL
    row = manifest["accuracy"]["fp32"]
    images = load_images(data)
    held_out = images.held_out(1024, 0, set(manifest["provenance"]["calibration_images"]))
    truth, logits = held_out.marks_for(CLASSES), logits_of(load_checkpoint(model), held_out)
    assert truth is not None
    assert (row["images"], row["top1"]) == (len(held_out), None)
    wanted = average_precision_score(truth[:, :2], logits[:, :2], average="macro")
    assert row["mean_average_precision"] == pytest.approx(wanted, abs=1e-6)
    assert row["f1"] == pytest.approx(f1_score(truth, logits >= 0, average="micro"), abs=1e-6)
    assert 0.8 < manifest["accuracy"]["int8"]["agreement"] <= 1


def test_scores_are_sigmoids(bundle: Path, model: Path, image_folder: Path) -> None:
    images = load_images(image_folder).subset(range(0, 96, 8))
    wanted = torch.sigmoid(torch.from_numpy(logits_of(load_checkpoint(model), images))).numpy()
    with package.load(bundle, threads=1) as classifier:
        for index, scores in enumerate(wanted):
            found = classifier.classify(images.frame(index), top_k=3)
            assert [each.confidence for each in sorted(found, key=lambda each: each.index)] == pytest.approx(scores, abs=0.1)


def test_decisions_from_python(bundle: Path, data: Path) -> None:
    with package.load(bundle, threads=1) as classifier:
        for decision in classifier.run(data, limit=20, threshold={"disc": 0.9}):
            own = {each.label: each.confidence for each in classifier.classify(decision.frame.image_bgr)}
            there = {label for label, score in own.items() if score >= (0.9 if label == "disc" else 0.5)}
            assert {each.label for each in decision.labels} == there
            assert decision.best.label == (decision.labels[0].label if there else "none")


def test_collect_keeps_what_has_an_open_label(
    edgevit: Callable[..., Outcome], bundle: Path, data: Path, tmp_path: Path
) -> None:  # fmt: skip
    """A label that is neither there nor absent with 0.9; by the scores that `classify` gives."""
    options = ("--sharp", "off", "--change", 0, "--alike", 1, "--any-light", "--json")
    done = edgevit("collect", data, "-o", tmp_path / "o", "--uncertain", bundle, "--below", 0.9, *options)
    assert done.code == 0, done.stderr
    kept = {each["source"]: each for each in done.lines[:-1]}
    with package.load(bundle, threads=1) as classifier:
        scores = {path.name: classifier.classify(path, top_k=3) for path in data.glob("*.png")}
    certainty = {name: min(max(each.confidence, 1 - each.confidence) for each in found) for name, found in scores.items()}
    clear = {name: value for name, value in certainty.items() if abs(value - 0.9) > 1e-3}
    assert {name for name in kept if name in clear} == {name for name, value in clear.items() if value < 0.9}
    assert 0 < len(kept) < len(certainty)
    for name, each in kept.items():
        guess = min(scores[name], key=lambda found: abs(found.confidence - 0.5))
        assert (each["guess"], each["confidence"]) == (guess.label, pytest.approx(guess.confidence, abs=1e-3))


def test_every_frame_output(edgevit: Callable[..., Outcome], bundle: Path, data: Path, tmp_path: Path) -> None:
    rows, log = tmp_path / "out.csv", tmp_path / "snapshots"
    done = edgevit(
        "run", bundle, data, "--headless", "--json", "--no-telemetry", "--limit", 12, "--csv", rows, "--save", tmp_path / "v.mp4",
        "--snapshot", log, "--every", 0, "--threshold", "40%", "--threshold", "disc=0.6", "--top-k", 1,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    *frames, last = done.lines
    for frame in frames:
        assert len(frame["top_k"]) == 1, "labels are not cut to top_k"
        assert all(each["confidence"] >= (0.6 if each["label"] == "disc" else 0.4) for each in frame["labels"])
    with rows.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["labels"] for row in table] == ["|".join(each["label"] for each in frame["labels"]) for frame in frames]
    counted = [each["label"] for frame in frames for each in frame["labels"] or [{"label": "none"}]]
    assert last["summary"]["labels"] == {label: counted.count(label) for label in counted}
    comings = 0
    for before, frame in zip([set(), *({each["label"] for each in frame["labels"]} for frame in frames)], frames, strict=False):
        comings += len({each["label"] for each in frame["labels"]} - before)
    assert len(list(log.iterdir())) == comings > 0
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert video.read()[0]
    video.release()


def test_text_names_all_labels(edgevit: Callable[..., Outcome], bundle: Path, data: Path) -> None:
    done = edgevit("run", bundle, data, "--headless", "--no-telemetry", "--limit", 3, "--threshold", 0)
    lines = done.stdout.splitlines()[:3]
    assert all(all(f"{label} " in line for label in CLASSES) for line in lines)
    done = edgevit("run", bundle, data, "--headless", "--no-telemetry", "--limit", 1, "--threshold", 1)
    assert "  none  " in done.stdout


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--threshold", "dsic=0.5"), "no label of this model is 'dsic'. Did you mean 'disc'?"),
        (("--threshold", "50"), "50 is no confidence"),
        (("--when", "margin>0.1", "--snapshot", "x"), "ask for confidence"),
    ],
)
def test_options_that_do_not_fit(
    options: tuple[str, ...], wanted: str, edgevit: Callable[..., Outcome], bundle: Path, data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = edgevit("run", bundle, data, "--headless", "--no-telemetry", *options)
    assert (done.code, done.stdout) == (2, "")
    assert wanted in done.stderr
    assert len(done.stderr.splitlines()) == 1
    service = edgevit("service", bundle, data, "--user", "nobody", "--", *options)
    if options[0] == "--threshold":
        assert service.code == 2
        assert wanted in service.stderr


def test_inspect_says_what_scores_are(edgevit: Callable[..., Outcome], bundle: Path, bundle_path: Path) -> None:
    several, single = edgevit("inspect", bundle).stdout, edgevit("inspect", bundle_path).stdout
    assert "several labels an image (sigmoid of each)" in several
    assert "mAP" in several
    assert "top-1" not in several
    assert "one class an image (softmax)" in single
    assert "top-1" in single


def test_no_report_speaks_of_classes_of_which_one_is_right(
    edgevit: Callable[..., Outcome], bundle: Path, data: Path, tmp_path: Path
) -> None:
    """With true labels, and without."""
    without = tmp_path / "without"
    without.mkdir()
    for file in sorted(data.glob("*.png"))[:80]:
        (without / file.name).write_bytes(file.read_bytes())
    for folder in (data, without):
        html, text = tmp_path / "out.html", tmp_path / "out.md"
        done = edgevit("compare", bundle, "--data", folder, "--runs", 5, "--threads", 1, "--html", html, "--markdown", text)
        assert done.code == 0, done.stderr
        for found in (done.stdout, html.read_text(), text.read_text()):
            for word in ("top-1", "McNemar", "right answer", "ECE"):
                assert word not in found, f"{word} in the report on {folder.name}"
            assert ("mAP %" in found) is (folder is data)
        assert folder is without or "on none of them stripes" in done.stdout


def test_folders_of_one_label_each_are_no_truth(
    edgevit: Callable[..., Outcome], bundle: Path, image_folder: Path
) -> None:  # fmt: skip
    done = edgevit("compare", bundle, "--data", image_folder, "--runs", 5, "--threads", 1)
    assert done.code == 0, done.stderr
    assert "accuracy: unknown, as " in done.stderr
    assert "write them into a labels.csv there" in done.stderr
    assert "mAP %" not in done.stdout


def test_models_of_two_kinds_are_not_compared(
    edgevit: Callable[..., Outcome], bundle: Path, bundle_path: Path, data: Path
) -> None:  # fmt: skip
    done = edgevit("compare", bundle, bundle_path, "--data", data, "--runs", 5)
    assert done.code == 2
    assert "Compare models of the same task only" in done.stderr


def test_budgets_count_points_of_map(edgevit: Callable[..., Outcome], model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.edgevit"
    done = edgevit("build", model, "--data", data, "--max-drop", 20, "--threads", 1, "-o", out)
    assert done.code == 0, done.stderr
    search = json.loads((out / "report.json").read_text())["search"]
    assert search["metric"] == "mAP"
    assert search["drop"] <= 20


def test_pruning_keeps_the_head(edgevit: Callable[..., Outcome], model: Path, data: Path, tmp_path: Path) -> None:
    """By gradients of each label's own loss, then distilled."""
    out = tmp_path / "p.safetensors"
    options = ("--multiple", 8, "--prune", 0.2, "--score", "taylor", "--recover", 1, "--precision", "fp32")
    done = edgevit("prune", model, "--data", data, *options, "-o", out)
    assert done.code == 0, done.stderr
    assert "mAP %" in done.stdout
    assert load_checkpoint(out).problem_type == MULTI_LABEL
    single = edgevit("prune", model, "--data", data, *options, "--problem-type", "single_label_classification", "-o", out)
    assert single.code == 4
    assert "--score taylor needs labels" in single.stderr


def test_dry_run_says_what_scores_are(edgevit: Callable[..., Outcome], model: Path, data: Path, tmp_path: Path) -> None:
    done = edgevit("build", model, "--data", data, "--dry-run", "-o", tmp_path / "b.edgevit")
    assert "several labels an image (sigmoid of each)" in done.stdout
