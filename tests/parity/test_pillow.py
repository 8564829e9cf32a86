"""Pillow images as Pillow itself shows them. Run with: make test-parity."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.images.pictures import frame_of

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_8_bit_mode(mode: str) -> None:
    image = Image.fromarray(PIXELS[..., :3])
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert("RGBA").convert("LA") if mode == "LA" else (
        image if mode == "LAB" else image.convert(mode)
    )  # fmt: skip
    assert (frame_of(image)[..., ::-1] == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("orientation", range(10))
def test_upright_by_exif(orientation: int) -> None:
    image = Image.fromarray(PIXELS[..., :3])
    image.getexif()[0x0112] = orientation
    frame = frame_of(image)
    assert (frame[..., ::-1] == np.asarray(ImageOps.exif_transpose(image))).all()
    assert frame.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_modes_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="more than 8 bits"):
        frame_of(Image.fromarray(PIXELS[..., 0].astype(dtype)))
