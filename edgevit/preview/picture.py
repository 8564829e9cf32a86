"""The newest picture as JPEG: encoded once for all who watch, and not at all if nobody does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgevit.preview.feed import Feed

if TYPE_CHECKING:
    import asyncio

    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

FPS = 20.0
"""Pictures a second, at most."""
BUSY = 4
"""Encoding takes at most one part in so many of a processor core."""
MAX_SIDE = 1280
"""Pixels; larger pictures are shrunk for the page."""
QUALITY = 80
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
            self._jpeg = await asyncio.to_thread(encode, newest.frame.image_bgr)
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


def encode(image_bgr: Image) -> bytes:
    """JPEG of a picture, uint8 [H, W, 3], no larger than `MAX_SIDE`."""
    import cv2

    height, width = image_bgr.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        image_bgr = cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return bytes(cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
