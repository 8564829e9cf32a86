"""Between the loop, which must not wait, and the server, which shows the newest."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from edgevit.runtime.decide import Decision
from edgevit.runtime.drift import Drift
from edgevit.runtime.latency import Rate
from edgevit.runtime.sinks.record import record

BIN_SECONDS = 0.5
BINS = 120
"""Of the latency chart: one minute."""
RECENT = 512
"""Frames that the percentiles are taken over."""


class Feed:
    """The newest decision, in one slot, and what the page shows of those before."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        """``info`` is JSON-ready and shown as it is: model, source, precision, engine, and ``camera`` if it has a name."""
        self._info = dict(info)
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._newest: Decision | None = None
        self._frames = self._dropped = 0
        self._rate, self._drift = Rate(), Drift()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._history: deque[tuple[float, float, float]] = deque(maxlen=BINS)
        self._bin: list[float] = []
        self._bin_start = 0.0

    def add(self, decision: Decision) -> None:
        """Take one decision: microseconds, whoever watches."""
        with self._lock:
            self._newest = decision
            self._frames += 1
            self._dropped += decision.dropped
            if decision.rarity is not None:
                self._drift.add(decision.rarity.typicality, decision.finished)
            self._rate.add(decision.finished)
            self._recent.append(decision.latency_ms)
            if decision.finished - self._bin_start >= BIN_SECONDS:
                self._end_bin()
                self._bin_start = decision.finished
            self._bin.append(decision.latency_ms)

    def lose(self, error: str) -> None:
        """Say from now on that this camera is gone for good, and why."""
        with self._lock:
            self._lost = error

    @property
    def newest(self) -> Decision | None:
        """None before the first."""
        with self._lock:
            return self._newest

    def row(self) -> dict[str, Any]:
        """JSON-ready: what a list of cameras shows of this one; ``latency_ms`` is the median."""
        now = time.perf_counter()
        with self._lock:
            newest, recent = self._newest, sorted(self._recent)
            row = {
                **{key: self._info.get(key) for key in ("camera", "source")},
                "frames": self._frames,
                "dropped": self._dropped,
                "fps": _rounded(self._rate.per_second, 2),
                "lost": self._lost,
            }
        if newest is None:
            return row
        labels = [each.label for each in newest.labels] if newest.multi_label else []
        return {
            **row,
            "label": ", ".join(labels) or newest.best.label,
            "confidence": round(newest.best.confidence, 6),
            "latency_ms": round(_nearest_rank(recent, 0.5), 2),
            "age": round(now - newest.finished, 2),
        }

    def state(self) -> dict[str, Any]:
        """JSON-ready. ``history`` has seconds ago, median and largest latency in milliseconds, oldest first."""
        now = time.perf_counter()
        with self._lock:
            newest, recent = self._newest, sorted(self._recent)
            history = [(now - at, median, largest) for at, median, largest in self._history]
            drift = {"drift": self._drift.to_dict(latest=2)} if self._drift.spans else {}
            state = {
                **self._info,
                **drift,
                "frames": self._frames,
                "dropped": self._dropped,
                "fps": _rounded(self._rate.per_second, 2),
                **({"lost": self._lost} if self._lost is not None else {}),
            }
        if newest is None:
            return {**state, "history": []}
        latency = {"p50": _nearest_rank(recent, 0.5), "p99": _nearest_rank(recent, 0.99)}
        return {
            **state,
            **record(newest),
            "age": round(now - newest.finished, 2),
            "latency": {key: round(value, 2) for key, value in latency.items()},
            "history": [[round(value, 2) for value in point] for point in history],
        }

    def _end_bin(self) -> None:
        if self._bin:
            self._history.append((self._bin_start, statistics.median(self._bin), max(self._bin)))
            self._bin.clear()


def _nearest_rank(ordered: list[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
