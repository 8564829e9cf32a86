"""A multi-label model at run time: thresholds, decisions, smoothing, events, and every output."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.runtime.classify import Prediction, scores, sigmoid, top_k
from edgevit.runtime.decide import Decider, Decision
from edgevit.runtime.overlay import draw
from edgevit.runtime.panel import BEST
from edgevit.runtime.sinks.command import environment
from edgevit.runtime.sinks.condition import parse_condition
from edgevit.runtime.sinks.events import Events
from edgevit.runtime.sinks.label_gate import LabelGate
from edgevit.runtime.sinks.lines import SEVERAL, CsvFile
from edgevit.runtime.sinks.record import record
from edgevit.runtime.sinks.snapshot import Snapshots
from edgevit.runtime.smoothing import Ema, MajorityOfEach, parse_smoothing
from edgevit.runtime.summary import Summary
from edgevit.runtime.threshold import Thresholds, parse_thresholds, thresholds_of
from tests.runtime.fakes import FakeCamera, Notes, eventually, frame, result

LABELS = ("dog", "car", "tree")


def predictions(**confidences: float) -> tuple[Prediction, ...]:
    """Of all labels, likeliest first; 0.1 where none is given."""
    found = [Prediction(label=label, index=i, confidence=confidences.get(label, 0.1)) for i, label in enumerate(LABELS)]
    return tuple(sorted(found, key=lambda each: -each.confidence))


def decide(decider: Decider | None = None, index: int = 0, finished: float = 0.0, **confidences: float) -> Decision:
    decider = decider or Decider(threshold=0.5, problem_type=MULTI_LABEL)
    return decider(result(frame=frame(index=index), predictions=predictions(**confidences), finished=finished))


# --- scores and thresholds ---------------------------------------------------------------------------------------------


def test_sigmoid_is_exact_and_does_not_overflow() -> None:
    """Against double precision, where exp(-88) is still a number."""
    logits = np.array([-200, -88, -1, -1e-3, 0, 1e-3, 1, 20, 200], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = sigmoid(logits)
    assert found.dtype == np.float32
    assert found == pytest.approx(1 / (1 + np.exp(-logits.astype(float))), rel=1e-6)


def test_scores_of_a_multi_label_model_are_independent() -> None:
    logits = np.array([4.0, 3.5, -4.0], np.float32)
    # torch.sigmoid(torch.tensor([4.0, 3.5, -4.0])), torch 2.13
    assert scores(logits, MULTI_LABEL) == pytest.approx([0.98201376, 0.97068775, 0.01798621], abs=1e-6)
    assert scores(logits, SINGLE_LABEL).sum() == pytest.approx(1)
    assert [each.label for each in top_k(logits, LABELS, 2, MULTI_LABEL)] == ["dog", "car"]


@pytest.mark.parametrize(
    ("texts", "problem_type", "wanted"),
    [
        ((), MULTI_LABEL, Thresholds(all=0.5)),
        ((), SINGLE_LABEL, Thresholds(all=0.0)),
        (("0.6",), MULTI_LABEL, Thresholds(all=0.6)),
        (("60%", "dog=0.7", "tree=8%"), MULTI_LABEL, Thresholds(all=0.6, own={"dog": 0.7, "tree": 0.08})),
        (("dog=.7",), SINGLE_LABEL, Thresholds(all=0.0, own={"dog": 0.7})),
    ],
)
def test_thresholds(texts: tuple[str, ...], problem_type: str, wanted: Thresholds) -> None:
    assert parse_thresholds(texts, LABELS, problem_type) == wanted


def test_a_label_with_an_equals_sign() -> None:
    assert parse_thresholds(("a=b=0.7",), ("a=b",), MULTI_LABEL).own == {"a=b": 0.7}


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (("dgo=0.7",), "no label of this model is 'dgo'. Did you mean 'dog'?"),
        (("dog=x",), "write a confidence"),
        (("60",), "60 is no confidence"),
        (("dog=150%",), "1.5 is no confidence"),
        (("0.5", "0.6"), "given twice"),
        (("dog=0.5", "dog=0.6"), "given twice"),
        (("nan",), "write a confidence"),
        (("-0.1",), "write a confidence"),
    ],
)
def test_other_thresholds_are_refused(texts: tuple[str, ...], wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_thresholds(texts, LABELS, MULTI_LABEL)
    assert wanted in str(caught.value)


def test_thresholds_from_python() -> None:
    assert thresholds_of(None, LABELS, MULTI_LABEL) == Thresholds(all=0.5)
    assert thresholds_of({"car": 0.9}, LABELS, MULTI_LABEL) == Thresholds(all=0.5, own={"car": 0.9})
    assert thresholds_of(0.3, LABELS, SINGLE_LABEL) == Thresholds(all=0.3)
    with pytest.raises(ConfigError, match="no label of this model is 'cat'"):
        thresholds_of({"cat": 0.9}, LABELS, MULTI_LABEL)


# --- decisions ---------------------------------------------------------------------------------------------------------


def test_all_labels_above_their_threshold() -> None:
    decider = Decider(threshold=Thresholds(all=0.5, own={"car": 0.9}), top_k=1, problem_type=MULTI_LABEL)
    found = decide(decider, dog=0.5, car=0.89, tree=0.6)
    assert [each.label for each in found.labels] == ["tree", "dog"], "at the threshold is there; not cut to top_k"
    assert (found.best.label, [each.label for each in found.predictions]) == ("tree", ["car"])
    assert len(found.every) == 3
    assert decider.wanted >= len(LABELS)


def test_no_label_is_none() -> None:
    found = decide(dog=0.4)
    assert (found.labels, found.best) == ((), Prediction(label="none", index=-1, confidence=0.4))
    assert repr(found) == "Decision(none, frame 0 of 'fake', 6.0 ms)"


def test_single_label_decisions_have_labels_too() -> None:
    assert [each.label for each in Decider()(result(predictions=predictions(car=0.6))).labels] == ["car"]
    unknown = Decider(threshold=0.9)(result(predictions=predictions(car=0.6)))
    assert (unknown.labels, unknown.best.label) == ((), "unknown")
    own = Decider(threshold=Thresholds(own={"car": 0.7}))
    assert own(result(predictions=predictions(car=0.6))).best.label == "unknown"
    assert own(result(predictions=predictions(dog=0.6))).best.label == "dog"


def test_ema_averages_each_label() -> None:
    decider = Decider(smoothing=Ema(3), threshold=0.5, problem_type=MULTI_LABEL)
    decide(decider, dog=1.0, car=1.0)
    second = decide(decider, index=1, dog=1.0, car=0.0)
    found = {each.label: each.confidence for each in second.every}
    assert found == pytest.approx({"dog": 1.0, "car": 0.5 / 1.5, "tree": 0.1})  # weights 1/2 and 1
    assert [each.label for each in second.labels] == ["dog"]


def test_majority_of_each_label() -> None:
    """Each label votes by itself; the confidence is the mean of the frames on the majority's side."""
    smoothing = parse_smoothing("majority:3", Thresholds(all=0.5, own={"car": 0.8}))
    assert isinstance(smoothing, MajorityOfEach)
    decider = Decider(smoothing=smoothing, threshold=Thresholds(all=0.5, own={"car": 0.8}), problem_type=MULTI_LABEL)
    seen = [{"dog": 0.9, "car": 0.9}, {"dog": 0.2, "car": 0.7}, {"dog": 0.6, "car": 0.75}]
    found = [decide(decider, index=i, **own) for i, own in enumerate(seen)]
    assert [[each.label for each in item.labels] for item in found] == [["dog", "car"], [], ["dog"]], "a tie goes to the latest"
    last = {each.label: each.confidence for each in found[-1].every}
    assert last == pytest.approx({"dog": 0.75, "car": 0.725, "tree": 0.1})
    decide(decider, index=0, dog=0.1)  # another video
    assert decide(decider, index=1, dog=0.7).best.label == "dog"


