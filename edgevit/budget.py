"""Mixed precision within an accuracy budget: the most INT8 whose loss on held-out images stays below ``max_drop``.

Parts are ranked by a label-free scan (`edgevit.compress.sensitivity`), most noise per multiply-accumulate
first. How many of them go back to floating point is then found by bisection, each try measured on the
engine itself: six or seven evaluations for sixty parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgevit.cache import Cache
from edgevit.compress.sensitivity import IMAGES, Sensitivity, by_cost, groups, revert, scan
from edgevit.engine import backend, open_session
from edgevit.engine.base import processor
from edgevit.errors import BudgetError
from edgevit.images import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.folded import fold
from edgevit.progress import Progress
from edgevit.report.accuracy import measure
from edgevit.report.evaluate import evaluate
from edgevit.variants import Quantization, fp32_variant, int8_from

MAX_FLOAT = 0.75  # share of multiply-accumulates that may leave INT8; beyond it a float build is the better answer


@dataclass(frozen=True, kw_only=True)
class Try:
    """One plan that was measured."""

    parts: int
    """How many parts were in floating point."""
    drop: float
    """Points (percent of images) lost against FP32: of top-1 with labels, of agreement without."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The end of a search."""

    parts: tuple[str, ...]
    """What goes back to floating point."""
    drop: float
    met: bool
    """Whether the drop is within the budget; else this is the best that was measured."""
    tries: tuple[Try, ...]


def search(ranked: list[str], drop_without: Callable[[tuple[str, ...]], float], max_drop: float) -> Found:
    """The shortest prefix of ``ranked`` whose return to floating point keeps the drop within ``max_drop``.

    ``drop_without`` measures one prefix. Bisection: a longer prefix is taken to lose no more than a shorter one;
    what is returned has itself been measured.
    """
    measured: dict[int, float] = {}

    def fits(parts: int) -> bool:
        measured[parts] = drop_without(tuple(ranked[:parts]))
        return measured[parts] <= max_drop

    low, high = 0, len(ranked)
    if not fits(low) and fits(high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
    fitting = [parts for parts, drop in measured.items() if drop <= max_drop]
    best = min(fitting) if fitting else min(measured, key=lambda parts: (measured[parts], parts))
    tries = tuple(Try(parts=parts, drop=drop) for parts, drop in measured.items())
    return Found(parts=tuple(ranked[:best]), drop=measured[best], met=bool(fitting), tries=tries)


def within_budget(
    checkpoint: Checkpoint, result: Quantization, images: ImageSet, max_drop: float, *,
    judge: str, engine: str, threads: int | None, cache: Cache, progress: Progress,
) -> Quantization:  # fmt: skip
    """``result`` with the most INT8 that loses at most ``max_drop`` points on ``images``.

    What is measured is the graph as ``engine`` will get it, on the engine ``judge``.

    Raises BudgetError with the best found if more than `MAX_FLOAT` of the arithmetic would have to leave INT8.
    """
    targets = images.targets_for(checkpoint.labels)
    reference = _logits(fp32_variant(checkpoint, judge).model, checkpoint, images, judge, threads, cache, progress)

    def drop_without(parts: tuple[str, ...]) -> float:
        model = int8_from(revert(result.plan, parts), {}, engine).model
        own = measure(_logits(model, checkpoint, images, judge, threads, cache, progress), reference, targets)
        full = measure(reference, reference, targets)
        lost = 1 - own.agreement if own.top1 is None or full.top1 is None else full.top1 - own.top1
        return round(100 * lost, 6)

    metric = "agreement with FP32" if targets is None else "top-1"
    found, scanned = search([], drop_without, max_drop), list[Sensitivity]()
    if not found.met:
        scanned = by_cost(_scan(checkpoint, result, images, cache, progress))
        found = search(_affordable(scanned), drop_without, max_drop)
    if not found.met:
        raise _error(found, max_drop, metric, len(images), len(groups(result.plan)))
    plan = revert(result.plan, found.parts)
    search_report = {"max_drop": max_drop, "metric": metric, "images": len(images), "drop": found.drop,
                     "tries": [asdict(item) for item in found.tries]}  # fmt: skip
    report = result.report | {"reverted": _reasons(found, scanned), "search": search_report,
                              "sensitivity": [asdict(part) for part in scanned]}  # fmt: skip
    return replace(result, plan=plan, report=report)


def _affordable(scanned: list[Sensitivity]) -> list[str]:
    """Names in order, as many as `MAX_FLOAT` of the arithmetic pays for."""
    shares = np.cumsum([part.macs for part in scanned])
    return [part.name for part, share in zip(scanned, shares, strict=True) if share <= MAX_FLOAT]


def _reasons(found: Found, scanned: list[Sensitivity]) -> dict[str, str]:
    known = {part.name: part for part in scanned}
    return {name: _reason(known[name]) for name in found.parts}


def _reason(part: Sensitivity) -> str:
    return f"INT8 here makes {100 * part.noise:.1f} % of the logit noise, for {100 * part.macs:.1f} % of the arithmetic"


def _error(found: Found, max_drop: float, metric: str, images: int, parts: int) -> BudgetError:
    msg = (
        f"--max-drop {max_drop:g}: not met. Best found: {found.drop:.2f} points of {metric} lost on {images} images, with "
        f"{len(found.parts)} of {parts} parts in floating point (at most {100 * MAX_FLOAT:.0f} % of the arithmetic may be). "
        "Raise --max-drop, calibrate on more images, try --recipe best, or build with --precision fp32."
    )
    return BudgetError(msg)


def _scan(checkpoint: Checkpoint, result: Quantization, images: ImageSet, cache: Cache, progress: Progress) -> list[Sensitivity]:
    key: dict[str, Any] = result.key | {"scanned": images.digest()}
    with progress.stage("sensitivity", total=len(groups(result.plan))) as stage:
        stored = cache.find("sensitivity", **key)
        stage.cached = stored is not None
        if stored is None:
            drawn, _ = images.split(IMAGES, 0)
            frames = np.concatenate(list(drawn.prepared(checkpoint.preprocessing, IMAGES)))
            folded = fold(checkpoint.model, checkpoint.preprocessing)
            found = scan(folded, result.plan, frames, lambda _name: stage.advance())
            stored = json.dumps([asdict(part) for part in found]).encode()
            cache.store("sensitivity", stored, **key)
    return [Sensitivity(**part) for part in json.loads(stored)]


def _logits(
    model: bytes, checkpoint: Checkpoint, images: ImageSet, engine: str, threads: int | None, cache: Cache, progress: Progress
) -> Any:
    with progress.stage("search", total=len(images)) as stage:
        return evaluate(
            lambda: open_session(engine, model, threads=threads),
            model,
            images,
            checkpoint.preprocessing,
            engine=f"{backend(engine).version} on {processor()}",
            cache=cache,
            stage=stage,
        )
