"""A V4L2 camera: USB, or anything else the kernel shows as /dev/videoN."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgevit.device.cameras import camera_kind
from edgevit.device.jetson import ROOT
from edgevit.errors import SourceError
from edgevit.files.paths import exists
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.stream import Opener, Stream


def camera_opener(device: str, mode: Mode) -> Opener:
    """Connects to ``device``, such as ``/dev/video0``, or ``/dev/v4l/by-id/...``, which survives being plugged in anew."""

    def connect() -> Stream:
        import cv2

        check_device(device)
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        _configure(capture, mode)
        try:
            return Stream(capture, rotate=mode.rotate)
        except SourceError:
            raise SourceError(why_none(device)) from None

    return connect


def why_none(device: str, root: Path = ROOT) -> str:
    """Why ``device`` gives no picture, as far as its driver tells. A sensor that converts its pictures itself does give some."""
    kind = camera_kind(device, root)
    if kind == "sensor":
        return f"{device}: a CSI sensor's own node, whose raw pictures OpenCV cannot read. Use csi://0"
    if kind == "part":
        return f"{device}: no camera, but a part of the board's image processor or codec. Use csi://0 for a CSI camera"
    return f"{device}: opens no camera stream: another program holds it, or it is no capture device. {known_cameras()}"


def _configure(capture: Any, mode: Mode) -> None:
    import cv2

    # First, because sizes and rates depend on it: many USB cameras give 30 JPEGs of 1280x720 a second, but 10 raw pictures.
    # A camera without JPEG keeps its own format.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if mode.size_wh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, mode.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.size_wh[1])
    if mode.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, mode.fps)
    # Of four buffers three hold old pictures.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)


def check_device(device: str) -> None:
    """Raise SourceError if ``device`` is missing or must not be opened."""
    if not exists(Path(device), SourceError):
        msg = f"{device}: no such camera. {known_cameras()}"
        raise SourceError(msg)
    if not os.access(device, os.R_OK | os.W_OK):
        msg = f"{device}: no permission. Add yourself to its group and log in again: sudo usermod -aG video $USER"
        raise SourceError(msg)


def known_cameras() -> str:
    """A sentence that lists the cameras of this machine."""
    found = sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not found:
        return "This machine has no /dev/video*; connect a camera, or try test:// instead."
    return f"Cameras here: {', '.join(map(str, found))}."
