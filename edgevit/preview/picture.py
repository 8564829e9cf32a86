"""The newest picture as JPEG: encoded once for all who watch, and not at all if nobody does."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from edgevit.preview.feed import Feed
from edgevit.runtime.outline import outlined

if TYPE_CHECKING:
    import asyncio

    import numpy as np
    from numpy.typing import NDArray

    from edgevit.runtime.decide import Decision
    from edgevit.runtime.frame import Frame

    Image = NDArray[np.uint8]

FPS = 20.0
"""Pictures a second, at most."""
BUSY = 4
"""Encoding takes at most one part in so many of a processor core."""
MAX_SIDE = 1280
"""Pixels; larger pictures are shrunk for the page."""
QUALITY = 80
SMALL_SIDE = 320
"""Pixels of a picture in the list of cameras."""
SMALL_SECONDS = 0.5
"""A small picture is at least as old before there is another."""
IDLE_SECONDS = 0.05


class Pictures:
    """What viewers wait on. Belongs to the server's event loop."""

    def __init__(self, feed: Feed) -> None:
        self.encoded = 0
        """Pictures encoded so far."""
        self.viewers = 0
        self._feed = feed
        self._jpeg = b""
        self._fresh: asyncio.Event | None = None

    async def produce(self) -> None:
        """Encode while somebody watches, for ever."""
        import asyncio

        self._fresh = asyncio.Event()
        shown = None
        while True:
            newest = self._feed.newest
            if not self.viewers or newest is None or newest is shown:
                # A new viewer gets a picture even if the source has stopped.
                shown = shown if self.viewers else None
                await asyncio.sleep(IDLE_SECONDS)
                continue
            start = time.perf_counter()
            self._jpeg = await asyncio.to_thread(picture_of, newest.frame)
            shown, took = newest, time.perf_counter() - start
            self.encoded += 1
            self._fresh.set()
            self._fresh = asyncio.Event()
            await asyncio.sleep(max(1 / FPS - took, (BUSY - 1) * took))

    async def after(self, number: int) -> tuple[int, bytes]:
        """The newest JPEG and its number, which is above ``number``; waits for it."""
        import asyncio

        while self.encoded <= number or self._fresh is None:
            await (self._fresh.wait() if self._fresh is not None else asyncio.sleep(IDLE_SECONDS))
        return self.encoded, self._jpeg


class SmallPicture:
    """The newest picture, small: made when it is asked for, twice a second at most, and once for all who ask."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._jpeg = b""
        self._shown: Decision | None = None
        self._made = -math.inf

    async def jpeg(self) -> bytes:
        """Empty before the first frame."""
        import asyncio

        newest, now = self._feed.newest, time.monotonic()
        if newest is not None and newest is not self._shown and now - self._made >= SMALL_SECONDS:
            self._shown, self._made = newest, now
            self._jpeg = await asyncio.to_thread(picture_of, newest.frame, SMALL_SIDE)
        return self._jpeg


def picture_of(frame: Frame, side: int = MAX_SIDE) -> bytes:
    """JPEG of a frame's picture, with a line around its region, no larger than ``side``."""
    return encode(outlined(frame), side)


def encode(image_bgr: Image, side: int = MAX_SIDE) -> bytes:
    """JPEG of a picture, uint8 [H, W, 3], no larger than ``side``."""
    import cv2

    height, width = image_bgr.shape[:2]
    factor = side / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image_bgr = cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return bytes(cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
