"""A video file: as fast as its frames are asked for, or at its own rate like a camera."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import SourceError
from edgevit.files.bounded import open_regular
from edgevit.files.paths import require_utf8
from edgevit.files.recognition import not_images
from edgevit.runtime.frame import Frame, Source

if TYPE_CHECKING:
    import cv2
    from numpy.typing import NDArray

MAX_DAMAGED = 30
"""Consecutive frames that may fail to decode before the video counts as ended."""
MANY_TIMES = 100
"""As many frames as came, missing at a file's end, are no frames."""
USUAL_FPS = 25.0
"""Of a file that states none."""
EVEN = 0.1
"""Of a frame's duration: a rate is even if no time stamp is further from where it should be."""


class Video(Source):
    """A video file. Frames that cannot be decoded are skipped and counted."""

    def __init__(self, path: Path, *, loop: bool = False, paced: bool = False) -> None:
        """Check that ``path`` has a frame; ``paced`` plays it at its own rate. Raises SourceError if it has none."""
        import cv2

        with _opened(path) as capture:
            if not capture.isOpened() or not capture.read()[0]:
                undecoded = f"no video frame that this OpenCV can decode. Try: ffmpeg -i {path} -c:v mjpeg converted.avi"
                msg = f"{path}: {not_images(path) or undecoded}"
                raise SourceError(msg)
            self.fps = capture.get(cv2.CAP_PROP_FPS) or None
        self.description = f"video {path}"
        self.live = paced and self.fps is not None
        self._path = path
        self._loop = loop

    def __iter__(self) -> Iterator[Frame]:
        self.skipped, self.first_skipped = 0, None
        index, start, begun, seconds = 0, time.perf_counter(), 0.0, 0.0
        while True:
            for image, at in self._images():
                if self.live and self.fps:
                    time.sleep(max(0.0, start + index / self.fps - time.perf_counter()))
                seconds = begun + at
                yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name=self._path.name, seconds=seconds)
                index += 1
            begun = seconds + 1 / (self.fps or USUAL_FPS)
            if not self._loop:
                return

    def _images(self) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """One pass over the file: each decodable frame, uint8 [H, W, 3] BGR, and its seconds since the first."""
        import cv2

        times = Times(self.fps)
        with _opened(self._path) as capture:
            missing = MissingFrames(self.fps, capture.get(cv2.CAP_PROP_FRAME_COUNT), exact=_counts_exactly(self._path))
            damaged = 0
            # OpenCV reports a damaged frame and the end alike: only a frame that follows tells them apart.
            while damaged < MAX_DAMAGED:
                ok, image = capture.read()
                if ok:
                    stamp_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
                    self._skip(missing.before(stamp_ms, damaged))
                    damaged = 0
                    yield np.asarray(image, np.uint8), times(stamp_ms)
                else:
                    damaged += 1
            for frames in missing.at_the_end():
                self._skip(frames)

    def _skip(self, frames: range) -> None:
        if frames:
            self.skip(f"frame {frames[0]}", len(frames))


class Times:
    """The time of each frame from its stamp; where stamps do not rise, as some containers have none, from the rate."""

    def __init__(self, fps: float | None) -> None:
        self._step = 1 / (fps or USUAL_FPS)
        self._first: float | None = None
        self._last = -self._step

    def __call__(self, stamp_ms: float) -> float:
        """Seconds since the first frame."""
        self._first = stamp_ms if self._first is None else self._first
        seconds = (stamp_ms - self._first) / 1000
        self._last = seconds if seconds > self._last else self._last + self._step
        return self._last


class MissingFrames:
    """Counts the frames of a file that never came: FFmpeg passes over what it cannot decode without a word.

    Each frame's time stamp tells its number, so a gap is frames that are missing. A file may also have gaps of its own: no more
    are missing than the container lists and did not come. Where a container lists no frames one by one, as Matroska or MPEG-TS,
    gaps count at the end, and only if all other frames kept an even rate. What a decoder conceals, as H.264's does, came.
    """

    def __init__(self, fps: float | None, listed: float, *, exact: bool) -> None:
        """Of a file of ``fps`` that lists so many frames, 0 if none; ``exact`` if it lists them one by one."""
        self._fps, self._listed, self._exact = fps, round(listed) if listed > 0 else 0, exact
        self._first: float | None = None
        self._came = self._next = self._missing = 0
        self._even, self._doubtful = True, list[range]()

    def before(self, stamp_ms: float, damaged: int) -> range:
        """The frames known to be missing before the one of ``stamp_ms``: the ``damaged`` that were seen to fail, or more."""
        place = float(self._next + damaged)
        if self._fps:
            self._first = stamp_ms if self._first is None else self._first
            place = (stamp_ms - self._first) * self._fps / 1000
        self._even = self._even and abs(place - round(place)) < EVEN
        number = max(self._next + damaged, round(place))
        if self._listed and self._came + self._missing + 1 + number - self._next > self._listed + (not self._exact):
            number = self._next + damaged  # the gap is the file's own
        gap = range(self._next, number)
        self._came, self._missing, self._next = self._came + 1, self._missing + len(gap), number + 1
        if self._exact or damaged:
            return gap
        self._doubtful.append(gap)
        return range(0)

    def at_the_end(self) -> list[range]:
        """Those of which only the end tells; with those that the container lists behind the last one that came."""
        left = self._listed - self._came - self._missing
        # A recorder that crashed leaves a number that stands for none.
        if self._exact and 0 < left < MANY_TIMES * self._came:
            return [range(self._next, self._next + left)]
        return self._doubtful if self._even else []


def _counts_exactly(path: Path) -> bool:
    """Whether the container lists its frames, one by one at an even rate: AVI. MP4 also lists what is not to be shown."""
    with open_regular(path) as file:
        return re.match(rb"RIFF.{4}AVI ", file.read(12), re.DOTALL) is not None


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    import cv2

    # FFmpeg prints a line per damaged macroblock, thousands in one bad file. OpenCV reads this variable once.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    require_utf8(path, SourceError)
    capture = cv2.VideoCapture(str(path))
    try:
        yield capture
    finally:
        capture.release()
