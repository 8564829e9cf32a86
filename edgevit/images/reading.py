"""One image file as pixels, or one line that says why not. Memory is bounded by what its header claims."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgevit.errors import DataError, needs_extra
from edgevit.files.bounded import open_regular
from edgevit.images.header import Header, read_header

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

MOST_PIXELS = 1 << 27
"""Of an image: 134 megapixels, beyond any camera, and 400 MB when decoded."""
MOST_SIDE = 1 << 20
"""Pixels of a side, which is OpenCV's own limit."""
MOST_BYTES = 1 << 30
"""Of an image file."""


def read_image(path: Path) -> Frame:
    """One image file as uint8 [H, W, 3] BGR, turned upright by its EXIF tag.

    Raises DataError, naming the file, for what is no image, is cut off, is no regular file, or claims over `MOST_PIXELS`.
    """
    with needs_extra("cpu"):
        import cv2
    return _read(path, lambda _header: cv2.IMREAD_COLOR)


def read_small(path: Path, least: int) -> Frame:
    """The same at a half, a quarter or an eighth of its sides, which is faster, where the longer one keeps ``least`` pixels."""
    with needs_extra("cpu"):
        import cv2
    flags = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

    def flag(header: Header) -> int:
        longer = max(header.width, header.height)
        return next((each for part, each in flags.items() if longer >= part * least), cv2.IMREAD_COLOR)

    return _read(path, flag)


def _read(path: Path, flag: Callable[[Header], int]) -> Frame:
    import cv2
    import numpy as np

    # cv2.imread fails on some non-ASCII names; Python opens them all.
    try:
        with open_regular(path) as stream:
            header = read_header(stream)
            if problem := _claims_too_much(header, stream):
                msg = f"{path}: {problem}. Scale it down, or remove it."
                raise DataError(msg)
            stream.seek(0)
            data = np.frombuffer(stream.read(MOST_BYTES), np.uint8)
    except OSError as error:
        msg = f"{path}: cannot read this image: {error.strerror or error}"
        raise DataError(msg) from error
    frame: Any = None
    if header is not None and not _is_cut_off(header, data.tobytes() if not header.complete else b""):
        try:
            frame = cv2.imdecode(data, flag(header))
        except cv2.error:  # what the decoder finds out only midway
            frame = None
    if frame is None:
        inside = f", {header.kind} inside" if header is not None else ""
        msg = f"{path}: not a readable image ({len(data)} bytes{inside}). Remove or replace it."
        raise DataError(msg)
    return frame


def problem_of(path: Path) -> str | None:
    """Why ``path`` cannot be read, in a few words; None if it can, as far as header and end tell.

    It is decoded only if its end is not where it should be.
    """
    try:
        with open_regular(path) as stream:
            header = read_header(stream)
            if problem := _claims_too_much(header, stream):
                return problem
    except OSError as error:
        return error.strerror or str(error)
    if header is None:
        return "no image"
    if header.complete:
        return None
    try:
        read_image(path)
    except DataError:
        return "cut off or damaged"
    return None


def _claims_too_much(header: Header | None, stream: BinaryIO) -> str | None:
    size = os.fstat(stream.fileno()).st_size
    if size > MOST_BYTES:
        return f"{size:,} bytes, more than {MOST_BYTES:,}"
    if header is None:
        return None
    if header.width * header.height > MOST_PIXELS:
        return f"{header.width}x{header.height} pixels, more than {MOST_PIXELS:,}"
    if max(header.width, header.height) > MOST_SIDE:
        return f"{header.width}x{header.height} pixels, a side of more than {MOST_SIDE:,}"
    return None


def _is_cut_off(header: Header, data: bytes) -> bool:
    """Whether a JPEG ends in the middle of its pixels: older OpenCV fills in gray, where PIL and newer OpenCV refuse.

    One that is padded behind its pixels, though without an end mark, is whole.
    """
    return header.kind == "JPEG" and not header.complete and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") and any(data[-16:])
