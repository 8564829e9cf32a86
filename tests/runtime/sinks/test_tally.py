"""Counts of a run, right and of one moment, and cheap."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from edgevit.problem import MULTI_LABEL
from edgevit.runtime.decide import Decider
from edgevit.runtime.sinks.tally import ALL_LABELS, SECONDS, SHARES, Tally
from edgevit.runtime.unknown import Rarity
from tests.runtime.fakes import decision, prediction, result

LABELS = ("cat", "dog")


def below(buckets, bound: float) -> int:
    """How many values were at most ``bound``."""
    return buckets.counts[buckets.bounds.index(bound)]


def test_counts_are_sums_of_what_decisions_say() -> None:
    tally = Tally(LABELS)
    for label, dropped, retries in (("cat", 0, 0), ("dog", 3, 0), ("cat", 1, 1)):
        assert tally(decision(label, dropped=dropped, retries=retries, finished=50.0 + dropped)) is True
    counts = tally.counts()
    assert (counts.frames, counts.dropped, counts.retries, counts.unknown) == (3, 4, 1, 0)
    assert counts.labels == {"cat": 2, "dog": 1}
    assert counts.last == 51.0
    assert counts.typicality is None


def test_before_the_first_frame_all_labels_are_there_and_zero() -> None:
    """Prometheus sees no increase of a series that begins with 1."""
    counts = Tally(LABELS, rarity=True).counts()
    assert counts.labels == {"cat": 0, "dog": 0}
    assert (counts.frames, counts.last, counts.latency.counts[-1], counts.typicality.counts[-1]) == (0, None, 0, 0)


def test_many_labels_are_counted_as_they_occur() -> None:
    tally = Tally([f"class {number}" for number in range(ALL_LABELS + 1)])
    assert tally.counts().labels == {}
    tally(decision("class 7"))
    assert tally.counts().labels == {"class 7": 1}


def test_buckets_hold_their_bound_and_are_cumulative() -> None:
    """As Prometheus has it: ``le`` is at most, seconds, the last bucket is all."""
    tally = Tally(LABELS)
    for milliseconds in (0.4, 5.0, 5.1, 99_000.0):
        tally(decision("cat", latency_ms=milliseconds, read_ms=1.0, prepare_ms=2.0, infer_ms=30.1))
    latency, stages = tally.counts().latency, tally.counts().stages
    assert [below(latency, bound) for bound in (0.0005, 0.003, 0.005, 0.0075, 10.0)] == [1, 1, 2, 3, 3]
    assert latency.counts[-1] == 4
    assert latency.sum == pytest.approx(99.0105)
    assert (below(stages["read"], 0.0005), below(stages["read"], 0.001)) == (0, 4)
    assert (below(stages["prepare"], 0.001), below(stages["prepare"], 0.002)) == (0, 4)
    assert (below(stages["infer"], 0.03), below(stages["infer"], 0.05)) == (0, 4)
    assert list(SECONDS) == sorted(set(SECONDS))
    assert list(SHARES) == sorted(set(SHARES))


def test_unknown_for_low_confidence_and_for_rarity() -> None:
    tally = Tally(LABELS, rarity=True)
    unsure = Decider(threshold=0.8)
    for confidence in (0.5, 0.9):
        tally(unsure(result(predictions=(prediction("cat", confidence),))))
    assert (tally.counts().unknown, tally.counts().labels) == (1, {"cat": 1, "dog": 0, "unknown": 1})


def test_class_that_is_called_unknown_is_a_class() -> None:
    tally = Tally(("unknown", "cat"))
    tally(decision("unknown"))
    assert (tally.counts().unknown, tally.counts().labels) == (0, {"unknown": 1, "cat": 0})


def test_frame_without_any_of_several_labels_is_none_and_not_unknown() -> None:
    tally = Tally(LABELS)
    decide = Decider(threshold=0.5, problem_type=MULTI_LABEL)
    tally(decide(result(predictions=(prediction("cat", 0.2), prediction("dog", 0.1, 1)))))
    tally(decide(result(predictions=(prediction("cat", 0.8), prediction("dog", 0.7, 1)))))
    assert (tally.counts().unknown, tally.counts().labels) == (0, {"cat": 1, "dog": 1, "none": 1})


def test_typicality_of_bundles_that_tell() -> None:
    tally = Tally(LABELS, rarity=True)
    for typicality in (0.004, 0.05, 0.5, 1.0):
        rarity = Rarity(distance=1.0, typicality=typicality, unknown=False)
        tally(replace(decision("cat"), rarity=rarity))
    buckets = tally.counts().typicality
    assert [below(buckets, bound) for bound in (0.01, 0.02, 0.05, 0.5, 0.9, 1.0)] == [1, 1, 2, 3, 3, 4]
    assert buckets.sum == pytest.approx(1.554)


def test_counts_are_of_one_moment_while_the_loop_runs_on() -> None:
    tally, ended = Tally(LABELS), threading.Event()

    def loop() -> None:
        while not ended.is_set():
            tally(decision("cat"))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for _ in range(300):
            counts = tally.counts()
            assert counts.frames == counts.labels["cat"] == counts.latency.counts[-1] == counts.stages["infer"].counts[-1]
    finally:
        ended.set()
        thread.join()
    assert tally.counts().frames > 0


def test_close_keeps_the_counts() -> None:
    tally = Tally(LABELS)
    tally(decision("cat"))
    tally.close()
    tally.close()
    assert tally.counts().frames == 1
