"""How long and how often: percentiles and rates of a run that may take days, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

GROWTH = 1.02
"""Each bin of the histogram is 2 % wider than the one below."""
MIN_MS = 0.001
"""Shorter times count as this."""


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Milliseconds that 50, 90 and 99 % of the samples do not exceed."""

    p50: float
    p90: float
    p99: float


class Histogram:
    """Durations in log-spaced bins: each percentile is within 1 % of the sample it stands for.

    A bin reports its geometric middle, at most sqrt(`GROWTH`) from either edge. Times from a microsecond
    to a day need 1270 bins, however many samples they hold.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._bins: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        """Count one duration."""
        self.samples += 1
        self._bins[math.floor(math.log(max(milliseconds, MIN_MS), GROWTH))] += 1

    def percentiles(self) -> Percentiles:
        """The percentiles so far. Raises ValueError before the first sample."""
        return Percentiles(p50=self._percentile(50), p90=self._percentile(90), p99=self._percentile(99))

    def _percentile(self, percent: int) -> float:
        """Milliseconds of the sample at nearest rank: the smallest that ``percent`` % do not exceed."""
        rank, seen = math.ceil(self.samples * percent / 100), 0
        for place, count in sorted(self._bins.items()):
            seen += count
            if seen >= rank:
                return float(GROWTH ** (place + 0.5))
        msg = "no samples yet"
        raise ValueError(msg)


class Rate:
    """Events per second over the latest ``window`` events."""

    def __init__(self, window: int = 32) -> None:
        self._stamps: deque[float] = deque(maxlen=window)

    def add(self, seconds: float) -> None:
        """Note one event at a `time.perf_counter` stamp."""
        self._stamps.append(seconds)

    @property
    def per_second(self) -> float | None:
        """None before there is an interval."""
        return rate(len(self._stamps), self._stamps[-1] - self._stamps[0]) if self._stamps else None


def rate(stamps: int, seconds: float) -> float | None:
    """Events per second of ``stamps`` events that lie ``seconds`` apart, first to last.

    n stamps make n - 1 intervals; None if that is none, or no time passed.
    """
    return (stamps - 1) / seconds if stamps > 1 and seconds > 0 else None
