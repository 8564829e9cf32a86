"""What a run did, built up result by result."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, Protocol

from edgevit.runtime.decide import Decision
from edgevit.runtime.drift import Drift
from edgevit.runtime.faults import Faults
from edgevit.runtime.latency import Histogram, Percentiles, rate
from edgevit.runtime.loop import Result

STAGES = {"read": "read_ms", "prepare": "prepare_ms", "infer": "infer_ms", "capture to label": "latency_ms"}
"""What people read -> the field of `Result`."""
SHOWN_LABELS = 5


class Told(Protocol):
    """What a summary says of where its results come from: of a `Source`, whose attributes these are, or of several."""

    @property
    def description(self) -> str:
        """In a few words."""
        ...

    @property
    def policy(self) -> str:
        """Which frames are classified."""
        ...

    @property
    def skipped(self) -> int:
        """Frames that could not be decoded."""
        ...

    @property
    def first_skipped(self) -> str | None:
        """The first of them."""
        ...

    @property
    def faults(self) -> Faults | None:
        """What went wrong and was recovered from."""
        ...


class Summary:
    """Counts, rate and percentiles of the results so far; memory does not grow with their number."""

    def __init__(self, source: Told) -> None:
        self.frames = 0
        self.dropped = 0
        self.retries = 0
        self.labels: Counter[str] = Counter()
        """On how many frames each label was the likeliest, or of a multi-label model was there."""
        self.drift = Drift()
        """How like the images of the build the frames are, of a bundle that tells."""
        self._source = source
        self._stages = {field: Histogram() for field in STAGES.values()}
        self._first = self._last = 0.0

    def add(self, result: Result) -> None:
        """Count one result, a decision's labels as they were decided."""
        self._first = self._first if self.frames else result.finished
        self._last = result.finished
        self.frames += 1
        self.dropped += result.dropped
        self.retries += result.retries
        decided = (result.labels or (result.best,)) if isinstance(result, Decision) else result.predictions[:1]
        self.labels.update(each.label for each in decided)
        if isinstance(result, Decision) and result.rarity is not None:
            self.drift.add(result.rarity.typicality, result.finished)
        for field, histogram in self._stages.items():
            histogram.add(getattr(result, field))

    def percentiles(self, field: str = "latency_ms") -> Percentiles | None:
        """Of the times in a `Result`'s ``field``; None before the first."""
        histogram = self._stages[field]
        return histogram.percentiles() if histogram.samples else None

    @property
    def seconds(self) -> float:
        """From the first label to the last."""
        return self._last - self._first

    @property
    def fps(self) -> float | None:
        """Labels per second, all that happens between them included; None before there are two."""
        return rate(self.frames, self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready. Percentiles are in milliseconds, and None before the first result."""
        return {
            "source": self._source.description,
            "policy": self._source.policy,
            "frames": self.frames,
            "seconds": self.seconds,
            "fps": self.fps,
            "dropped": self.dropped,
            "skipped": self._source.skipped,
            "first_skipped": self._source.first_skipped,
            "faults": self._source.faults.to_dict() if self._source.faults else None,
            "engine_retries": self.retries,
            **{field: asdict(at) if (at := self.percentiles(field)) else None for field in self._stages},
            "labels": dict(self.labels.most_common()),
            **({"typicality": self.drift.to_dict()} if self.drift.spans else {}),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        if not self.frames:
            return [f"{self._source.description}: no frames"]
        fps = f": {self.fps:.1f} fps" if self.fps else ""
        lines = [f"{self._source.description}: {self.frames} frames in {self.seconds:.1f} s{fps}"]
        if self.dropped:
            lines.append(f"dropped           {self.dropped} frames, overtaken by newer ones")
        if self._source.skipped:
            lines.append(f"skipped           {self._source.skipped} unreadable, first {self._source.first_skipped}")
        if self._source.faults and (faults := self._source.faults.line()):
            lines.append(f"faults            {faults}")
        if self.retries:
            lines.append(f"engine            failed at first on {self.retries} frames")
        for name, field in STAGES.items():
            at = self._stages[field].percentiles()
            lines.append(f"{name:<17} p50 {at.p50:8.2f}   p90 {at.p90:8.2f}   p99 {at.p99:8.2f}   ms")
        if self.drift.spans:
            lines.append(f"typicality        {self.drift.line()}")
        shown = ", ".join(f"{label} {count}" for label, count in self.labels.most_common(SHOWN_LABELS))
        more = len(self.labels) - SHOWN_LABELS
        return [*lines, f"labels            {shown}" + (f", and {more} more" if more > 0 else "")]
