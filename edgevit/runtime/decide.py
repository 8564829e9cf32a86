"""From the predictions of a frame to the label that is acted on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edgevit.runtime.classify import Prediction
from edgevit.runtime.loop import Result
from edgevit.runtime.smoothing import Smoothing

UNKNOWN = "unknown"
CLASSES = 100
"""Predictions of a frame that smoothing looks at. One that is left out has a confidence below 1 %."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision(Result):
    """A result and what to make of it: the threshold and the last few frames considered."""

    best: Prediction
    """What to act on. Its label is ``unknown`` and its index -1 where the confidence is below the threshold."""
    raw: tuple[Prediction, ...]
    """This frame's own predictions, likeliest first; ``predictions`` are the smoothed ones."""

    @property
    def smoothed(self) -> bool:
        """Whether ``predictions`` are other than ``raw``."""
        return self.raw is not self.predictions


class Decider:
    """Turns results into decisions, in order.

    Smoothing starts anew where the frames do: at another video or image, and when a source begins again.
    """

    def __init__(self, *, smoothing: Smoothing | None = None, threshold: float = 0.0, top_k: int = 5) -> None:
        """Keep ``top_k`` predictions a frame; ``threshold`` is a confidence from 0 to 1."""
        self._smoothing, self._threshold, self._top_k = smoothing, threshold, top_k
        self._last: tuple[str, int] | None = None

    @property
    def wanted(self) -> int:
        """How many predictions a result should come with."""
        return self._top_k if self._smoothing is None else max(self._top_k, CLASSES)

    def __call__(self, result: Result) -> Decision:
        """Decide one result."""
        predictions = result.predictions if self._smoothing is None else self._smooth(self._smoothing, result)
        best = predictions[0]
        if best.confidence < self._threshold:
            best = Prediction(label=UNKNOWN, index=-1, confidence=best.confidence)
        raw = result.predictions[: self._top_k]
        own = {field.name: getattr(result, field.name) for field in fields(Result)}
        own["predictions"] = raw if self._smoothing is None else predictions[: self._top_k]
        return Decision(**own, best=best, raw=raw)

    def _smooth(self, smoothing: Smoothing, result: Result) -> tuple[Prediction, ...]:
        name, index = result.frame.name, result.frame.index
        if self._last is not None and (name != self._last[0] or index <= self._last[1]):
            smoothing.reset()
        self._last = (name, index)
        return smoothing.add(result.predictions)
