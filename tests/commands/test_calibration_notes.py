"""Warnings about images: each appears for data that has the fault, with its figures, and for no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevit.commands.build_inputs import read_inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.calibration_notes import calibration_notes
from edgevit.errors import DataError
from edgevit.images.dataset import ImageSet, load_images
from edgevit.progress import Progress
from edgevit.recipe import load_recipe
from edgevit.target import load_target
from tests.support import CLASSES, write_images


def folder_of(path: Path, *frames: np.ndarray) -> ImageSet:
    """A folder with one PNG per frame."""
    path.mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        (path / f"{index:03d}.png").write_bytes(cv2.imencode(".png", frame)[1].tobytes())
    return load_images(path)


def noise(levels: int, seed: int, low: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, low + levels, (16, 12, 3), np.uint8)


def flat(*color: int) -> np.ndarray:
    return np.full((16, 12, 3), color, np.uint8)


# --- calibration -------------------------------------------------------------------------------------------------------


def test_good_images_get_no_note(tmp_path: Path) -> None:
    assert calibration_notes(load_images(write_images(tmp_path, 2)), len(CLASSES)) == []


def test_fewer_images_than_classes(tmp_path: Path) -> None:
    images = load_images(write_images(tmp_path, 2))
    assert calibration_notes(images, 6) == []
    (note,) = calibration_notes(images, 1000)
    assert note.startswith("calibration: 6 images for 1,000 classes")
    assert "calibrate.images = 1000" in note


def test_copies_under_other_names(tmp_path: Path) -> None:
    """Three of one image and two of another: three too many."""
    a, b, c = (noise(256, seed) for seed in range(3))
    assert calibration_notes(folder_of(tmp_path / "a", a, b, a, c, a, b), 3) == [
        "calibration: 3 of 6 images are copies of others"
    ]
    assert calibration_notes(folder_of(tmp_path / "b", a, b, b), 3) == ["calibration: 1 of 3 images is a copy of others"]


def test_constant_images(tmp_path: Path) -> None:
    """A color all over counts, though its channels differ; so does one with a little noise; a gradient does not."""
    ramp = np.tile(np.arange(12, dtype=np.uint8)[None, :, None] * 20, (16, 1, 3))
    frames = flat(0, 0, 255), noise(3, 0, low=100), noise(4, 0, low=100), ramp, noise(256, 1)
    assert calibration_notes(folder_of(tmp_path, *frames), 5) == [
        "calibration: 2 of 5 images are constant, of one color all over"
    ]


def test_floats_stored_as_integers(tmp_path: Path) -> None:
    """Images of 0 to 1 truncated to uint8: no picture is left, and every one of them is constant."""
    path = tmp_path / "a.npz"
    np.savez(path, images=np.random.default_rng(0).random((5, 8, 8, 3)).round().astype(np.uint8))
    constant, levels = calibration_notes(load_images(path), 5)
    assert constant.startswith("calibration: 5 of 5 images are constant")
    assert "2 of 256 levels, from 0 to 1:" in levels
    assert "Scale them to 0 to 255" in levels


@pytest.mark.parametrize(("levels", "noted"), [(31, True), (32, False)])
def test_few_levels(levels: int, noted: bool, tmp_path: Path) -> None:
    """Over the whole set: one image may be dull."""
    images = folder_of(tmp_path, *(noise(levels, seed, low=40) for seed in range(3)))
    notes = calibration_notes(images, 3)
    assert notes == (["calibration: the images use only 31 of 256 levels, from 40 to 70; check how they were stored"] * noted)
    assert calibration_notes(folder_of(tmp_path, *(noise(levels, seed) for seed in range(2)), noise(256, 2)), 3) == []


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    images = load_images(write_images(tmp_path, 2))
    (tmp_path / "disc" / "001.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"001\.png: not a readable image \(12 bytes\)"):
        calibration_notes(images, 3)
    (tmp_path / "disc" / "001.png").unlink()
    with pytest.raises(DataError, match=r"001\.png: cannot read this image"):
        calibration_notes(images, 3)


def test_no_more_images_are_decoded_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.commands.calibration_notes.READ", 3)
    images = folder_of(tmp_path, flat(9, 9, 9), *(noise(256, seed) for seed in range(4)))
    asked: list[int] = []
    monkeypatch.setattr(ImageSet, "frame", lambda self, index: asked.append(index) or noise(256, index))
    assert calibration_notes(images, 5) == []
    assert asked == [0, 1, 2]


def test_build_reads_them_into_its_notes(checkpoint_path: Path, tmp_path: Path) -> None:
    """With INT8 only: nothing is calibrated for FP32."""
    data = folder_of(tmp_path / "data", *(noise(256, 0) for _ in range(4)))
    request = BuildRequest(
        model=checkpoint_path,
        target=load_target("cpu"),
        recipe=load_recipe("default"),
        out=tmp_path / "b.edgevit",
        data=Path(data.source),
    )
    line = "calibration: 3 of 4 images are copies of others"
    assert line in read_inputs(request, Progress()).notes
    assert line not in read_inputs(replace(request, precision="fp32"), Progress()).notes
