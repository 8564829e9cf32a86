"""Sizes from headers, against what Pillow wrote; and whether the end of a file is there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.images.header import read_header
from edgevit.images.reading import problem_of

WIDTH, HEIGHT = 53, 37
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def exif(length: int) -> Any:
    data = Image.Exif()
    data[271] = "x" * length
    return data


KINDS = [
    ("JPEG", "jpg", "RGB", {}), ("JPEG", "jpg", "L", {"progressive": True}), ("JPEG", "jpg", "CMYK", {}),
    ("JPEG", "jpg", "RGB", {"exif": exif(60_000)}), ("JPEG", "jpg", "RGB", {"comment": b"\xff\xd9" * 100}),
    ("PNG", "png", "RGBA", {}), ("PNG", "png", "1", {}), ("PNG", "png", "P", {}), ("PNG", "png", "I;16", {}),
    ("BMP", "bmp", "RGB", {}), ("BMP", "bmp", "1", {}), ("BMP", "bmp", "P", {}),
    ("TIFF", "tif", "RGB", {}), ("TIFF", "tif", "L", {"compression": "tiff_lzw"}), ("TIFF", "tif", "RGB", {"big_tiff": True}),
    ("TIFF", "tif", "CMYK", {}), ("TIFF", "tif", "RGB", {"compression": "jpeg"}),
    ("WebP", "webp", "RGB", {}), ("WebP", "webp", "RGB", {"lossless": True}), ("WebP", "webp", "RGBA", {"exif": exif(10)}),
    ("PNM", "ppm", "RGB", {}), ("PNM", "pgm", "L", {}), ("PNM", "pbm", "1", {}),
]  # fmt: skip
CASES = pytest.mark.parametrize(
    ("kind", "suffix", "mode", "options"), KINDS, ids=[f"{k}-{m}-{i}" for i, (k, _, m, _) in enumerate(KINDS)]
)


def written(path: Path, mode: str, options: dict[str, Any]) -> Path:
    image = PICTURE.convert("L").convert(mode) if mode == "I;16" else PICTURE.convert(mode)
    image.save(path, **options)
    return path


@CASES
def test_kind_size_and_end(kind: str, suffix: str, mode: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / f"a.{suffix}", mode, options)
    with path.open("rb") as stream:
        header = read_header(stream)
    assert header is not None
    assert (header.kind, header.width, header.height, header.complete) == (kind, WIDTH, HEIGHT, True)
    assert problem_of(path) is None


@CASES
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_half_a_file_is_no_image(
    kind: str, suffix: str, mode: str, options: dict[str, Any], share: float, tmp_path: Path
) -> None:  # fmt: skip
    path = written(tmp_path / f"a.{suffix}", mode, options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert problem_of(path) is not None


@pytest.mark.parametrize(("suffix", "kind"), [("gif", "GIF"), ("jp2", "JPEG 2000"), ("avif", "AVIF")])
def test_other_kinds_under_the_name_of_one(suffix: str, kind: str, tmp_path: Path) -> None:
    """A decoder may read them, so their size counts, too."""
    data = io.BytesIO()
    PICTURE.save(data, suffix if suffix != "jp2" else "JPEG2000")
    (tmp_path / "a.jpg").write_bytes(data.getvalue())
    with (tmp_path / "a.jpg").open("rb") as stream:
        header = read_header(stream)
    assert header is not None
    assert (header.kind, header.width, header.height) == (kind, WIDTH, HEIGHT)


def test_text_behind_the_end_is_no_damage(tmp_path: Path) -> None:
    """Some cameras and programs leave things there; Pillow reads such files."""
    for suffix in ("jpg", "png"):
        path = written(tmp_path / f"a.{suffix}", "RGB", {})
        path.write_bytes(path.read_bytes() + bytes(100_000))
        assert problem_of(path) is None


def test_netpbm_comments(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5\n# made by hand\n  53\n# x\n37 255\n" + bytes(53 * 37))
    assert problem_of(tmp_path / "a.pgm") is None
    with (tmp_path / "a.pgm").open("rb") as stream:
        header = read_header(stream)
    assert header is not None
    assert (header.width, header.height) == (53, 37)


def test_noise_raises_nothing(tmp_path: Path) -> None:
    """Flipped bytes in the first hundred, of every kind."""
    random = np.random.default_rng(0)
    for kind, suffix, mode, options in KINDS:
        content = written(tmp_path / f"{kind}.{suffix}", mode, options).read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for at in random.integers(0, 100, 3):
                damaged[at] = random.integers(256)
            (tmp_path / "a").write_bytes(damaged)
            with (tmp_path / "a").open("rb") as stream:
                read_header(stream)
