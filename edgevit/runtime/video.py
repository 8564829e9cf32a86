"""A video file: as fast as its frames are asked for, or at its own rate like a camera."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import SourceError
from edgevit.runtime.frame import Frame, Source

if TYPE_CHECKING:
    import cv2
    from numpy.typing import NDArray

MAX_DAMAGED = 30
"""Consecutive frames that may fail to decode before the video counts as ended."""


class Video(Source):
    """A video file. Frames that cannot be decoded are skipped and counted."""

    def __init__(self, path: Path, *, loop: bool = False, paced: bool = False) -> None:
        """Check that ``path`` has a frame; ``paced`` plays it at its own rate. Raises SourceError if it has none."""
        import cv2

        with _opened(path) as capture:
            if not capture.isOpened() or not capture.read()[0]:
                msg = f"{path}: no video frame that this OpenCV can decode. Try: ffmpeg -i {path} -c:v mjpeg converted.avi"
                raise SourceError(msg)
            self.fps = capture.get(cv2.CAP_PROP_FPS) or None
        self.description = f"video {path}"
        self.live = paced and self.fps is not None
        self._path = path
        self._loop = loop

    def __iter__(self) -> Iterator[Frame]:
        self.skipped, self.first_skipped = 0, None
        index, start = 0, time.perf_counter()
        while True:
            for image in self._images():
                if self.live and self.fps:
                    time.sleep(max(0.0, start + index / self.fps - time.perf_counter()))
                yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name=self._path.name)
                index += 1
            if not self._loop:
                return

    def _images(self) -> Iterator[NDArray[np.uint8]]:
        """One pass over the file: each decodable frame, uint8 [H, W, 3] BGR."""
        with _opened(self._path) as capture:
            position = damaged = 0
            # OpenCV reports a damaged frame and the end alike: only a frame that follows tells them apart.
            while damaged < MAX_DAMAGED:
                ok, image = capture.read()
                if ok:
                    for bad in range(position - damaged, position):
                        self.skip(f"frame {bad}")
                    damaged = 0
                    yield np.asarray(image, np.uint8)
                else:
                    damaged += 1
                position += 1


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    import cv2

    # FFmpeg prints a line per damaged macroblock, thousands in one bad file. OpenCV reads this variable once.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    capture = cv2.VideoCapture(str(path))
    try:
        yield capture
    finally:
        capture.release()
