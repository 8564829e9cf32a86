"""A checkpoint that was made smaller, and how it came about: kept by content, as making it takes minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgevit.cache import Kind
from edgevit.model.checkpoint import Checkpoint, model_from
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """What pruning or merging made of a checkpoint."""

    checkpoint: Checkpoint
    report: dict[str, Any]
    """JSON-ready: what was asked for, what was done where, multiply-accumulates before and after."""
    summary: str
    """One line: what became less."""


def kept(
    checkpoint: Checkpoint, kinds: tuple[Kind, Kind], key: dict[str, Any], stage: str, bench: Workbench,
    make: Callable[[], Smaller],
) -> Smaller:  # fmt: skip
    """What ``make`` makes of ``checkpoint``, or made of it under the same ``key`` before.

    ``kinds`` are those of the model and of the rest; ``stage`` is that of ``make`` which is told to be cached then.
    """
    model, rest = (bench.cache.find(kind, **key) for kind in kinds)
    if model is None or rest is None:
        made = make()
        bench.cache.store(kinds[0], made.checkpoint.to_bytes(), **key)
        bench.cache.store(kinds[1], json.dumps([made.report, made.summary]).encode(), **key)
        return made
    with bench.stage(stage) as told:
        told.cached = True
        report, summary = json.loads(rest)
    return Smaller(checkpoint=checkpoint.with_model(model_from(model)), report=report, summary=summary)