# --- events ------------------------------------------------------------------------------------------------------------


def told(
    texts: list[str], frames: list[dict[str, float]], *, every: float = 0.0, apart: float = 1.0
) -> list[list[tuple[str | None, str]]]:  # fmt: skip
    """Per frame, what happened to which label."""
    gate = LabelGate([parse_condition(text, LABELS, multi_label=True) for text in texts], every=every)
    decisions = [decide(index=i, finished=100 + i * apart, **own) for i, own in enumerate(frames)]
    return [[(each.event, each.best.label) for each in gate.events(item)] for item in decisions]


def test_one_event_per_label_that_comes_and_goes() -> None:
    frames = [{"dog": 0.9}, {"dog": 0.9, "car": 0.8}, {"car": 0.95}, {}, {"tree": 0.9}]
    assert told(["changed"], frames) == [
        [("on", "dog")], [("on", "car")], [("off", "dog")], [("off", "car")], [("on", "tree")],
    ]  # fmt: skip


def test_terms_are_about_one_label() -> None:
    frames = [{"dog": 0.9, "car": 0.7}, {"dog": 0.7, "car": 0.9}, {"dog": 0.7}]
    assert told(["label=dog,changed"], frames) == [[("on", "dog")], [], []]
    assert told(["confidence>0.8,changed"], frames) == [[("on", "dog")], [("on", "car"), ("off", "dog")], [("off", "car")]]
    assert told(["label=car"], frames) == [[("on", "car")], [("on", "car")], []]
    assert told(["label!=car,confidence>0.8"], frames) == [[("on", "dog")], [], []]
    assert told(["label=dog,changed", "label=car,confidence>0.8"], frames) == [[("on", "dog")], [("on", "car")], []]


def test_frames_without_labels() -> None:
    frames = [{}, {"dog": 0.9}, {}]
    assert told(["changed"], frames) == [[], [("on", "dog")], [("off", "dog")]]
    assert told(["always"], frames) == [[("on", "none")], [("on", "dog")], [("on", "none")]]
    assert told(["label=none,changed"], frames) == [[("on", "none")], [("off", "none")], [("on", "none")]]


