"""A synthetic moving picture, for trying a model where there is no camera."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import SourceError
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.redact import redacted

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORM = re.compile(r"test://(?:(\d+)x(\d+))?(?:@(\d+(?:\.\d+)?))?(?:\?frames=(\d+))?")
MAX_SIDE = 8192


class Pattern(Source):
    """``test://[WIDTHxHEIGHT][@FPS][?frames=N]``. The same frames every time; live, like a camera, if FPS is given."""

    def __init__(self, uri: str) -> None:
        """Parse ``uri``. Raises SourceError for another form or an impossible number."""
        match = FORM.fullmatch(uri)
        if match is None:
            msg = f"{redacted(uri)}: not a test pattern. Write test://[WIDTHxHEIGHT][@FPS][?frames=N], such as test://640x480@30"
            raise SourceError(msg)
        width, height, fps, frames = match.groups()
        self._width, self._height = int(width or 640), int(height or 480)
        self._frames = int(frames) if frames else None
        self.fps = float(fps) if fps else None
        if min(self._width, self._height) < 1 or max(self._width, self._height) > MAX_SIDE:
            msg = f"{uri}: width and height must be from 1 to {MAX_SIDE} pixels"
            raise SourceError(msg)
        if self._frames == 0 or (self.fps is not None and not 1 <= self.fps <= 1000):
            msg = f"{uri}: frames must be at least 1 and FPS from 1 to 1000"
            raise SourceError(msg)
        self.live = self.fps is not None
        self.timeless = not self.live
        self.description = f"test pattern {self._width}x{self._height}" + (f" at {self.fps:g} fps" if self.fps else "")

    def __iter__(self) -> Iterator[Frame]:
        background = _background(self._width, self._height)
        start = time.perf_counter()
        for index in itertools.count() if self._frames is None else range(self._frames):
            image = _moved(background, index)
            if self.fps:
                time.sleep(max(0.0, start + index / self.fps - time.perf_counter()))
            yield Frame(image_bgr=image, captured=time.perf_counter(), index=index, name="test")


def _background(width: int, height: int) -> NDArray[np.uint8]:
    """Colour gradients, uint8 [H, W, 3]."""
    across = np.linspace(0, 255, width, dtype=np.uint8)[None, :]
    down = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return np.stack(np.broadcast_arrays(across, down, 255 - across), axis=-1)


def _moved(background: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    """The background scrolled by ``index`` steps of 4 pixels, under a disc that circles the centre."""
    import cv2

    image = np.roll(background, 4 * index, axis=1)
    height, width = image.shape[:2]
    angle, radius = index / 15, min(height, width) // 4
    centre = (round(width / 2 + radius * np.cos(angle)), round(height / 2 + radius * np.sin(angle)))
    cv2.circle(image, centre, max(1, radius // 2), (40, 220, 250), thickness=-1, lineType=cv2.LINE_AA)
    return image
