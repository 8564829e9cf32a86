"""What is an event, and how often."""

from __future__ import annotations

import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.sinks.condition import Gate, parse_condition
from tests.runtime.fakes import decision, prediction

LABELS = ("crack", "crack-wide", "ok", "tench, Tinca tinca")


def fired(texts: list[str], seen: list[tuple[float, str, float]], *, every: float = 0.0) -> list[int]:
    """Which of (second, label, confidence) are events."""
    gate = Gate([parse_condition(text, LABELS) for text in texts], every=every)
    return [i for i, (at, label, confidence) in enumerate(seen) if gate(decision(label, confidence, finished=at))]


def frames(labels: str, *, apart: float = 1.0, confidence: float = 0.9) -> list[tuple[float, str, float]]:
    """One frame for each word."""
    return [(100 + i * apart, label, confidence) for i, label in enumerate(labels.split())]


@pytest.mark.parametrize(
    ("text", "label", "confidence", "want"),
    [
        ("label=crack", "crack", 0.9, True),
        ("label=crack", "crack-wide", 0.9, False),
        ("label=crack*", "crack-wide", 0.9, True),
        ("label = crack , confidence > 0.8", "crack", 0.81, True),
        ("label=crack,confidence>0.8", "crack", 0.8, False),
        ("label=crack,confidence>=80%", "crack", 0.8, True),
        ("label=crack,confidence>0.8", "ok", 0.9, False),
        ("label!=ok", "crack", 0.9, True),
        ("label!=ok", "ok", 0.9, False),
        ("label=unknown", "unknown", 0.1, True),
        ("label=tench*", "tench, Tinca tinca", 0.9, True),
        ("confidence<.5", "ok", 0.4, True),
        ("confidence<=0.5", "ok", 0.6, False),
        ("margin<0.2", "ok", 0.55, True),
        ("margin<0.2", "ok", 0.65, False),
        ("always", "ok", 0.1, True),
    ],
)
def test_terms(text: str, label: str, confidence: float, want: bool) -> None:
    assert parse_condition(text, LABELS).holds(decision(label, confidence)) is want


def test_margin_of_a_single_class_is_its_confidence() -> None:
    condition = parse_condition("margin>0.5", LABELS)
    assert condition.holds(decision(predictions=(prediction("ok", 0.6),)))


@pytest.mark.parametrize(
    "text", ["", ",", "crack", "label", "label=", "label>crack", "confidence", "confidence=1", "confidence>high", "confidence>2",
             "confidence>200%", "margin>-1", "changed crack", "__import__('os')"],
)  # fmt: skip
def test_other_conditions_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no condition: .* is not understood; write terms with commas"):
        parse_condition(text, LABELS)


def test_label_that_the_model_does_not_have_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no label of this model is 'crak'. Did you mean 'crack'"):
        parse_condition("label=crak", LABELS)


def test_without_an_edge_every_frame_is_an_event() -> None:
    assert fired(["label=crack"], frames("ok crack crack ok crack")) == [1, 2, 4]


def test_changed_alone_is_every_new_label_and_the_first() -> None:
    assert fired(["changed"], frames("ok ok crack crack ok")) == [0, 2, 4]


def test_changed_with_a_label_is_every_time_it_comes() -> None:
    assert fired(["label=crack,changed"], frames("ok crack crack ok crack")) == [1, 4]
    assert fired(["label=crack*,changed"], frames("crack crack-wide crack-wide ok crack-wide")) == [0, 1, 4]


def test_either_of_two_conditions() -> None:
    seen = [*frames("ok crack"), (102.0, "ok", 0.3)]
    assert fired(["label=crack", "confidence<0.5"], seen) == [1, 2]


def test_rate_is_limited_per_label() -> None:
    #                 0.0 0.4   0.8 1.2   1.6 2.0 2.4
    seen = frames("ok crack ok crack ok ok ok", apart=0.4)
    assert fired(["always"], seen, every=1.0) == [0, 1, 4]


def test_change_that_came_too_early_is_told_later() -> None:
    """Whoever gets only the events ends up with the right label."""
    #                0.0 0.4   0.8 1.2
    assert fired(["changed"], frames("ok crack ok ok", apart=0.4), every=1.0) == [0, 1, 3]


def test_gate_does_not_grow_with_the_frames() -> None:
    gate = Gate([parse_condition("always", LABELS)], every=0)
    for i in range(1000):
        gate(decision("ok", finished=float(i)))
    assert len(gate._next) == 1
