"""Where results go: a window, a video, lines of JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from edgevit.errors import ConfigError, StorageError, storage_errors
from edgevit.runtime.latency import Rate
from edgevit.runtime.loop import Result
from edgevit.runtime.overlay import draw

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""The video suffixes that every OpenCV build with FFmpeg writes."""
WINDOW = "edgevit"
QUIT_KEYS = (ord("q"), ord("Q"), 27)


class Sink(Protocol):
    """Takes every result, in order. Close it with `contextlib.closing`."""

    def __call__(self, result: Result) -> bool:
        """Take one result; False asks to end the run."""
        ...

    def close(self) -> None:
        """Finish what was begun. Closing twice is harmless."""
        ...


class Screen(Protocol):
    """Takes every picture, uint8 [H, W, 3] BGR; otherwise as `Sink`."""

    def __call__(self, image_bgr: Image) -> bool:
        """Take one picture; False asks to end the run."""
        ...

    def close(self) -> None:
        """Finish what was begun. Closing twice is harmless."""
        ...


class Overlays:
    """The sink that draws each result once and hands the picture to all ``screens``."""

    def __init__(self, screens: Sequence[Screen], *, precision: str) -> None:
        self._screens = screens
        self._precision = precision
        self._rate = Rate()

    def __call__(self, result: Result) -> bool:
        """Draw and show; False once any screen asks to end."""
        self._rate.add(result.finished)
        picture = draw(
            result.frame.image_bgr,
            result.predictions,
            fps=self._rate.per_second,
            precision=self._precision,
            latency_ms=result.latency_ms,
        )
        # A list: the video still gets the picture after which the window was closed.
        return False not in [screen(picture) for screen in self._screens]

    def close(self) -> None:
        """Close the screens."""
        for screen in self._screens:
            screen.close()


class WindowSink:
    """A window on this machine's display. Ask `has_display` first."""

    def __init__(self) -> None:
        """Open the window. Raises ConfigError if the display refuses."""
        import cv2

        try:
            cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            msg = f"cannot open a window: {error.err}. Write a video instead, or run on the machine's own desktop."
            raise ConfigError(msg) from error

    def __call__(self, image_bgr: Image) -> bool:
        """Show one picture; False when the user pressed q or Esc or closed the window."""
        import cv2

        cv2.imshow(WINDOW, image_bgr)
        key = cv2.waitKey(1) & 0xFF
        return key not in QUIT_KEYS and cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close every window of OpenCV."""
        import cv2

        cv2.destroyAllWindows()


def has_display() -> bool:
    """Whether this machine has a desktop and this OpenCV can draw on it; headless wheels cannot."""
    import cv2

    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(desktop) and not re.search(r"GUI:\s+NONE", cv2.getBuildInformation())


class VideoSink:
    """An .mp4 or .avi file. It takes its name when it is closed: until then it is a hidden file beside it.

    The first picture decides the size; later ones are resized to it.
    """

    def __init__(self, path: Path, fps: float) -> None:
        """Check the name. Raises ConfigError for another suffix, StorageError if the folder is missing."""
        if path.suffix.lower() not in CODECS:
            msg = f"{path}: cannot write {path.suffix or 'this'} videos. Use one of: {', '.join(CODECS)}"
            raise ConfigError(msg)
        if not path.parent.is_dir():
            msg = f"{path}: the folder {path.parent} does not exist. Make it first: mkdir -p {path.parent}"
            raise StorageError(msg)
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __call__(self, image_bgr: Image) -> bool:
        """Append one picture. Raises StorageError if the video cannot be begun."""
        import cv2

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
        with storage_errors(self._path):
            self._partial.replace(self._path)

    def _opened(self, size_wh: tuple[int, int]) -> cv2.VideoWriter:
        import cv2

        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._fps, size_wh)
        if not writer.isOpened():
            msg = f"{self._path}: cannot begin this video. Is the folder writable? This OpenCV may lack the encoder: "
            raise StorageError(msg + f"the suffixes that usually work are {', '.join(CODECS)}")
        return writer


class JsonLines:
    """One JSON object per result, on a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start: float | None = None

    def __call__(self, result: Result) -> bool:
        """Write one line, at once: whoever reads it may act on it."""
        frame, best = result.frame, result.predictions[0]
        self._start = frame.captured if self._start is None else self._start
        record = {
            "frame": frame.index,
            "name": frame.name,
            "seconds": round(frame.captured - self._start, 6),
            "label": best.label,
            "confidence": round(best.confidence, 6),
            "top_k": [{"label": each.label, "confidence": round(each.confidence, 6)} for each in result.predictions],
            "read_ms": round(result.read_ms, 3),
            "prepare_ms": round(result.prepare_ms, 3),
            "infer_ms": round(result.infer_ms, 3),
            "latency_ms": round(result.latency_ms, 3),
        }
        print(json.dumps(record), file=self._stream, flush=True)
        return True

    def close(self) -> None:
        """Leave the stream to whoever opened it."""
