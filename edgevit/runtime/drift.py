"""Whether what a camera sees stays like the images that the model was built with: typicality over the hours of a run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

LEVELS = 100
"""Of typicality that are told apart: a hundredth each."""
MOST = 64
"""Spans that are kept; then each two become one, so that a run may take months."""
FIRST_S = 60.0
"""Length of a span at first."""
RARE = 0.05
"""Of frames like the images of the build, this share is at most as typical as that."""


@dataclass
class Span:
    """Some time of a run."""

    begins: float
    """Seconds since its first frame."""
    counts: list[int] = field(default_factory=lambda: [0] * LEVELS)
    """Frames by typicality, the least first."""

    def add(self, typicality: float) -> None:
        """Count one frame."""
        self.counts[min(LEVELS - 1, int(typicality * LEVELS))] += 1

    def joined(self, other: Span) -> Span:
        """This and the next."""
        return Span(self.begins, [one + two for one, two in zip(self.counts, other.counts, strict=True)])

    @property
    def frames(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    @property
    def median(self) -> float:
        """Of typicality, to a hundredth; 0.5 is expected."""
        middle, seen = self.frames / 2, 0
        for level, count in enumerate(self.counts):
            if count and seen + count >= middle:
                return (level + (middle - seen) / count) / LEVELS
            seen += count
        return 0.5

    @property
    def rare(self) -> float:
        """Share of frames that are at most as typical as `RARE`."""
        return sum(self.counts[: round(RARE * LEVELS)]) / max(1, self.frames)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"frames": self.frames, "median": round(self.median, 3), "rare": round(self.rare, 4)}


class Drift:
    """Typicality of the frames so far, in spans of one length."""

    def __init__(self) -> None:
        self.seconds = FIRST_S
        """Length of a span."""
        self.spans: deque[Span] = deque()
        """The latest last; one without frames is left out."""
        self.all = Span(0.0)
        """The whole run."""
        self._first: float | None = None

    def add(self, typicality: float, at: float) -> None:
        """Count a frame, ``at`` seconds of whatever clock."""
        self._first = at if self._first is None else self._first
        begins = (at - self._first) // self.seconds * self.seconds
        if not self.spans or begins > self.spans[-1].begins:
            self.spans.append(Span(begins))
        for span in (self.spans[-1], self.all):
            span.add(typicality)
        if len(self.spans) > MOST:
            self._widen()

    def to_dict(self, latest: int = MOST) -> dict[str, Any]:
        """JSON-ready: of the whole run, and of its ``latest`` spans, of which each says the hour that it begins at."""
        spans = list(self.spans)[-latest:]
        hours = [{"hour": round(span.begins / 3600, 3), **span.to_dict()} for span in spans]
        return {**self.all.to_dict(), "expected": {"median": 0.5, "rare": RARE}, "hours": hours}

    def line(self) -> str:
        """For people."""
        whole = self.all
        text = f"median {whole.median:.2f} (0.50 at build), {100 * whole.rare:.1f} % as rare as 1 in {1 / RARE:.0f} then"
        if len(self.spans) < 2:
            return text
        first, last, minutes = self.spans[0], self.spans[-1], self.seconds / 60
        return f"{text}; first {minutes:.0f} min {first.median:.2f}, last {minutes:.0f} min {last.median:.2f}"

    def _widen(self) -> None:
        self.seconds *= 2
        spans = deque[Span]()
        for span in self.spans:
            begins = span.begins // self.seconds * self.seconds
            if spans and spans[-1].begins == begins:
                spans[-1] = spans[-1].joined(span)
            else:
                spans.append(Span(begins, span.counts))
        self.spans = spans
