"""What bad input gets: one line with the fact and the place, a meaningful exit code, and no trace."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgevit.bundle import MANIFEST, MODEL
from edgevit.cli import COMMANDS
from tests.model import references
from tests.support import CLASSES, Outcome, picture, write_images

CHOICES = {"model": 3, "images": 4, "bundle": 5, "engine": 6, "source": 7, "package": 8, "storage": 9, "option": 2}


@dataclass(frozen=True)
class Place:
    """What the lines below are built from."""

    model: Path
    data: Path
    bundle: Path
    tmp: Path

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def tensors(self, tensors: dict[str, torch.Tensor]) -> Path:
        save_file({key: value.contiguous() for key, value in tensors.items()}, self.tmp / "other.safetensors")
        return self.tmp / "other.safetensors"

    def copy(self) -> Path:
        """A bundle that may be damaged."""
        return Path(shutil.copytree(self.bundle, self.tmp / "copy.edgevit"))

    def build(self, model: Path, *options: object) -> list[object]:
        """A build that would succeed with a good model."""
        return ["build", model, "--data", self.data, "-o", self.tmp / "out.edgevit", *options]


class Code:
    """Pickled, it asks to run code where it is loaded."""

    def __reduce__(self) -> tuple:
        return print, ("executed",)


def damaged_image(place: Place) -> list[object]:
    data = write_images(place.tmp / "data", 22)
    path = data / "disc" / "000.png"
    path.write_bytes(path.read_bytes()[:40])
    return ["build", place.model, "--data", data, "-o", place.tmp / "out.edgevit"]


def wrong_level(place: Place, command: str, *options: object) -> list[object]:
    """The folder of ``train`` and ``test``."""
    for part in ("train", "test"):
        write_images(place.tmp / "set" / part, 1)
    model = {
        "build": [place.model, "-o", place.tmp / "o.edgevit"],
        "prune": [place.model, "--share", 0.2],
        "compare": [place.bundle],
    }
    return [command, *model[command], "--data", place.tmp / "set", *options]


def pipe(place: Place, name: str) -> Path:
    os.mkfifo(place.tmp / name)
    return place.tmp / name


def npz(place: Place, **arrays: np.ndarray) -> list[object]:
    np.savez(place.tmp / "data.npz", **arrays)
    return ["build", place.model, "--data", place.tmp / "data.npz", "-o", place.tmp / "out.edgevit"]


def npy(place: Place) -> list[object]:
    np.save(place.tmp / "data.npy", np.zeros((3, 32, 32, 3), np.uint8))
    (place.tmp / "data.npy").rename(place.tmp / "data.npz")
    return ["build", place.model, "--data", place.tmp / "data.npz", "-o", place.tmp / "out.edgevit"]


def damaged_npz(place: Place) -> list[object]:
    np.savez_compressed(place.tmp / "data.npz", images=np.random.default_rng(0).integers(0, 9, (80, 32, 32, 3), dtype=np.uint8))
    content = bytearray((place.tmp / "data.npz").read_bytes())
    content[5000:5040] = bytes(40)
    (place.tmp / "data.npz").write_bytes(content)
    return ["build", place.model, "--data", place.tmp / "data.npz", "-o", place.tmp / "out.edgevit"]


def swin() -> dict[str, torch.Tensor]:
    return {
        "patch_embed.proj.weight": torch.zeros(96, 3, 4, 4),
        "layers.0.blocks.0.norm1.weight": torch.ones(96),
        "layers.0.blocks.0.attn.qkv.weight": torch.zeros(288, 96),
        "layers.0.downsample.reduction.weight": torch.zeros(192, 384),
        "head.weight": torch.zeros(10, 768),
    }


def timm(seed: int = 5) -> dict[str, torch.Tensor]:
    return references.randomise(references.TimmVit(), seed=seed).state_dict()


def pickled(place: Place) -> Path:
    torch.save({"model": Code()}, place.tmp / "code.pt")
    return place.tmp / "code.pt"


def changed(place: Place, name: str, change: Callable[[bytes], bytes]) -> Path:
    bundle = place.copy()
    (bundle / name).write_bytes(change((bundle / name).read_bytes()))
    return bundle


def manifest_with(place: Place, **values: object) -> Path:
    return changed(place, MANIFEST, lambda content: json.dumps(json.loads(content) | values).encode())


def damaged_zip(place: Place) -> Path:
    """A zip whose compressed model does not inflate."""
    path = place.tmp / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in place.bundle.iterdir():
            archive.writestr(file.name, file.read_bytes())
        start = archive.getinfo(MODEL).header_offset + 100
    content = bytearray(path.read_bytes())
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    return path


def label_file(place: Place) -> Path:
    return place.file("labels.txt", "only\ntwo\n")


# name -> (command line, exit code, part of the line)
BAD: dict[str, tuple[Callable[[Place], list[object]], str, str]] = {
    # the model
    "missing model": (lambda p: p.build(p.tmp / "gone.pt"), "model", "gone.pt: no such file"),
    "empty model": (lambda p: p.build(p.file("a.pt", b"")), "model", "the file is empty"),
    "truncated safetensors": (
        lambda p: p.build(p.file("cut.safetensors", p.model.read_bytes()[:-500])), "model", "damaged or truncated",
    ),
    "truncated header": (lambda p: p.build(p.file("cut.safetensors", p.model.read_bytes()[:50])), "model", "truncated"),
    "jpg as model": (
        lambda p: p.build(p.file("x.safetensors", cv2.imencode(".jpg", picture("disc", 0))[1].tobytes())),
        "model", "neither a safetensors nor a torch file",
    ),
    "pickle with code": (lambda p: p.build(pickled(p)), "model", "would run code to load, which edgevit refuses"),
    "git lfs pointer": (
        lambda p: p.build(p.file("m.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")), "model", "git lfs pull",
    ),
    "swin": (lambda p: p.build(p.tensors(swin())), "model", "a Swin Transformer"),
    "not a vit": (lambda p: p.build(p.tensors({"weight": torch.zeros(3)})), "model", "not a ViT that edgevit knows"),
    "nan weights": (
        lambda p: p.build(p.tensors({**timm(), "head.bias": torch.full_like(timm()["head.bias"], torch.nan)})),
        "model", "NaN or infinite",
    ),
    "folder without weights": (lambda p: p.build(p.file("d/a.txt", "x").parent), "model", "holds neither model.safetensors"),
    "images as model": (lambda p: p.build(p.data), "model", "these are images, not a model. Give the trained model as MODEL"),
    "bundle as model": (lambda p: p.build(p.bundle), "model", "this is a bundle, built already"),
    "own onnx as model": (lambda p: p.build(p.bundle / MODEL), "model", "a graph that edgevit wrote"),
    "hub id as model": (lambda p: p.build(Path("google/vit-base")), "model", "google/vit-base: not in the cache, and"),
    "timm name as model": (lambda p: p.build(Path("vit_tiny_patch16_224")), "model", "timm.models.save_for_hf"),
    "average that is not there": (lambda p: p.build(p.tensors(timm()), "--weights", "ema"), "option", "holds no weights 'ema'"),
    "wrong heads": (lambda p: p.build(p.tensors(timm()), "--heads", 7), "option", "7"),
    "wrong image size": (lambda p: p.build(p.model, "--image-size", 35), "option", "35x35 is not a multiple of the patch size 8"),
    "labels of another model": (lambda p: p.build(p.model, "--labels", label_file(p)), "option", "got 2, but the model has 3"),
    "gray for a colour model": (
        lambda p: p.build(p.model, "--color", "gray", "--mean", 0.5, "--std", 0.5), "option", "does not fit a model of 3",
    ),
    # the images
    "no data for int8": (lambda p: ["build", p.model, "-o", p.tmp / "o.edgevit"], "images", "pass --data DIR"),
    "missing data": (lambda p: ["build", p.model, "--data", p.tmp / "gone", "-o", p.tmp / "o"], "images", "gone: does not exist"),
    "empty data": (
        lambda p: ["build", p.model, "--data", p.file("d/readme.txt", "x").parent, "-o", p.tmp / "o"], "images", "no images",
    ),
    "data is a file": (
        lambda p: ["build", p.model, "--data", p.file("a.txt", "text"), "-o", p.tmp / "o"], "images", "not a folder or an .npz"
    ),
    "data is the model": (
        lambda p: ["build", p.model, "--data", p.model, "-o", p.tmp / "o"], "images", "this is a checkpoint, not images",
    ),
    "truncated image": (damaged_image, "images", "000.png (cut off or damaged). Remove or replace it."),
    "npz of floats": (lambda p: npz(p, images=np.zeros((4, 32, 32, 3))), "images", "must be uint8"),
    "npz without images": (lambda p: npz(p, x=np.zeros(3)), "images", "and is missing"),
    "npz of five channels": (lambda p: npz(p, images=np.zeros((4, 32, 32, 5), np.uint8)), "images", "1 or 3 channels"),
    "npz with too few labels": (
        lambda p: npz(p, images=np.zeros((4, 32, 32, 3), np.uint8), labels=np.zeros(3, int)), "images", "must be 4 integers",
    ),
    "npz with pickled images": (lambda p: npz(p, images=np.array([Code()], object)), "images", "not a readable .npz"),
    "npy as npz": (npy, "images", "data.npz"),
    "damaged npz": (damaged_npz, "images", "not a readable .npz"),
    "text as npz": (lambda p: ["compare", p.bundle, "--data", p.file("d.npz", "text")], "images", "not a readable .npz"),
    "all images calibrated on": (
        lambda p: ["compare", p.model, "--data", write_images(p.tmp / "few", 3)], "images", "calibration takes all 9 images",
    ),
    # names of things
    "unknown target": (lambda p: p.build(p.model, "--target", "cpuu"), "option", "Did you mean 'cpu'?"),
    "unknown recipe": (lambda p: p.build(p.model, "--recipe", "defaul"), "option", "Did you mean 'default'?"),
    "missing recipe file": (lambda p: p.build(p.model, "--recipe", "mine.toml"), "option", "no such file"),
    "recipe key": (
        lambda p: p.build(p.model, "--recipe", p.file("r.toml", "[calibrate]\nimags = 3\n")), "option", "Did you mean 'images'?",
    ),
    "recipe value": (
        lambda p: p.build(p.model, "--recipe", p.file("r.toml", "[calibrate]\nimages = 0\n")), "option", "at least 1, not 0",
    ),
    "recipe list": (lambda p: p.build(p.model, "--recipe", p.file("r.toml", "[quantize]\nlinears = 3\n")), "option", "linears"),
    "recipe syntax": (lambda p: p.build(p.model, "--recipe", p.file("r.toml", "[calibrate\n")), "option", "not a readable TOML"),
    "target key": (
        lambda p: p.build(p.model, "--target", p.file("t.toml", "precision = 1\n")), "option", "Did you mean 'precisions'?",
    ),
    "target without engine": (
        lambda p: p.build(p.model, "--target", p.file("t.toml", "description='b'\nprecisions = ['int8']\n")), "option", "engine",
    ),
    "unknown engine": (lambda p: ["run", p.bundle, "test://", "--engine", "openvin"], "option", "Did you mean 'openvino'?"),
    "unknown engine of compare": (
        lambda p: ["compare", p.bundle, "--data", p.data, "--engines", "xyz"], "option", "Known: onnxruntime, openvino, tensorrt",
    ),
    "checkpoint option for a bundle": (
        lambda p: ["compare", p.bundle, "--data", p.data, "--heads", 3], "option", "heads can only be given for a checkpoint",
    ),
    "unknown target of targets": (lambda p: ["targets", "jetsn"], "option", "jetsn"),
    # bundles
    "missing bundle": (lambda p: ["run", p.tmp / "gone.edgevit", "0"], "bundle", "no such bundle"),
    "folder as bundle": (lambda p: ["inspect", p.file("d/a.txt", "x").parent], "bundle", "has no manifest.json"),
    "images as bundle": (lambda p: ["run", p.data, "0"], "bundle", "these are images, not a bundle"),
    "model as bundle": (lambda p: ["run", p.model, "test://"], "bundle", "this is a checkpoint, not a bundle. Make"),
    "onnx as bundle": (lambda p: ["inspect", p.bundle / MODEL], "bundle", "this is an ONNX model, not a bundle"),
    "truncated model in a bundle": (lambda p: ["run", changed(p, MODEL, lambda c: c[:-9]), "test://"], "bundle", "not the file"),
    "tampered model in a bundle": (
        lambda p: ["inspect", changed(p, MODEL, lambda c: c.replace(b"MatMul", b"MatMux"))], "bundle", "was changed",
    ),
    "damaged manifest": (lambda p: ["inspect", changed(p, MANIFEST, lambda c: c[:-9])], "bundle", "not a valid manifest"),
    "newer bundle": (lambda p: ["run", manifest_with(p, schema=2), "test://"], "bundle", "bundle schema 2, this edgevit reads 1"),
    "manifest without recipe name": (lambda p: ["inspect", manifest_with(p, recipe={})], "bundle", "copy.edgevit"),
    "manifest with too few labels": (
        lambda p: ["run", manifest_with(p, labels=["a"]), "test://?frames=1", "--headless"], "bundle", "labels",
    ),
    "damaged zip": (lambda p: ["inspect", damaged_zip(p)], "bundle", "damaged.zip"),
    "truncated zip": (
        lambda p: ["compare", p.file("t.zip", damaged_zip(p).read_bytes()[:-30]), "--data", p.data], "bundle", "not a bundle",
    ),
    # sources
    "missing source": (lambda p: ["run", p.bundle, p.tmp / "gone.mp4"], "source", "no such file or folder"),
    "text as video": (lambda p: ["run", p.bundle, p.file("v.mp4", "text" * 99)], "source", "no video frame"),
    "damaged image as source": (lambda p: ["run", p.bundle, p.file("v.png", "text")], "source", "v.png: not a readable image"),
    "empty folder as source": (lambda p: ["run", p.bundle, p.file("d/a.txt", "").parent], "source", "no images in this folder"),
    "only damaged images": (lambda p: ["run", p.bundle, p.file("d/a.png", "no").parent, "--headless"], "source", "none of 1"),
    "stream of another kind": (lambda p: ["run", p.bundle, "ftp://u:pw@10.0.0.1/a"], "source", "ftp://10.0.0.1/a: no known"),
    "camera that nobody serves": (lambda p: ["run", p.bundle, "http://u:pw@127.0.0.1:9/a"], "source", "http://127.0.0.1:9/a: no"),
    "pipe as source": (lambda p: ["run", p.bundle, pipe(p, "v.mp4")], "source", "v.mp4: not a regular file"),
    "level too high": (lambda p: wrong_level(p, "prune"), "images", "did you mean --data"),
    "level too high, compared": (lambda p: wrong_level(p, "compare"), "images", "did you mean --data"),
    "level too high, dry run": (lambda p: wrong_level(p, "build", "--dry-run"), "images", "did you mean --data"),
    "stream that nobody serves": (lambda p: ["run", p.bundle, "rtsp://u:pw@127.0.0.1:9/a"], "source", "rtsp://127.0.0.1:9/a: no"),
    "size of a file": (lambda p: ["run", p.bundle, "test://", "--size", "64x48"], "option", "of cameras and streams only"),
    "newest frame of a folder": (lambda p: ["run", p.bundle, p.data, "--policy", "latest"], "option", "has no rate of its own"),
    "camera that is not there": (lambda p: ["run", p.bundle, "97"], "source", "/dev/video97: no such camera"),
    "test pattern": (lambda p: ["run", p.bundle, "test://640"], "source", "not a test pattern"),
    # places to write
    "output is a folder of others": (
        lambda p: ["build", p.model, "--data", p.data, "-o", p.file("photos/1.jpg", "x").parent], "bundle", "is not overwritten",
    ),
    "output is a file": (
        lambda p: ["build", p.model, "--data", p.data, "-o", p.file("notes.txt", "x")], "bundle", "it is not overwritten",
    ),
    "output inside a file": (
        lambda p: ["build", p.model, "--data", p.data, "-o", p.file("notes.txt", "x") / "b.edgevit"], "storage", "cannot write",
    ),
    "csv inside a file": (
        lambda p: ["compare", p.bundle, "--data", p.data, "--runs", 5, "--csv", p.file("notes.txt", "x") / "t.csv"],
        "storage", "cannot write",
    ),
    "video of another suffix": (
        lambda p: ["run", p.bundle, "test://", "--headless", "--save", p.tmp / "v.gif"], "option", "cannot write .gif videos",
    ),
    "video in no folder": (
        lambda p: ["run", p.bundle, "test://", "--headless", "--save", p.tmp / "gone" / "v.mp4"], "storage", "does not exist",
    ),
}  # fmt: skip


@pytest.fixture
def place(checkpoint_path: Path, image_folder: Path, bundle_path: Path, tmp_path: Path) -> Place:
    folder = tmp_path / "place"
    folder.mkdir()
    return Place(model=checkpoint_path, data=image_folder, bundle=bundle_path, tmp=folder)


def only_line(outcome: Outcome) -> str:
    """The error; before it there may be the lines of stages that finished, and notes."""
    assert "Traceback" not in outcome.stdout + outcome.stderr
    others = ("  ", "note: ")
    (line,) = [line for line in outcome.stderr.splitlines() if line.strip() and not line.startswith(others)]
    assert outcome.stderr.endswith(line + "\n")
    assert line.startswith("edgevit: ")
    return line


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, place: Place, edgevit, capfd: pytest.CaptureFixture[str]) -> None:
    """One line that names the fault, the right exit code, no output, and no word of a native library."""
    arguments, kind, part = BAD[name]
    outcome = edgevit(*arguments(place))
    line = only_line(outcome)
    assert part in line
    assert outcome.code == CHOICES[kind], line
    assert outcome.stdout == ""
    assert "internal error" not in line
    # OpenCV's warnings are switched off when it is first imported, which another test may have done.
    assert [line for line in capfd.readouterr().err.splitlines() if "WARN:" not in line] == []
    assert not (place.tmp / "out.edgevit").exists()


def test_failed_stage_is_not_shown_as_done(edgevit, place: Place) -> None:
    """A model that cannot be imported leaves the error alone on the screen."""
    outcome = edgevit(*place.build(place.tmp / "gone.pt"))
    assert outcome.stderr.splitlines() == [only_line(outcome)]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["bild"], "No such command 'bild'. Did you mean 'build'?"),
        (["frobnicate"], f"Known: {', '.join(sorted(COMMANDS))}"),
        (["build"], "MODEL is missing: a .safetensors"),
        (["build", "m.pt", "--precision", "int4"], "'int4' is not one of 'auto', 'int8', 'fp16', 'fp32'"),
        (["build", "m.pt", "--max-drop", "-1"], "is out of range: 0 to 100"),
        (["build", "m.pt", "--image-size", "big"], "write 224, or HEIGHTxWIDTH"),
        (["build", "m.pt", "--image-size", "0x32"], "write 224, or HEIGHTxWIDTH"),
        (["build", "m.pt", "--mean", "a,b"], "no list of numbers"),
        (["build", "m.pt", "--labels", "gone.txt"], "does not exist"),
        (["run", "b", "0", "--limit", "0"], "0 is out of range: 1 or more"),
        (["run", "b", "0", "--top-k", "many"], "is no whole number"),
        (["compare", "m.pt"], "--data is missing"),
        (["inspect", "b", "--jsn"], "No such option"),
    ],
)
def test_wrong_usage(edgevit, arguments: list[str], part: str) -> None:
    """What click finds is told as everything else is."""
    outcome = edgevit(*arguments)
    assert outcome.code == 2
    assert part in only_line(outcome)


def test_native_libraries_say_nothing(edgevit_process, place: Place) -> None:
    """OpenCV's warning about a truncated image would come before, and say less than, the error that names the file."""
    outcome = edgevit_process(*damaged_image(place))
    assert "000.png" in only_line(outcome)


