"""From the predictions of a frame to the label, or the labels, that are acted on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.runtime.classify import Prediction
from edgevit.runtime.loop import Result
from edgevit.runtime.smoothing import Smoothing
from edgevit.runtime.threshold import Thresholds
from edgevit.runtime.unknown import Rarity, Watch

if TYPE_CHECKING:
    from edgevit.known.known import Known

UNKNOWN = "unknown"
"""Of a class whose confidence is below the threshold."""
NONE = "none"
"""Of a frame in which a multi-label model sees none of its labels."""
CLASSES = 100
"""Predictions of a frame that smoothing looks at. One that is left out has a softmax below 1 %."""
ALL = 1 << 31
"""Predictions of a frame that a multi-label model wants: any of its labels may pass the threshold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision(Result):
    """A result and what to make of it: the threshold and the last few frames considered."""

    best: Prediction
    """What to act on; of several labels the likeliest. Where no confidence is above its threshold the index is -1 and the label
    ``unknown``, in a multi-label model ``none``. In an event of a multi-label model: the label that it is about."""
    labels: tuple[Prediction, ...]
    """All that is there, likeliest first: every label above its threshold, and of a single-label model the likeliest class if
    it is. Not cut to ``top_k``."""
    raw: tuple[Prediction, ...]
    """This frame's own predictions, likeliest first; ``predictions`` are the smoothed ones."""
    every: tuple[Prediction, ...] = ()
    """Of a multi-label model, all of its labels, smoothed, likeliest first."""
    multi_label: bool = False
    """Whether labels are independent of one another, and so confidences need not sum to 1."""
    rarity: Rarity | None = None
    """How usual the frame is; None of a bundle that does not tell."""
    event: Literal["on", "off"] | None = None
    """In an event of a multi-label model: whether ``best`` came or went."""

    @property
    def smoothed(self) -> bool:
        """Whether ``predictions`` are other than ``raw``."""
        return self.raw is not self.predictions

    def __repr__(self) -> str:
        there = ", ".join(f"{each.label} {each.confidence:.3f}" for each in self.labels) or self.best.label
        return f"Decision({there}, frame {self.frame.index} of {self.frame.name!r}, {self.latency_ms:.1f} ms)"


class Decider:
    """Turns results into decisions, in order.

    Smoothing starts anew where the frames do: at another video or image, and when a source begins again.
    """

    def __init__(
        self,
        *,
        smoothing: Smoothing | None = None,
        threshold: float | Thresholds = 0.0,
        top_k: int = 5,
        problem_type: str = SINGLE_LABEL,
        known: Known | None = None,
        unknown: float | None = None,
    ) -> None:
        """Keep ``top_k`` predictions a frame; ``threshold`` is a confidence from 0 to 1, or one for each label.

        With ``known`` decisions tell how usual their frames are, and what is at most as usual as ``unknown`` has that label.
        """
        self._smoothing, self._top_k = smoothing, top_k
        self._thresholds = threshold if isinstance(threshold, Thresholds) else Thresholds(all=threshold)
        self._multi_label = problem_type == MULTI_LABEL
        self._watch = None if known is None else Watch(known, unknown, frames=smoothing.frames if smoothing else 1)
        self._last: tuple[str, int] | None = None

    @property
    def wanted(self) -> int:
        """How many predictions a result should come with."""
        if self._multi_label:
            return ALL
        return self._top_k if self._smoothing is None else max(self._top_k, CLASSES)

    def __call__(self, result: Result) -> Decision:
        """Decide one result."""
        self._begin(result)
        predictions = result.predictions if self._smoothing is None else self._smoothing.add(result.predictions)
        rarity = self._rarity(result)
        unknown = rarity is not None and rarity.unknown
        candidates = () if unknown else predictions if self._multi_label else predictions[:1]
        labels = tuple(each for each in candidates if self._thresholds.passed_by(each))
        name = NONE if self._multi_label and not unknown else UNKNOWN
        nothing = Prediction(label=name, index=-1, confidence=predictions[0].confidence)
        raw = result.predictions[: self._top_k]
        own = {field.name: getattr(result, field.name) for field in fields(Result)}
        own["predictions"] = raw if self._smoothing is None else predictions[: self._top_k]
        return Decision(
            **own,
            best=labels[0] if labels else nothing,
            labels=labels,
            raw=raw,
            every=predictions if self._multi_label else (),
            multi_label=self._multi_label,
            rarity=rarity,
        )

    def _begin(self, result: Result) -> None:
        """Forget the frames before, where a source begins."""
        name, index = result.frame.name, result.frame.index
        if self._last is not None and (name != self._last[0] or index <= self._last[1]):
            for part in (self._smoothing, self._watch):
                if part is not None:
                    part.reset()
        self._last = (name, index)

    def _rarity(self, result: Result) -> Rarity | None:
        if self._watch is None or result.features is None:
            return None
        return self._watch(result.features, result.predictions[0].index)
