"""Latency of real sessions: how often each runs, in which order, on which frames, and what is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from edgevit.engine import CPU_ENGINES, Session, open_session
from edgevit.engine.base import SessionBase
from edgevit.export.graph import write_graph
from edgevit.measure.latency import MIN_TURNS, PAUSE, TURN, WARM_UP, measure_latency, take_turns
from edgevit.model.quantplan import QuantPlan
from edgevit.progress import Progress, Stage
from tests.zoo import Frames, folded, frames


class Steps(Progress):
    """Adds up what is reported."""

    def __init__(self) -> None:
        self.steps = 0

    def advance(self, stage: Stage, steps: int) -> None:
        self.steps += steps


def clock(name: str, calls: list[tuple[str, int]], seconds: float = 0.0) -> Session:
    """A session that takes ``seconds`` and notes its name and the frame's first pixel."""

    def run(images: Frames) -> tuple[np.ndarray, None]:
        calls.append((name, int(images[0, 0, 0, 0])))
        time.sleep(seconds)
        return np.zeros((len(images), 2), np.float32), None

    return SessionBase(engine=name, threads=1, shape=(2, 2, 3), run=run)


@pytest.fixture
def progress() -> Steps:
    return Steps()


@pytest.fixture
def stage(progress: Steps) -> Iterator[Stage]:
    with progress.stage("latency") as stage:
        yield stage


def numbered(count: int) -> Frames:
    """Frames that tell their number."""
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


@pytest.mark.parametrize("runs", [1, 4, 5, 12])
def test_both_engines(runs: int, stage: Stage, progress: Steps) -> None:
    """Percentiles in order, all runs counted and reported."""
    model = folded()
    graph = write_graph(QuantPlan(model=model))
    sessions = {name: open_session(name, graph, threads=1) for name in CPU_ENGINES}
    times = measure_latency(sessions, frames(model.config, 3), runs=runs, stage=stage)
    assert times.keys() == sessions.keys()
    for found in times.values():
        assert found.runs == runs
        assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms < 1000
    assert progress.steps == runs


def test_sessions_take_turns(stage: Stage) -> None:
    """A clock that drifts hits both alike: a few inferences of one, then of the other."""
    calls: list[tuple[str, int]] = []
    measure_latency({name: clock(name, calls) for name in "ab"}, numbered(3), runs=2 * TURN, stage=stage)
    order = "".join(name for name, _ in calls)
    turn = TURN + 1  # the first after a pause is not timed
    assert order == "a" * WARM_UP + "b" * WARM_UP + ("a" * turn + "b" * turn) * 2


def test_timed_frames_differ(stage: Stage) -> None:
    """Every frame has its turn, so no cache makes one frame look fast."""
    calls: list[tuple[str, int]] = []
    measure_latency({"a": clock("a", calls)}, numbered(7), runs=14, stage=stage)
    assert {frame for _, frame in calls[WARM_UP:]} == set(range(7))


def test_milliseconds_of_the_inference_alone(stage: Stage) -> None:
    """The pause between turns is not counted; a session of 10 ms takes 10 ms, or more where others want the CPU."""
    found = measure_latency({"slow": clock("slow", [], 0.01), "fast": clock("fast", [])}, numbered(1), runs=6, stage=stage)
    assert found["slow"].p50_ms >= 10
    assert found["fast"].p50_ms < min(found["slow"].p50_ms, 1e3 * PAUSE)


@pytest.mark.parametrize(("limit_s", "turns", "length"), [(10.0, 4, TURN), (0.05, MIN_TURNS, 1)])
def test_slow_sessions_have_fewer_inferences(stage: Stage, limit_s: float, turns: int, length: int) -> None:
    """As many turns as an interval needs, however slow; all that were asked for within the limit."""
    calls: list[tuple[str, int]] = []
    sessions = {"slow": clock("slow", calls, 0.02), "fast": clock("fast", calls)}
    found = take_turns(sessions, dict.fromkeys(sessions, numbered(3)), runs=4 * TURN, stage=stage, limit_s=limit_s)
    assert all([len(turn) for turn in own] == [length] * turns for own in found.values())
    timed = turns * (length + 1)  # the first after a pause is not timed
    assert sum(name == "slow" for name, _ in calls) == timed + (WARM_UP if length == TURN else 1)