def test_code_in_a_pickle_does_not_run(edgevit_process, place: Place) -> None:
    outcome = edgevit_process(*place.build(pickled(place)))
    assert outcome.code == CHOICES["model"]
    assert "executed" not in outcome.stdout + outcome.stderr


def test_debug_shows_the_trace(edgevit_process) -> None:
    """For those who report a bug."""
    outcome = edgevit_process("--debug", "inspect", "gone")
    assert outcome.code == 1
    assert "Traceback" in outcome.stderr
    assert "BundleError" in outcome.stderr


def test_unforeseen_error_asks_for_a_report(edgevit, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.commands import inspect

    def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")  # noqa: EM101

    monkeypatch.setattr(inspect, "open_bundle", fail)
    outcome = edgevit("inspect", "b")
    assert outcome.code == 70
    assert "internal error: ZeroDivisionError: by zero" in only_line(outcome)


# --- packages that are not installed ---------------------------------------------------------------------------------


def without_torch(place: Place) -> list[object]:
    return place.build(place.model)


def arrays(place: Place) -> Path:
    np.savez(place.tmp / "arrays.npz", images=np.stack([picture(kind, i) for kind in CLASSES for i in range(22)]))
    return place.tmp / "arrays.npz"


@pytest.mark.parametrize(
    ("hidden", "arguments", "extra"),
    [
        ("torch", without_torch, "build"),
        ("onnx", without_torch, "build"),
        ("safetensors", without_torch, "build"),
        ("torch", lambda p: ["compare", p.model, "--data", p.data], "build"),
        ("cv2", lambda p: ["run", p.bundle, "test://"], "cpu"),
        ("cv2", without_torch, "cpu"),
        ("cv2", lambda p: ["build", p.model, "--data", arrays(p), "-o", p.tmp / "out.edgevit"], "cpu"),
        ("openvino", lambda p: ["run", p.bundle, "test://", "--engine", "openvino"], "cpu"),
        ("onnxruntime", lambda p: ["run", p.bundle, "test://", "--engine", "onnxruntime"], "cpu"),
        ("onnxruntime", lambda p: ["compare", p.bundle, "--data", p.data, "--engines", "onnxruntime"], "cpu"),
        ("sklearn", lambda p: ["demo", "-o", p.tmp / "demo"], "demo"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_missing_package(edgevit_process, place: Place, hidden: str, arguments, extra: str) -> None:
    """Which one, and the line that installs it."""
    outcome = edgevit_process(*arguments(place), without=(hidden,))
    line = only_line(outcome)
    assert outcome.code == CHOICES["package"], line
    assert repr(hidden) in line
    assert f"pip install 'edgevit[{extra}]'" in line


# --- unusual input that works ----------------------------------------------------------------------------------------


def test_unicode_and_spaces_everywhere(edgevit, edgevit_process, checkpoint_path: Path, tmp_path: Path) -> None:
    """Model, images, classes, labels, recipe, bundle, video and CSV, as arguments of a real process where one is made."""
    home = tmp_path / "Мои данные 模型"
    home.mkdir()
    names = {"disc": "диск", "square": "四角 形", "stripes": "rayé"}
    data = write_images(home / "bilder ü", 24)
    for old, new in names.items():
        (data / old).rename(data / new)
    model, labels, recipe = home / "модель.safetensors", home / "étiquettes.txt", home / "рецепт.toml"
    shutil.copy(checkpoint_path, model)
    labels.write_text("\n".join(names[kind] for kind in CLASSES), encoding="utf-8")
    recipe.write_text("[calibrate]\nimages = 40\n", encoding="utf-8")
    bundle, video, table = home / "сборка é.edgevit", home / "видео.mp4", home / "表.csv"
    outcome = edgevit_process("build", model, "--data", data, "--labels", labels, "--recipe", recipe, "-o", bundle)
    assert outcome.code == 0, outcome.stderr
    outcome = edgevit_process("run", bundle, data, "--headless", "--limit", 30, "--json", "--save", video)
    assert outcome.code == 0, outcome.stderr
    assert set(outcome.lines[-1]["summary"]["labels"]) <= set(names.values())
    assert video.stat().st_size
    assert edgevit("run", bundle, video, "--headless").code == 0
    assert edgevit("inspect", bundle).code == 0
    outcome = edgevit("compare", bundle, "--data", data, "--runs", 5, "--csv", table)
    assert outcome.code == 0, outcome.stderr
    assert table.read_text(encoding="utf-8").startswith("precision,engine,bytes")
