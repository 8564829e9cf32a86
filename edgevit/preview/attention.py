"""Where the model looks, about once a second while somebody looks at the page."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgevit.preview.feed import Feed
from edgevit.preview.picture import encode
from edgevit.preview.telemetry import LOOKED_SECONDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

Look = Callable[["Image"], "Image"]
"""From a frame, uint8 [H, W, 3] BGR, to a picture of where the model looks in it."""

EVERY_SECONDS = 1.0
BUSY = 8
"""A look that takes long is not repeated at once: it has at most one part in so many of a processor core."""
IDLE_SECONDS = 0.1
LOWEST = 19
"""Of Unix priorities: the thread runs when the loop, its engine and the picture leave a core to it."""


class AttentionFeed:
    """The latest look. Belongs to the server's event loop; ``look`` runs on a thread of the lowest priority beside it."""

    def __init__(self, feed: Feed, look: Look | None) -> None:
        self.jpeg = b""
        """The picture of the latest look; empty before the first."""
        self._feed, self._look = feed, look
        self._latest: dict[str, Any] = {}
        self._captured = 0.0
        self._asked = -math.inf

    async def produce(self) -> None:
        """Look while somebody asks, for ever. A look that fails is told on the page, and tried again."""
        import asyncio

        if self._look is None:
            return
        loop, shown, number = asyncio.get_running_loop(), None, 0
        with ThreadPoolExecutor(1, "attention", initializer=_step_back) as pool:
            while True:
                newest = self._feed.newest
                if newest is None or newest is shown or time.monotonic() - self._asked > LOOKED_SECONDS:
                    await asyncio.sleep(IDLE_SECONDS)
                    continue
                start, cpu = time.perf_counter(), 0.0
                try:
                    self.jpeg, cpu = await loop.run_in_executor(pool, self._picture, newest.frame.seen)
                    number += 1
                    self._latest = {"number": number, "frame": newest.frame.index, "cpu_ms": round(1e3 * cpu, 1)}
                    self._captured = newest.frame.captured
                except Exception as error:
                    self._latest = {"error": str(error) or type(error).__name__}
                shown = newest
                await asyncio.sleep(max(start + max(EVERY_SECONDS, BUSY * cpu) - time.perf_counter(), IDLE_SECONDS))

    def state(self) -> dict[str, Any] | None:
        """JSON-ready: ``number`` of the look, its ``frame`` and ``age`` in seconds, ``cpu_ms``; or ``error``.

        None if nobody asked for looks; empty before the first.
        """
        if self._look is None:
            return None
        self._asked = time.monotonic()
        age = {"age": round(time.perf_counter() - self._captured, 2)} if "number" in self._latest else {}
        return {**self._latest, **age}

    def _picture(self, image_bgr: Image) -> tuple[bytes, float]:
        """JPEG, and the seconds of processor time that it took: others run first, so the clock would tell of them."""
        assert self._look is not None
        start = time.thread_time()
        return encode(self._look(image_bgr)), time.thread_time() - start


def _step_back() -> None:
    # On Linux a thread has a priority of its own.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
