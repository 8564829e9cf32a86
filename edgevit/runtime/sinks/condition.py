"""When something is an event: a small language of conditions, and the gate that also limits their rate."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edgevit.errors import ConfigError, did_you_mean
from edgevit.runtime.decide import NONE, UNKNOWN, Decision
from edgevit.share import PATTERN, meant_by, share_of

CHANGED, ALWAYS = "changed", "always"
FORM = (
    "write terms with commas between them: label=NAME, label!=NAME (NAME may hold * and ?), confidence>0.8 or 80%, margin<0.2, "
    "typicality<5% (also >= and <=), changed, always"
)
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
FIGURES: dict[str, Callable[[Decision], float]] = {
    "confidence": lambda decision: decision.best.confidence,
    "margin": lambda decision: margin(decision),
    "typicality": lambda decision: decision.rarity.typicality if decision.rarity else 1.0,
}
FIGURE = re.compile(rf"({'|'.join(FIGURES)})\s*(>=|<=|>|<)\s*({PATTERN})")
LABEL = re.compile(r"label\s*(!?=)\s*(.+)")

Test = Callable[[Decision], bool]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """All ``tests`` hold; with ``edge`` only when they begin to, or when the label changes while they do."""

    tests: tuple[Test, ...]
    edge: bool
    empty: bool = True
    """Whether it also looks at frames in which a multi-label model sees no label: unless it tells of changes, and names none."""

    def holds(self, decision: Decision) -> bool:
        """Whether every test holds, the edge aside."""
        return all(test(decision) for test in self.tests)


def margin(decision: Decision) -> float:
    """How far the likeliest class is ahead of the next, 0 to 1."""
    first, *rest = decision.predictions
    return first.confidence - (rest[0].confidence if rest else 0.0)


def parse_condition(text: str, labels: Sequence[str], *, multi_label: bool = False) -> Condition:
    """A condition such as ``label=crack,confidence>0.8``, for a model with these labels.

    Raises ConfigError for another form, or a label that the model cannot give.
    """
    terms = [term.strip() for term in text.split(",")]
    if multi_label and any(term.startswith("margin") for term in terms):
        msg = f"{text!r}: margin is between classes of which one holds, and several labels of this model may: ask for confidence"
        raise ConfigError(msg)
    known = (*labels, *((NONE,) if multi_label else ()), UNKNOWN)
    tests = [_parse_term(term, text, known) for term in terms if term not in (CHANGED, ALWAYS)]
    named = any((match := LABEL.fullmatch(term)) and match[1] == "=" and match[2].strip() == NONE for term in terms)
    return Condition(tests=tuple(tests), edge=CHANGED in terms, empty=CHANGED not in terms or named)


class Gate:
    """Says which decisions are events: one of ``conditions`` holds, and the label's last event is long enough ago."""

    def __init__(self, conditions: Sequence[Condition], *, every: float) -> None:
        """``every`` is in seconds; each label has its own clock."""
        self._every = every
        # With the label of each condition's latest event since it began to hold.
        self._states: list[tuple[Condition, str | None]] = [(condition, None) for condition in conditions]
        self._next: dict[str, float] = {}

    def events(self, decision: Decision) -> tuple[Decision, ...]:
        """What this decision, the next in order, is an event of: itself, or nothing."""
        return (decision,) if self(decision) else ()

    def __call__(self, decision: Decision) -> bool:
        """Whether this decision, the next in order, is an event."""
        label, now = decision.best.label, decision.finished
        held = [(condition, told, condition.holds(decision)) for condition, told in self._states]
        event = any(holds and not (condition.edge and told == label) for condition, told, holds in held)
        # An edge that comes too early is not lost: it stays untold until its time has come.
        event = event and now >= self._next.get(label, now)
        self._states = [
            (condition, (label if event else told) if holds else None) for condition, told, holds in held
        ]  # fmt: skip
        if event:
            self._next[label] = now + self._every
        return event


def _parse_term(term: str, text: str, labels: Sequence[str]) -> Test:
    if match := LABEL.fullmatch(term):
        return _label_test(match[2].strip(), wanted=match[1] == "=", labels=labels)
    if match := FIGURE.fullmatch(term):
        figure, compare = FIGURES[match[1]], COMPARISONS[match[2]]
        limit = share_of(match[3])
        if limit is not None and limit <= 1:
            return lambda decision: compare(figure(decision), limit)
    hint = meant_by(match[3]) if match else ""
    msg = f"{text!r} is no condition: {term!r} is not understood; {FORM}{hint and '.'}{hint}"
    raise ConfigError(msg)


def _label_test(pattern: str, *, wanted: bool, labels: Sequence[str]) -> Test:
    def matches(label: str) -> bool:
        return label == pattern or fnmatchcase(label, pattern)

    if not any(map(matches, labels)):
        msg = f"no label of this model is {pattern!r}. {did_you_mean(pattern, dict.fromkeys([*labels[:50], labels[-1]]))}"
        raise ConfigError(msg)
    return lambda decision: matches(decision.best.label) is wanted
