"""Latency of several sessions, interleaved, so that a drifting clock hits all of them alike."""

from __future__ import annotations

import math
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
WARM_SHARE = 10  # of a limit of time, a session's warm-up takes so much at most: a tenth
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


def measure_latency(
    sessions: Mapping[str, Session], frames: Frames, *, runs: int, stage: Stage, limit_s: float = math.inf
) -> dict[str, Latency]:  # fmt: skip
    """Time ``runs`` inferences of each session on ``frames`` uint8 [N, H, W, 3], one frame at a time, in turns.

    Fewer, where ``limit_s`` seconds are over: see `take_turns`.
    """
    times = take_turns(sessions, dict.fromkeys(sessions, frames), runs=runs, stage=stage, limit_s=limit_s)
    return {name: summary(turns) for name, turns in times.items()}


def take_turns(
    sessions: Mapping[str, Session], frames: Mapping[str, Frames], *, runs: int, stage: Stage, limit_s: float = math.inf
) -> dict[str, Turns]:  # fmt: skip
    """As `measure_latency`, every time in milliseconds: per session its turns, in the order they were taken.

    ``frames`` are each session's own, as their sizes may differ. After ``limit_s`` seconds it ends, but for `MIN_TURNS` turns of
    each; those are shorter where that is more than the limit.
    """
    times: dict[str, Turns] = {name: [] for name in sessions}
    began = time.perf_counter()
    round_s = sum(_warmed_up(session, frames[name], limit_s / WARM_SHARE) for name, session in sessions.items())
    length = TURN if MIN_TURNS * (TURN + 1) * round_s <= limit_s else 1
    for start in range(0, runs, length):
        if start >= MIN_TURNS * length and time.perf_counter() - began > limit_s:
            break
        for name, session in sessions.items():
            own, turn = frames[name], []
            time.sleep(PAUSE)
            session.infer(own[:1])
            for i in range(start, min(start + length, runs)):
                frame = own[i % len(own)][None]
                begin = time.perf_counter()
                session.infer(frame)
                turn.append(1e3 * (time.perf_counter() - begin))
            times[name].append(turn)
        stage.advance(min(length, runs - start))
    return times


def _warmed_up(session: Session, frames: Frames, limit_s: float) -> float:
    """Seconds of the last of `WARM_UP` inferences, or of fewer if they take longer than ``limit_s``."""
    began = time.perf_counter()
    for i in range(WARM_UP):
        begin = time.perf_counter()
        session.infer(frames[i % len(frames)][None])
        if time.perf_counter() - began > limit_s:
            break
    return time.perf_counter() - begin


def summary(turns: Sequence[Sequence[float]]) -> Latency:
    """Percentiles over the times of all turns, at least one, in milliseconds."""
    values = np.concatenate([np.asarray(turn) for turn in turns])
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    return Latency(p50_ms=p50, p90_ms=p90, p99_ms=p99, per_second=float(1e3 / values.mean()), runs=len(values))
