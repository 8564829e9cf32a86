"""What is given in a wrong place is named as what it is, with the next step."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.bundle import MODEL, open_bundle
from edgevit.errors import BundleError, CheckpointError, DataError, SourceError
from edgevit.files.recognition import file_kind, not_there
from edgevit.images.dataset import load_images
from edgevit.model import load_checkpoint
from edgevit.runtime.source import open_source
from tests.support import write_images


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def test_kinds(tmp_path: Path, bundle_path: Path, checkpoint_path: Path) -> None:
    """By content, whatever the name says."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "torch")
    torch.save({"a": torch.zeros(1)}, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "jax.npz", a=np.zeros(1))
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "out" / "checkpoint-9").mkdir(parents=True)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "empty").mkdir()
    expected = {
        bundle_path: "bundle",
        zipped(tmp_path / "b.zip", "x.edgevit/manifest.json"): "bundle",
        bundle_path / MODEL: "onnx",
        file(tmp_path / "renamed.pt", (bundle_path / MODEL).read_bytes()): "onnx",
        checkpoint_path: "checkpoint",
        tmp_path / "torch": "checkpoint",
        tmp_path / "legacy": "checkpoint",
        tmp_path / "hf": "checkpoint",
        tmp_path / "out": "checkpoint",
        tmp_path / "onnx": "onnx",
        write_images(tmp_path / "photos", 1): "images",
        zipped(tmp_path / "photos.zip", "a/1.jpg"): "images",
        tmp_path / "photos" / "disc" / "000.png": "image",
        tmp_path / "jax.npz": "a NumPy archive",
        file(tmp_path / "keras.bin", b"\x89HDF\r\n\x1a\n" + bytes(40)): "an HDF5 file (Keras, TensorFlow)",
        file(tmp_path / "x.tflite", b"\x1c\0\0\0TFL3" + bytes(40)): "a TensorFlow Lite model",
        file(tmp_path / "engine", b"ptrt" + bytes(40)): "a TensorRT engine",
        file(tmp_path / "text", b"hello"): "",
        file(tmp_path / "nothing.onnx", b""): "",
        file(tmp_path / "half.zip", b"PK\x03\x04" + bytes(90)): "",
        tmp_path / "empty": "",
        tmp_path / "gone": "",
    }
    assert {path: file_kind(path) for path in expected} == expected


def test_what_is_no_model(tmp_path: Path, bundle_path: Path) -> None:
    """One line each, with the command that fits."""
    cases = {
        bundle_path: f"this is a bundle, built already: 'edgevit run {bundle_path} 0' runs it",
        write_images(tmp_path / "photos", 1): f"these are images, not a model. .* --data {tmp_path / 'photos'}",
        file(tmp_path / "w.h5", b"\x89HDF\r\n\x1a\n" + bytes(40)): "this is an HDF5 file",
    }
    for path, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)


def test_what_is_no_bundle(tmp_path: Path, bundle_path: Path, checkpoint_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    cases = {
        checkpoint_path: f"this is a checkpoint, not a bundle. Make a bundle of it: edgevit build {checkpoint_path}",
        tmp_path / "w.pt": "this is a checkpoint, not a bundle",
        bundle_path / MODEL: "this is an ONNX model, not a bundle. Make a bundle of it",
        write_images(tmp_path / "photos", 1): "edgevit run BUNDLE",
    }
    for path, message in cases.items():
        with pytest.raises(BundleError, match=message):
            open_bundle(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google/vit-base-patch16-224", "hf download google/vit-base-patch16-224 --local-dir vit-base-patch16-224 "),
        ("timm/vit_small_patch16_224.augreg_in21k", "hf download timm/vit_small_patch16_224.augreg_in21k --local-dir "),
        ("hf-hub:timm/vit_base_patch16_224.mae", "hf download timm/vit_base_patch16_224.mae "),
        ("hf:google/vit-base-patch16-224", "edgevit build vit-base-patch16-224"),
        ("vit_small_patch16_224", "timm.create_model('vit_small_patch16_224', pretrained=True), 'vit_small_patch16_224')"),
        ("deit3_base_patch16_224.fb_in1k", "edgevit build deit3_base_patch16_224"),
        ("timm:vit_small_patch16_224", "timm.create_model('vit_small_patch16_224'"),
        ("out/model.pt", "no such file. Give a .safetensors"),
        ("model.safetensors", "no such file. Give a .safetensors"),
        ("/no/such/folder", "no such file. Give a .safetensors"),
    ],
)
def test_names_of_models_that_are_elsewhere(name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub id or a timm name gets the two commands that fetch and build it, in one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edgevit.model.reading.hub.find_spec", lambda _name: None)  # the package is not installed
    assert expected in not_there(name)
    assert "\n" not in not_there(name)
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bundle", "this is a bundle, not images. Give the images beside it: edgevit run {path} IMAGES"),
        ("checkpoint", "this is a checkpoint, not images. Give the images beside it: edgevit build {path} --data IMAGES"),
        ("onnx", "this is an ONNX model, not images"),
        ("engine", "this is a TensorRT engine, not images"),
    ],
)
def test_what_is_given_for_images(
    given: str, message: str, tmp_path: Path, bundle_path: Path, checkpoint_path: Path, fp32_bundle_path: Path
) -> None:
    """As data, and as the source of a run."""
    engine = file(tmp_path / "engine.mp4", b"ptrt" + bytes(40))
    path = {"bundle": bundle_path, "checkpoint": checkpoint_path, "onnx": fp32_bundle_path / MODEL, "engine": engine}[given]
    with pytest.raises(DataError, match=re.escape(message.format(path=path))):
        load_images(path)
    with pytest.raises(SourceError, match=re.escape(message.format(path=path))):
        open_source(str(path))
