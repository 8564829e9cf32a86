"""The device's state, sampled once a second while somebody looks, whatever a sample costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

Sample = Callable[[], Mapping[str, float | str | None]]

EVERY_SECONDS = 1.0
LOOKED_SECONDS = 3.0
"""Nobody looks any more once the values were not asked for in so long."""


class TelemetryFeed:
    """The latest sample. Belongs to the server's event loop; ``sample`` runs on a thread beside it."""

    def __init__(self, sample: Sample | None) -> None:
        self._sample = sample
        self._values: dict[str, float | str | None] = {}
        self._asked = -math.inf

    async def measure(self) -> None:
        """Sample while somebody looks, for ever. A sample that fails or hangs leaves the page without values, no more."""
        import asyncio

        while self._sample is not None:
            if time.monotonic() - self._asked < LOOKED_SECONDS:
                try:
                    self._values = {key: _plain(value) for key, value in (await asyncio.to_thread(self._sample)).items()}
                except Exception as error:
                    self._values = {"telemetry": f"not available: {error}"}
                await asyncio.sleep(EVERY_SECONDS)
            else:
                self._values = {}
                await asyncio.sleep(0.1)

    def values(self) -> Mapping[str, float | str | None]:
        """The latest sample; the first to ask gets none yet."""
        self._asked = time.monotonic()
        return self._values


def _plain(value: float | str | None) -> float | str | None:
    """JSON knows no infinities."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
