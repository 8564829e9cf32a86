"""A run in counts that only grow, for whoever asks now and then: Prometheus."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from edgevit.runtime.decide import UNKNOWN, Decision

STAGES = {"read": "read_ms", "prepare": "prepare_ms", "infer": "infer_ms"}
"""A stage's name -> the field of `Result`."""
SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0,
    10.0,
)  # fmt: skip
"""Upper bounds of the buckets of times: from a small model on a GPU to a slow stream."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper bounds of the buckets of typicality: rare frames are what is looked for."""
ALL_LABELS = 100
"""A model with at most so many labels has all of them counted from 0 on; of one with more, those that occurred."""


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """A histogram as Prometheus has it."""

    bounds: tuple[float, ...]
    """Inclusive upper bounds; a last bucket without one follows."""
    counts: tuple[int, ...]
    """Cumulative, one more than ``bounds``; the last is all."""
    sum: float


class Filling:
    """Counts what falls into each bucket."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> Buckets:
        """What was counted so far."""
        return Buckets(bounds=self._bounds, counts=tuple(accumulate(self._counts)), sum=self._sum)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A run so far. Times in seconds."""

    frames: int
    dropped: int
    retries: int
    unknown: int
    """Frames that were called unknown, for a low confidence or for their rarity."""
    labels: dict[str, int]
    """On how many frames each label was the likeliest, or of a multi-label model was there; ``unknown`` and ``none`` too."""
    latency: Buckets
    stages: dict[str, Buckets]
    typicality: Buckets | None
    """None of a bundle that does not tell."""
    last: float | None
    """`time.perf_counter` seconds of the newest label; None before the first."""


@dataclass(eq=False)
class Tally:
    """As a sink, counts every decision, within microseconds; `counts` gives a copy, from any thread.

    Its memory grows with the bundle's labels alone.
    """

    names: Sequence[str]
    """The model's labels."""
    rarity: bool = False
    """Whether decisions tell how usual their frames are."""
    started: float = field(default_factory=time.time)
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()  # never held for longer than it takes to copy the counts
        self._frames = self._dropped = self._retries = self._unknown = 0
        self._labels = dict.fromkeys(self.names, 0) if len(self.names) <= ALL_LABELS else {}
        self._latency = Filling(SECONDS)
        self._stages = {name: Filling(SECONDS) for name in STAGES}
        self._typicality = Filling(SHARES) if self.rarity else None
        self._last: float | None = None

    def __call__(self, decision: Decision) -> bool:
        """Count one decision; never asks to end the run."""
        with self._lock:
            self._frames += 1
            self._dropped += decision.dropped
            self._retries += decision.retries
            self._last = decision.finished
            best = decision.best
            self._unknown += best.index < 0 and best.label == UNKNOWN
            for each in decision.labels or (best,):
                self._labels[each.label] = self._labels.get(each.label, 0) + 1
            self._latency.add(decision.latency_ms / 1e3)
            for name, milliseconds in STAGES.items():
                self._stages[name].add(getattr(decision, milliseconds) / 1e3)
            if self._typicality is not None and decision.rarity is not None:
                self._typicality.add(decision.rarity.typicality)
        return True

    def counts(self) -> Counts:
        """The run so far, all of one moment."""
        with self._lock:
            return Counts(
                frames=self._frames,
                dropped=self._dropped,
                retries=self._retries,
                unknown=self._unknown,
                labels=dict(self._labels),
                latency=self._latency.buckets(),
                stages={name: filling.buckets() for name, filling in self._stages.items()},
                typicality=None if self._typicality is None else self._typicality.buckets(),
                last=self._last,
            )

    def close(self) -> None:
        """Nothing to finish."""
