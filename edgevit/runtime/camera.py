"""A V4L2 camera: USB, or anything else the kernel shows as /dev/videoN."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgevit.errors import SourceError
from edgevit.runtime.frame import Frame, Source

CLOSE_SECONDS = 2.0
"""How long `close` waits for a read under way. A camera that was unplugged can block one for ten."""


class Camera(Source):
    """One camera, opened at once. Its frames may be read on another thread than the one that closes it."""

    live = True

    def __init__(self, device: str) -> None:
        """Open ``device``, such as ``/dev/video0``. Raises SourceError if it gives no frame."""
        import cv2

        if not Path(device).exists():
            msg = f"{device}: no such camera. {known_cameras()}"
            raise SourceError(msg)
        if not os.access(device, os.R_OK | os.W_OK):
            msg = f"{device}: no permission. Add yourself to its group and log in again: sudo usermod -aG video $USER"
            raise SourceError(msg)
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not self._capture.read()[0]:
            self._capture.release()
            msg = f"{device}: opens no camera stream: another program holds it, or it is no capture device. {known_cameras()}"
            raise SourceError(msg)
        self.description = f"camera {device}"
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or None
        self._device = device
        self._reading = threading.Lock()
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            with self._reading:
                if self._closed:
                    return
                ok, image = self._capture.read()
            captured = time.perf_counter()
            if not ok:
                msg = f"{self._device}: the camera stopped after {index} frames. Check its cable and power, then run again."
                raise SourceError(msg)
            yield Frame(image_bgr=np.asarray(image, np.uint8), captured=captured, index=index, name=self._device)
            index += 1

    def close(self) -> None:
        """Release the camera. Returns within `CLOSE_SECONDS` even if a read hangs."""
        self._closed = True
        # Releasing under a read crashes OpenCV; a read that hangs keeps the device until the process ends.
        if self._reading.acquire(timeout=CLOSE_SECONDS):
            self._capture.release()
            self._reading.release()


def known_cameras() -> str:
    """A sentence that lists the cameras of this machine."""
    found = sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not found:
        return "This machine has no /dev/video*; connect a camera, or try test:// instead."
    return f"Cameras here: {', '.join(map(str, found))}."
