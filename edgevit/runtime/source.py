"""From what a user types to a source of frames."""

from __future__ import annotations

import re
from pathlib import Path

from edgevit.errors import DataError, SourceError, needs_extra
from edgevit.images import SUFFIXES, read_image
from edgevit.runtime.camera import Camera
from edgevit.runtime.frame import Source
from edgevit.runtime.images import Images
from edgevit.runtime.pattern import Pattern
from edgevit.runtime.video import Video


def open_source(uri: str, *, loop: bool = False) -> Source:
    """Open a camera (``0``, ``/dev/video0``), a video, an image, a folder of images or ``test://``.

    Args:
        uri: what to read; see `Pattern` for the form of ``test://``.
        loop: start a file or folder over when it ends.

    Raises:
        SourceError: it is missing, empty, unreadable or of a kind that this release does not read.
    """
    with needs_extra("cpu"):
        import cv2  # noqa: F401 (every source reads through it: say so here, once)

    if uri.isdecimal():
        return Camera(f"/dev/video{int(uri)}")
    if uri.startswith("/dev/"):
        return Camera(uri)
    if uri.startswith("test:"):
        return Pattern(uri)
    if re.match(r"gst:|[a-z][a-z0-9+.-]+://", uri, re.IGNORECASE):
        shown = re.sub(r"//[^/]*@", "//", uri)  # a camera's password is not printed
        msg = f"{shown}: this release reads cameras (0 or /dev/video0), videos, image folders, images and test://, no streams"
        raise SourceError(msg)
    return _open_path(Path(uri).expanduser(), loop=loop)


def _open_path(path: Path, *, loop: bool) -> Source:
    if not path.exists():
        msg = f"{path}: no such file or folder. A camera is a number (0) or /dev/video0."
        raise SourceError(msg)
    if path.is_dir():
        return Images(path, loop=loop)
    if path.suffix.lower() not in SUFFIXES:
        return Video(path, loop=loop)
    try:
        read_image(path)
    except DataError as error:
        msg = f"{path}: this image cannot be decoded. Is the file complete and readable?"
        raise SourceError(msg) from error
    return Images(path, loop=loop)
