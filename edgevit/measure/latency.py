"""Latency of several sessions, interleaved, so that a drifting clock hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.engine.base import Session
from edgevit.progress import Stage

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

    Turns = list[list[float]]

WARM_UP = 5
TURN = 5  # inferences of one session before the next has its turn
MIN_TURNS = 6  # with fewer the interval of a ratio is too narrow: `edgevit.measure.statistics.median_ratio`
PAUSE = 0.02  # seconds before a turn: an engine's idle threads spin for a while and would slow the next engine


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one inference at batch 1, over ``runs`` inferences."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    """Inferences in a second, one after the other: 1000 over the mean."""
    runs: int


def measure_latency(sessions: Mapping[str, Session], frames: Frames, *, runs: int, stage: Stage) -> dict[str, Latency]:
    """Time ``runs`` inferences of each session on ``frames`` uint8 [N, H, W, 3], one frame at a time, in turns."""
    times = take_turns(sessions, dict.fromkeys(sessions, frames), runs=runs, stage=stage)
    return {name: summary(turns) for name, turns in times.items()}


def take_turns(sessions: Mapping[str, Session], frames: Mapping[str, Frames], *, runs: int, stage: Stage) -> dict[str, Turns]:
    """As `measure_latency`, every time in milliseconds: per session its turns, in the order they were taken.

    ``frames`` are each session's own, as their sizes may differ.
    """
    times: dict[str, Turns] = {name: [] for name in sessions}
    for name, session in sessions.items():
        for i in range(WARM_UP):
            session.infer(frames[name][i % len(frames[name])][None])
    for start in range(0, runs, TURN):
        for name, session in sessions.items():
            own, turn = frames[name], []
            time.sleep(PAUSE)
            session.infer(own[:1])
            for i in range(start, min(start + TURN, runs)):
                frame = own[i % len(own)][None]
                begin = time.perf_counter()
                session.infer(frame)
                turn.append(1e3 * (time.perf_counter() - begin))
            times[name].append(turn)
        stage.advance(min(TURN, runs - start))
    return times


def summary(turns: Sequence[Sequence[float]]) -> Latency:
    """Percentiles over the times of all turns, at least one, in milliseconds."""
    values = np.concatenate([np.asarray(turn) for turn in turns])
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    return Latency(p50_ms=p50, p90_ms=p90, p99_ms=p99, per_second=float(1e3 / values.mean()), runs=len(values))
