"""An annotated video."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import ConfigError, StorageError, storage_errors
from edgevit.files.own_kinds import VIDEO, require_kind
from edgevit.files.paths import require_utf8
from edgevit.files.writing import beside, put, require_writable
from edgevit.runtime.sinks.disk import require_space

if TYPE_CHECKING:
    import cv2

    from edgevit.runtime.sinks.base import Image

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""The video suffixes that every OpenCV build with FFmpeg writes."""
CHECK_SECONDS = 2.0
"""How often the disk is looked at: OpenCV does not tell that it is full."""


class VideoSink:
    """An .mp4 or .avi file. It takes its name when it is closed: until then it lies in a hidden folder beside it.

    The first picture decides the size; later ones are resized to it. Before the disk is full the video ends, whole.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Check the name. Raises ConfigError for another suffix or a file that is no video, StorageError for a missing folder."""
        if path.suffix.lower() not in CODECS:
            msg = f"{path}: cannot write {path.suffix or 'this'} videos. Use one of: {', '.join(CODECS)}"
            raise ConfigError(msg)
        require_utf8(path.absolute(), ConfigError)
        require_kind(path, VIDEO)
        require_writable(path, option="--save")
        self._path = path
        self._partial = path
        """Where it lies until then; known with the first picture."""
        self._beside = ExitStack()
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._checked = 0.0

    def __call__(self, image_bgr: Image) -> bool:
        """Append one picture. Raises StorageError if the video cannot be begun, or ended because the disk is full."""
        import cv2

        self._check_space()
        size = (image_bgr.shape[1], image_bgr.shape[0])
        if self._writer is None:
            self._writer, self._size = self._opened(size), size
        same = size == self._size
        self._writer.write(image_bgr if same else cv2.resize(image_bgr, self._size, interpolation=cv2.INTER_AREA))
        return True

    def close(self) -> None:
        """Finish the file and give it its name; without pictures there is none."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with self._beside, storage_errors(self._path, "--save"):
            put(self._partial, self._path)

    def _check_space(self) -> None:
        if (now := time.monotonic()) < self._checked + CHECK_SECONDS:
            return
        self._checked = now
        try:
            if self._path.parent.is_dir():
                require_space(self._path)
        except StorageError:
            self.close()
            raise

    def _opened(self, size_wh: tuple[int, int]) -> cv2.VideoWriter:
        import cv2

        with storage_errors(self._path, "--save"):
            self._partial = self._beside.enter_context(beside(self._path)) / f"video{self._path.suffix}"
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._fps, size_wh)
        if not writer.isOpened():
            self._beside.close()
            msg = f"{self._path}: cannot begin this video. Is the folder writable? This OpenCV may lack the encoder: "
            raise StorageError(msg + f"the suffixes that usually work are {', '.join(CODECS)}")
        return writer
