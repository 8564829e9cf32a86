"""One picture of a run as a file: whole or not there, in nobody's place, while the disk has room."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import DataError, StorageError
from edgevit.files.writing import write_new
from edgevit.runtime.sinks.disk import require_space

if TYPE_CHECKING:
    from edgevit.runtime.frame import Image

QUALITY = 95
"""Of JPEG, 0 to 100."""


def make_folder(folder: Path) -> None:
    """Make ``folder``, with those that it lies in. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: cannot make this folder: {error.strerror}. Choose another place"
        raise StorageError(msg) from error


def encoded(image_bgr: Image, suffix: str) -> bytes:
    """A picture uint8 [H, W, 3] BGR as a file of ``suffix``, ``.jpg`` or ``.png``. Raises DataError if OpenCV cannot do it."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if suffix == ".jpg" else []
    try:
        ok, content = cv2.imencode(suffix, image_bgr, options)
    except cv2.error:  # no such encoder, or more pixels a side than the format has
        ok, content = False, None
    if not ok or content is None:
        height, width = image_bgr.shape[:2]
        msg = f"this OpenCV cannot write {width}x{height} pixels as {suffix.removeprefix('.').upper()}"
        raise DataError(msg)
    return bytes(content.tobytes())


def write_picture(path: Path, content: bytes) -> Path:
    """Write an `encoded` picture; where it lies: a name that is taken gets ``~2`` and so on.

    Raises StorageError if the disk is full or has less than its reserve.
    """
    require_space(path)
    again = 1
    while not write_new(path, content):  # of the same moment, by another run
        again += 1
        path = path.with_stem(f"{path.stem.partition('~')[0]}~{again}")
    return path


def stamp(when: datetime) -> str:
    """Such as ``20260102T030405.678Z``: sorts by time, and every file system takes it."""
    return f"{when.strftime('%Y%m%dT%H%M%S.%f')[:-3]}Z"


def in_a_name(label: str) -> str:
    """``label`` as a part of a file's name on every file system, of 40 characters at most."""
    return re.sub(r"[^\w.-]+", "_", label).strip("._")[:40] or "label"
