"""Frames prepared as torchvision, timm and transformers prepare them: the same sizes, the same crops, the same padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.preprocess import Preprocessing, prepare

timm_data = pytest.importorskip("timm.data")
transformers = pytest.importorskip("transformers")
torchvision = pytest.importorskip("torchvision.transforms")
Image = pytest.importorskip("PIL.Image")

SHAPES = [
    (53, 37), (64, 47), (40, 71), (61, 61), (99, 38), (36, 36), (36, 45), (37, 36), (120, 50), (50, 120), (73, 36), (36, 74),
    (480, 640), (375, 500), (500, 333), (333, 500), (427, 640), (240, 1001), (1001, 240), (31, 200), (20, 20), (9, 300),
]  # fmt: skip
CLOSE = 1.0  # mean levels: resampling differs by less on what has no detail, a shift by one pixel makes more


def smooth(height: int, width: int) -> np.ndarray:
    """A slope in each channel, uint8 RGB: what is one pixel beside differs by a level or more."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / max(1, height - 1), 255 * x / max(1, width - 1), (x + y) % 256], axis=2).astype(np.uint8)


def compare(contract: Preprocessing, transform: Any, shape: tuple[int, int]) -> None:
    """``transform`` takes a PIL image and gives RGB [H, W, 3]; the slopes of `smooth` lie where it puts them."""
    picture = smooth(*shape)
    wanted = np.asarray(transform(Image.fromarray(picture)), float)
    found = prepare(np.ascontiguousarray(picture[..., ::-1]), contract)[..., ::-1].astype(float)
    assert found.shape == wanted.shape
    black = wanted.sum(2) == 0
    assert np.array_equal(black.all(0), (found.sum(2) == 0).all(0))
    assert np.array_equal(black.all(1), (found.sum(2) == 0).all(1))
    assert np.abs(found - wanted)[..., :2].mean() < CLOSE


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("resize", [36, 35, 33, 32, 28])
def test_torchvision(resize: int, shape: tuple[int, int]) -> None:
    """Resize of one number and CenterCrop, which pads what is smaller."""
    transform = torchvision.Compose([torchvision.Resize(resize), torchvision.CenterCrop(32)])
    contract = Preprocessing(size=(32, 32), resize=(resize, resize), mode="shortest", rounding="torchvision")
    compare(contract, transform, shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize(("size", "share"), [((32, 32), 0.875), ((32, 32), 0.9), ((32, 32), 1.0), ((32, 48), 0.9)], ids=str)
def test_timm(size: tuple[int, int], share: float, mode: str, shape: tuple[int, int]) -> None:
    transform = timm_data.create_transform(
        input_size=(3, *size), crop_pct=share, crop_mode=mode, interpolation="bilinear", normalize=False, mean=(0.0,) * 3
    )
    box = (int(size[0] / share), int(size[1] / share))
    contract = Preprocessing(
        size=size, resize=box, mode={"center": "shortest", "squash": "squash", "border": "letterbox"}[mode],
        rounding="torchvision", mean=(0.0,) * 3, std=(1.0,) * 3,
    )  # fmt: skip
    compare(contract, lambda image: transform(image).permute(1, 2, 0).numpy(), shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("resize", [36, 35, 33, 32, 28])
def test_transformers(resize: int, shape: tuple[int, int]) -> None:
    """BitImageProcessor, which DINOv2 and CLIP have."""
    processor = transformers.BitImageProcessor(
        size={"shortest_edge": resize}, crop_size={"height": 32, "width": 32}, resample=2, do_rescale=False, do_normalize=False
    )
    contract = Preprocessing(size=(32, 32), resize=(resize, resize), mode="shortest", rounding="transformers")
    compare(contract, lambda image: np.moveaxis(np.asarray(processor(image)["pixel_values"][0]), 0, 2), shape)
