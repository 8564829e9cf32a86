"""Mixed precision within an accuracy budget: the most INT8 whose loss on held-out images stays below ``max_drop``.

Parts are ranked by a label-free scan (`edgevit.quantize.sensitivity`), most noise per multiply-accumulate
first. How many of them go back to floating point is then found by bisection, each try measured on the
engine itself: six or seven evaluations for sixty parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache as memoised
from typing import Any

import numpy as np

from edgevit.cache import Kind
from edgevit.errors import BudgetError
from edgevit.export.variants import int8_from
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.rewrites.folding import fold
from edgevit.part import Part, named
from edgevit.quantize.quantize import Quantization
from edgevit.quantize.sensitivity import IMAGES, Sensitivity, by_cost, int8_parts, revert, scan
from edgevit.workbench import Workbench

SENSITIVITY = Kind("sensitivity", __name__)
MAX_FLOAT = 0.75  # share of multiply-accumulates that may leave INT8; beyond it a float build is the better answer


@dataclass(frozen=True, kw_only=True)
class Try:
    """One plan that was measured."""

    parts: int
    """How many parts were in floating point."""
    drop: float
    """Points (percent) lost against FP32, of `Evaluator.metric`."""


@dataclass(frozen=True, kw_only=True)
class FoundParts:
    """The end of a search."""

    parts: tuple[Part, ...]
    """What goes back to floating point."""
    drop: float
    met: bool
    """Whether the drop is within the budget; else this is the best that was measured."""
    tries: tuple[Try, ...]


def search(ranked: list[Part], drop_without: Callable[[tuple[Part, ...]], float], max_drop: float) -> FoundParts:
    """The shortest prefix of ``ranked`` whose return to floating point keeps the drop within ``max_drop``.

    ``drop_without`` measures one prefix. Bisection: a longer prefix is taken to lose no more than a shorter one;
    what is returned has itself been measured.
    """
    measured: dict[int, float] = {}

    def fits(parts: int) -> bool:
        measured[parts] = drop_without(tuple(ranked[:parts]))
        return measured[parts] <= max_drop

    low, high = 0, len(ranked)
    if not fits(low) and high > low and fits(high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
    fitting = [parts for parts, drop in measured.items() if drop <= max_drop]
    best = min(fitting) if fitting else min(measured, key=lambda parts: (measured[parts], parts))
    tries = tuple(Try(parts=parts, drop=drop) for parts, drop in measured.items())
    return FoundParts(parts=tuple(ranked[:best]), drop=measured[best], met=bool(fitting), tries=tries)


def within_budget(checkpoint: Checkpoint, result: Quantization, budget: Budget, bench: Workbench) -> Quantization:
    """``result``, of ``checkpoint``, with the most INT8 that keeps ``budget``.

    What is measured is the graph as the target's engine will get it.

    Raises BudgetError with the best found if more than `MAX_FLOAT` of the arithmetic would have to leave INT8.
    """

    evaluator, max_drop = budget.evaluator, budget.max_drop

    @memoised  # two searches begin with all in INT8
    def drop_without(parts: tuple[Part, ...]) -> float:
        return evaluator.drop(int8_from(revert(result.plan, parts), {}, bench.engine).model)

    found, scanned = search([], drop_without, max_drop), list[Sensitivity]()
    if not found.met:
        scanned = by_cost(_scan(checkpoint, result, evaluator.images, bench))
        found = search(_affordable(scanned), drop_without, max_drop)
    if not found.met:
        raise _error(found, max_drop, evaluator.metric, len(evaluator.images), len(int8_parts(result.plan)))
    plan = revert(result.plan, found.parts)
    search_report = {"max_drop": max_drop, "metric": evaluator.metric, "images": len(evaluator.images), "drop": found.drop,
                     "tries": [asdict(item) for item in found.tries]}  # fmt: skip
    report = result.report | {"reverted": _reasons(found, scanned), "search": search_report,
                              "sensitivity": [named(item) for item in scanned]}  # fmt: skip
    return replace(result, plan=plan, report=report)


def _affordable(scanned: list[Sensitivity]) -> list[Part]:
    """Parts in order, as many as `MAX_FLOAT` of the arithmetic pays for."""
    shares = np.cumsum([part.macs for part in scanned])
    return [part.part for part, share in zip(scanned, shares, strict=True) if share <= MAX_FLOAT]


def _reasons(found: FoundParts, scanned: list[Sensitivity]) -> dict[str, str]:
    known = {item.part: item for item in scanned}
    return {str(part): _reason(known[part]) for part in found.parts}


def _reason(part: Sensitivity) -> str:
    return f"INT8 here makes {100 * part.noise:.1f} % of the logit noise, for {100 * part.macs:.1f} % of the arithmetic"


def _error(found: FoundParts, max_drop: float, metric: str, images: int, parts: int) -> BudgetError:
    msg = (
        f"--max-drop {max_drop:g}: not met. Best found: {found.drop:.2f} points of {metric} lost on {images} images, with "
        f"{len(found.parts)} of {parts} parts in floating point (at most {100 * MAX_FLOAT:.0f} % of the arithmetic may be). "
        "Raise --max-drop, calibrate on more images, try --recipe best, or build with --precision fp32."
    )
    return BudgetError(msg)


def _scan(checkpoint: Checkpoint, result: Quantization, images: ImageSet, bench: Workbench) -> list[Sensitivity]:
    key: dict[str, Any] = result.key | {"scanned": images.digest(), "problem_type": checkpoint.problem_type}
    with bench.stage("sensitivity", total=len(int8_parts(result.plan))) as stage:
        stored = bench.cache.find(SENSITIVITY, **key)
        stage.cached = stored is not None
        if stored is None:
            drawn, _ = images.split(IMAGES, 0)
            frames = np.concatenate(list(drawn.prepared(checkpoint.preprocessing, IMAGES)))
            folded = fold(checkpoint.model, checkpoint.preprocessing)
            found = scan(folded, result.plan, frames, lambda _part: stage.advance(), checkpoint.problem_type)
            stored = json.dumps([named(item) for item in found]).encode()
            bench.cache.store(SENSITIVITY, stored, **key)
    return [Sensitivity.from_dict(part) for part in json.loads(stored)]