def test_each_label_has_a_clock_and_no_change_is_lost() -> None:
    """Gone and back within the time: nothing is told. Gone for good: told when its time has come."""
    frames = [{"dog": 0.9}, {}, {"dog": 0.9, "car": 0.9}, {}, {}, {}]
    assert told(["changed"], frames, every=4) == [[("on", "dog")], [], [("on", "car")], [], [("off", "dog")], []]
    assert told(["always"], [{"dog": 0.9, "car": 0.9}] * 3, every=2) == [
        [("on", "dog"), ("on", "car")],
        [],
        [("on", "dog"), ("on", "car")],
    ]


def test_the_confidence_of_an_event_is_the_label_s_own() -> None:
    gate = LabelGate([parse_condition("changed", LABELS, multi_label=True)], every=0)
    gate.events(decide(dog=0.9, car=0.8))
    (gone,) = gate.events(decide(index=1, dog=0.9, car=0.3))
    assert (gone.event, gone.best.label, gone.best.confidence) == ("off", "car", 0.3)
    assert [each.label for each in gone.labels] == ["dog"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("margin<0.2", "ask for confidence"), ("label=nothing", "no label of this model is 'nothing'"), ("label=cat", "'cat'")],
)
def test_conditions_that_make_no_sense_of_several_labels(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        parse_condition(text, LABELS, multi_label=True)


# --- outputs -----------------------------------------------------------------------------------------------------------


def test_record_lists_all_labels() -> None:
    found = record(decide(dog=0.9, car=0.8))
    assert found["labels"] == [{"label": "dog", "confidence": 0.9}, {"label": "car", "confidence": 0.8}]
    assert (found["label"], found["confidence"], "event" in found) == ("dog", 0.9, False)
    assert record(decide())["labels"] == []
    assert "labels" not in record(Decider()(result()))


def test_csv_of_several_labels_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with closing(CsvFile(path, multi_label=True)) as sink:
        sink(decide(dog=0.9, car=0.8))
        sink(decide(index=1))
        with pytest.raises(ValueError, match="multi_label=True"):
            sink(Decider()(result()))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == SEVERAL
    assert [(row["label"], row["labels"], row["confidences"]) for row in rows] == [
        ("dog", "dog|car", "0.900000|0.800000"), ("none", "", ""),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="first line"):
        CsvFile(path)


class Receiver:
    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []

    def send(self, decision: Decision) -> None:
        self.got.append(record(decision))

    def close(self) -> None:
        pass


def test_receivers_get_an_event_per_label() -> None:
    receiver = Receiver()
    with closing(Events(LabelGate([parse_condition("changed", LABELS, multi_label=True)], every=0), [receiver])) as events:  # type: ignore[list-item]
        events(decide(dog=0.9, car=0.8))
        events(decide(index=1, car=0.8))
    assert [(each["event"], each["label"], len(each["labels"])) for each in receiver.got] == [
        ("on", "dog", 2), ("on", "car", 2), ("off", "dog", 1),
    ]  # fmt: skip
    variables = environment(receiver.got[-1])
    assert (variables["EDGEVIT_EVENT"], variables["EDGEVIT_LABEL"]) == ("off", "dog")
    assert json.loads(variables["EDGEVIT_JSON"])["labels"] == [{"label": "car", "confidence": 0.8}]
    assert environment(record(Decider()(result())))["EDGEVIT_EVENT"] == "on"


def test_snapshots_are_of_labels_that_come(tmp_path: Path) -> None:
    gate = LabelGate([parse_condition("changed", LABELS, multi_label=True)], every=0)
    with closing(Snapshots(tmp_path, limit=9, note=Notes())) as snapshots:
        for i, own in enumerate([{"dog": 0.9, "car": 0.8}, {}]):
            for event in gate.events(decide(index=i, **own)):
                snapshots.send(event)
        eventually(lambda: snapshots.delivery.sent == 2)
    names = sorted(path.name.partition("Z-")[2] for path in tmp_path.iterdir())
    assert names == ["car-0.80.jpg", "dog-0.90.jpg"]


def test_summary_counts_every_label() -> None:
    summary = Summary(FakeCamera(frames=0, seconds=0))
    for own in ({"dog": 0.9, "car": 0.8}, {"dog": 0.7}, {}):
        summary.add(decide(**own))
    assert summary.labels == {"dog": 2, "car": 1, "none": 1}


def test_overlay_shows_which_labels_are_there() -> None:
    """Each bar's own color, left of its text; the title names all labels."""
    image, unit = np.zeros((480, 640, 3), np.uint8), 480 / 24

    def bars(decision: Decision, labels: tuple[Prediction, ...] | None) -> list[bool]:
        shown = draw(
            image,
            decision.predictions,
            labels=labels,
            best=decision.best,
            fps=None,
            precision="int8",
            latency_ms=1.0,
            overlay="full",
        )
        return [tuple(shown[round((3.2 + 1.3 * row) * unit), round(0.6 * unit)].tolist()) == BEST for row in range(3)]

    found = decide(dog=0.9, car=0.6)
    assert bars(found, found.labels) == [True, True, False]
    assert bars(found, ()) == [False, False, False]
    assert bars(found, None) == [True, False, False], "of a single-label model, the likeliest"
