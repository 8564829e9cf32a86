"""Which labels of a multi-label model are events: each comes and goes by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from edgevit.runtime.classify import Prediction
from edgevit.runtime.decide import NONE, Decision
from edgevit.runtime.sinks.condition import Condition


class LabelGate:
    """`Gate` for several labels at once. The terms of a condition are about one label, its name and its confidence.

    Where a condition with ``changed`` begins to hold for a label, that is an event ``on``, and where none holds any more, an
    event ``off``; other conditions make an event ``on`` of every frame. In a frame without labels the label is ``none``, for
    conditions that look at such frames. Each label has a clock of its own, and a change that comes too early is told when its
    time has come, if it still stands.
    """

    def __init__(self, conditions: Sequence[Condition], *, every: float) -> None:
        """``every`` is in seconds."""
        self._conditions, self._every = conditions, every
        self._on: set[str] = set()
        """Labels that have been told as on, and not as off since."""
        self._next: dict[str, float] = {}

    def events(self, decision: Decision) -> tuple[Decision, ...]:
        """An event a label, likeliest first, those that are gone last; ``best`` is the label."""
        found, holding = [], set[str]()
        for each in decision.labels or (decision.best,):
            about = _about(decision, each, "on")
            held = [item for item in self._conditions if (item.empty or decision.labels) and item.holds(about)]
            edge, level = any(item.edge for item in held), any(not item.edge for item in held)
            if edge:
                holding.add(each.label)
            if (level or (edge and each.label not in self._on)) and self._due(each.label, decision.finished):
                found.append(about)
                self._on |= {each.label} if edge else set()
        known = {each.label: each for each in decision.every}
        for label in sorted(self._on - holding):
            if self._due(label, decision.finished):
                nothing = Prediction(label=NONE, index=-1, confidence=decision.predictions[0].confidence)
                found.append(_about(decision, known.get(label, nothing), "off"))
                self._on.remove(label)
        return tuple(found)

    def _due(self, label: str, now: float) -> bool:
        """Whether ``label`` may be told at ``now``; it is told, then."""
        due = now >= self._next.get(label, now)
        if due:
            self._next[label] = now + self._every
        return due


def _about(decision: Decision, label: Prediction, event: Literal["on", "off"]) -> Decision:
    return replace(decision, best=label, event=event)
