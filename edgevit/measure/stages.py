"""Where a frame's time goes on this machine: read, prepare, infer, classify, draw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine.base import Session
from edgevit.preprocess import Preprocessing, prepare
from edgevit.problem import SINGLE_LABEL
from edgevit.progress import Stage
from edgevit.runtime.classify import top_k
from edgevit.runtime.overlay import draw

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

WARM_UP = 3
SHOWN = 5  # classes that an overlay shows


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage of a frame's way."""

    name: str
    p50_ms: float
    p90_ms: float
    share: float
    """Of the sum of all stages' means, 0..1."""


def stage_times(
    read: Callable[[], Frame],
    session: Session,
    contract: Preprocessing,
    labels: Sequence[str],
    *,
    problem_type: str = SINGLE_LABEL,
    runs: int,
    precision: str,
    stage: Stage,
) -> list[StageTime]:
    """Each stage timed on ``runs`` frames that ``read`` delivers, after a few to warm up.

    Drawing is what a preview or a recording costs; a headless run leaves it out. Reading a live camera is mostly waiting.
    ``problem_type`` is what the logits mean.
    """
    times: dict[str, list[float]] = {name: [] for name in ("read", "prepare", "infer", "classify", "draw")}
    for i in range(WARM_UP + runs):
        own = _one(read, session, contract, labels, precision, problem_type)
        if i >= WARM_UP:
            for name, milliseconds in own.items():
                times[name].append(milliseconds)
            stage.advance()
    total = sum(float(np.mean(values)) for values in times.values())
    return [
        StageTime(
            name=name,
            p50_ms=float(np.percentile(values, 50)),
            p90_ms=float(np.percentile(values, 90)),
            share=float(np.mean(values)) / total,
        )
        for name, values in times.items()
    ]


def _one(
    read: Callable[[], Frame], session: Session, contract: Preprocessing, labels: Sequence[str], precision: str, problem_type: str
) -> dict[str, float]:
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = work()
        found[name] = 1e3 * (time.perf_counter() - begin)
        return result

    frame = timed("read", read)
    ready = timed("prepare", lambda: prepare(frame, contract))
    logits = timed("infer", lambda: session.infer(ready[None]))
    best = timed("classify", lambda: top_k(logits[0], labels, SHOWN, problem_type))
    timed("draw", lambda: draw(frame, best, fps=None, precision=precision, latency_ms=sum(found.values())))
    return found
