"""Smoothed labels against the formula, and when they start anew."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.classify import Prediction
from edgevit.runtime.decide import Decider
from edgevit.runtime.smoothing import Ema, Majority, parse_smoothing
from tests.runtime.fakes import frame, prediction, result


def predictions(confidences: np.ndarray) -> tuple[Prediction, ...]:
    order = np.argsort(-confidences, kind="stable")
    return tuple(prediction(f"c{i}", float(confidences[i]), int(i)) for i in order)


def one(label: str, confidence: float = 0.9) -> tuple[Prediction, ...]:
    return (prediction(label, confidence, ord(label)),)


@pytest.mark.parametrize("frames", [2, 3, 8])
def test_ema_is_the_weighted_mean_of_all_frames(frames: int) -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(5), size=20)
    smoothing = Ema(frames)
    for count in range(1, len(rows) + 1):
        got = smoothing.add(predictions(rows[count - 1]))
        weights = (1 - 2 / (frames + 1)) ** np.arange(count)[::-1]
        want = weights @ rows[:count] / weights.sum()
        assert [each.confidence for each in got] == pytest.approx(sorted(want, reverse=True))
        assert [each.index for each in got] == np.argsort(-want).tolist()
        assert all(each.label == f"c{each.index}" for each in got)


def test_ema_of_the_first_frame_is_that_frame() -> None:
    assert Ema(8).add(one("a", 0.7)) == one("a", 0.7)


def test_ema_counts_a_class_that_is_not_listed_as_0() -> None:
    smoothing = Ema(3)
    smoothing.add(one("a", 1.0))
    assert {each.label: each.confidence for each in smoothing.add(one("b", 1.0))} == pytest.approx({"b": 2 / 3, "a": 1 / 3})


def test_majority_outvotes_single_frames_and_follows_a_change() -> None:
    smoothing = Majority(3)
    assert [smoothing.add(one(label))[0].label for label in "aabaabbb"] == list("aaaaaabb")


def test_majority_takes_the_later_of_two_and_means_its_votes() -> None:
    smoothing = Majority(4)
    for label, confidence in (("a", 0.8), ("b", 0.5), ("a", 0.6)):
        smoothing.add(one(label, confidence))
    best, other = smoothing.add(one("b", 0.7))
    assert (best.label, best.confidence) == ("b", pytest.approx(0.6))
    assert (other.label, other.confidence) == ("a", pytest.approx(0.7))


@pytest.mark.parametrize(("text", "kind", "frames"), [("ema:2", Ema, 2), ("majority:1000", Majority, 1000), ("8", Ema, 8)])
def test_forms(text: str, kind: type, frames: int) -> None:
    smoothing = parse_smoothing(text)
    assert isinstance(smoothing, kind)
    assert smoothing.frames == frames


@pytest.mark.parametrize(
    "text", ["", "ema", "ema:", "ema:1", "ema:1001", "ema:-3", "ema:2.5", "ema:٣", "mean:3", "ema:3:4", ":8", "8:", "1", "0.5"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no smoothing: write ema:N or majority:N"):
        parse_smoothing(text)


# --- decisions -------------------------------------------------------------------------------------------------------


def test_decision_without_options_is_the_result() -> None:
    before = result(predictions=(prediction("a", 0.6), prediction("b", 0.4)), dropped=2)
    after = Decider()(before)
    assert (after.best, after.predictions, after.raw) == (before.predictions[0], before.predictions, before.predictions)
    assert (after.frame, after.dropped, after.latency_ms) == (before.frame, 2, before.latency_ms)
    assert not after.smoothed


@pytest.mark.parametrize(("confidence", "label"), [(0.5, "a"), (0.49, "unknown")])
def test_threshold(confidence: float, label: str) -> None:
    after = Decider(threshold=0.5)(result(predictions=one("a", confidence)))
    assert (after.best.label, after.best.confidence) == (label, confidence)
    assert after.predictions == one("a", confidence), "what the model says stays"


def test_threshold_is_on_what_is_smoothed() -> None:
    decide = Decider(smoothing=Ema(3), threshold=0.6)
    labels = [decide(result(frame=frame(index=i), predictions=one(label, 1.0))).best.label for i, label in enumerate("aabbb")]
    assert labels == ["a", "a", "unknown", "b", "b"]


def test_top_k_is_cut_after_smoothing() -> None:
    """So that a class that is third in each of two frames may be first over both."""
    decide = Decider(smoothing=Ema(2), top_k=1)
    assert decide.wanted == 100
    assert Decider(top_k=3).wanted == 3
    for i, row in enumerate(([0.5, 0.1, 0.4], [0.0, 0.52, 0.48])):
        after = decide(result(frame=frame(index=i), predictions=predictions(np.array(row))))
    assert [each.label for each in after.predictions] == ["c2"]
    assert [each.label for each in after.raw] == ["c1"]


@pytest.mark.parametrize("smoothing", [Ema(50), Majority(50)])
def test_smoothing_starts_anew_with_another_source_or_the_same_again(smoothing) -> None:
    decide = Decider(smoothing=smoothing)
    labels = []
    for name, index, label in [("v", 0, "a"), ("v", 1, "a"), ("v", 2, "b"), ("w", 3, "b"), ("w", 4, "b"), ("w", 0, "c")]:
        labels.append(decide(result(frame=frame(index=index, name=name), predictions=one(label))).best.label)
    assert labels == ["a", "a", "a", "b", "b", "c"]
