"""Latency of several sessions, interleaved, so that a drifting clock hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.engine.base import Session
from edgevit.progress import Stage

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

WARM_UP = 5
TURN = 5  # inferences of one session before the next has its turn
PAUSE = 0.02  # seconds before a turn: an engine's idle threads spin for a while and would slow the next engine


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one inference at batch 1, over ``runs`` inferences."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    runs: int


def measure(sessions: Mapping[str, Session], frames: Frames, *, runs: int, stage: Stage) -> dict[str, Latency]:
    """Time ``runs`` inferences of each session on ``frames`` uint8 [N, H, W, 3], one frame at a time, in turns."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        for i in range(WARM_UP):
            session.infer(frames[i % len(frames)][None])
    for start in range(0, runs, TURN):
        for name, session in sessions.items():
            time.sleep(PAUSE)
            session.infer(frames[:1])
            for i in range(start, min(start + TURN, runs)):
                frame = frames[i % len(frames)][None]
                begin = time.perf_counter()
                session.infer(frame)
                times[name].append(1e3 * (time.perf_counter() - begin))
        stage.advance(min(TURN, runs - start))
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> Latency:
    p50, p90, p99 = (float(value) for value in np.percentile(values, (50, 90, 99)))
    return Latency(p50_ms=p50, p90_ms=p90, p99_ms=p99, runs=len(values))
