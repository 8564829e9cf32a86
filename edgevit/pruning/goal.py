"""How much to prune: a share of the arithmetic, a speed-up on the target, or as much as an accuracy budget allows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgevit.cache import Cache
from edgevit.compress.halves import Cut
from edgevit.compress.recover import RecoverSettings
from edgevit.engine.here import is_here
from edgevit.errors import BudgetError, ConfigError
from edgevit.images import ImageSet
from edgevit.model.checkpoint import Checkpoint, checkpoint_bytes, model_from
from edgevit.model.vit import Vit
from edgevit.precision.judge import Judge
from edgevit.precision.variants import code_digest, fp32_variant
from edgevit.progress import Progress
from edgevit.pruning.costs import Costs, estimated, measured, timed_speedup
from edgevit.pruning.cut import prune
from edgevit.pruning.recovery import recover
from edgevit.pruning.score import Scored, check, score
from edgevit.pruning.settings import PruneSettings
from edgevit.pruning.shapes import cut_vit_config
from edgevit.target import Target, load_target

STEP = 0.05  # of the share of MACs, between two tries of a search
TRIED = 128  # images that a try makes up on; the model that is kept uses all
TRIES = 3  # at a measured speed-up


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Where the pruned model will run, and in what precision."""

    target: Target
    precision: str
    """fp32, fp16 or int8: what layer times are measured in."""
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A pruned checkpoint and how it came about."""

    checkpoint: Checkpoint
    report: dict[str, Any]
    """JSON-ready: `Pruned.to_dict`, the settings, what a search tried."""
    summary: str
    """One line: what went."""


def prune_to(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneSettings, goal: Goal, judge: Judge | None,
    max_drop: float | None, cache: Cache, progress: Progress,
) -> Outcome:  # fmt: skip
    """``checkpoint`` pruned as ``settings`` ask, on calibration ``images``, and recovered if they ask for it.

    ``max_drop`` points by ``judge`` bound ``settings.auto``. Raises ConfigError for what cannot be reached, BudgetError
    if the smallest step costs more than ``max_drop``, DataError and StorageError as `edgevit.pruning.score.score`.
    """
    check(checkpoint, images, settings)
    costs = costs_for(checkpoint, goal, cache, progress)
    key: dict[str, Any] = {
        "weights": checkpoint.digest, "config": checkpoint.model.config.to_dict(), "images": images.digest(),
        "contract": checkpoint.preprocessing.to_dict(), "problem_type": checkpoint.problem_type,
        "settings": asdict(settings), "costs": asdict(costs),
        "judge": judge.images.digest() if judge and settings.auto else None, "max_drop": max_drop if settings.auto else None,
        "code": code_digest(),
    }  # fmt: skip
    stored, report = cache.find("pruned", **key), cache.find("pruned-report", **key)
    if stored is None or report is None:
        outcome = _prune_to(checkpoint, images, settings, goal, judge, max_drop, costs, cache, progress)
        cache.store("pruned", _bytes(outcome.checkpoint), **key)
        cache.store("pruned-report", json.dumps([outcome.report, outcome.summary]).encode(), **key)
        return outcome
    with progress.stage("prune and refit") as stage:
        stage.cached = True
        found, summary = json.loads(report)
    return Outcome(checkpoint=_with_model(checkpoint, model_from(stored)), report=found, summary=summary)


def costs_for(checkpoint: Checkpoint, goal: Goal, cache: Cache, progress: Progress) -> Costs:
    """What layers take on the target: measured if it is this machine, else by the roofline of plans compiled here."""
    config, engine = checkpoint.model.config, goal.target.engine()
    if not engine.startswith("tensorrt"):
        return measured(config, engine, goal.precision, threads=goal.threads, cache=cache, progress=progress)
    board = load_target(goal.target.boards[0]) if goal.target.boards else goal.target
    return estimated(config, board, goal.precision, cache=cache, progress=progress)


def _prune_to(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneSettings, goal: Goal, judge: Judge | None,
    max_drop: float | None, costs: Costs, cache: Cache, progress: Progress,
) -> Outcome:  # fmt: skip
    scored = score(checkpoint, images, settings, progress, costs, cache)
    extra: dict[str, Any] = {}
    if settings.share is not None:
        cuts = scored.cuts(settings.share)
    elif settings.speedup is not None:
        cuts = _cuts_for_speedup(scored, settings.speedup, goal, cache, progress)
    elif judge is None or max_drop is None:
        msg = "--prune auto needs an accuracy budget, and images to measure it on: pass --max-drop."
        raise ConfigError(msg)
    else:
        cuts, extra["search"] = _search(scored, judge, max_drop, progress)
    pruned = prune(scored, cuts, progress)
    model = pruned.model
    if settings.recover:
        recovered = recover(
            model, checkpoint, images, RecoverSettings(epochs=settings.recover, seed=settings.seed), cache, progress
        )
        model = recovered.model
        extra["recovery"] = {"loss_before": recovered.before, "loss": recovered.after, "kept": recovered.kept}
    report = pruned.to_dict() | {"settings": asdict(settings)} | extra
    return Outcome(checkpoint=_with_model(checkpoint, model), report=report, summary=f"pruned: {pruned.describe()}")


def _with_model(checkpoint: Checkpoint, model: Vit) -> Checkpoint:
    """``checkpoint`` with another model, and a digest of that."""
    changed = replace(checkpoint, model=model)
    return replace(changed, digest=hashlib.sha256(_bytes(changed)).hexdigest())


def _bytes(checkpoint: Checkpoint) -> bytes:
    return checkpoint_bytes(
        checkpoint.model, preprocessing=checkpoint.preprocessing, labels=checkpoint.labels, problem_type=checkpoint.problem_type
    )


def _cuts_for_speedup(scored: Scored, speedup: float, goal: Goal, cache: Cache, progress: Progress) -> tuple[Cut, ...]:
    """Cuts with which the model is ``speedup`` times as fast, measured where the target is this machine."""
    engine, asked = goal.target.engine(), speedup
    cuts = scored.cuts_for_speedup(asked)
    if engine.startswith("tensorrt") or not is_here(goal.target):
        return cuts
    for _ in range(TRIES):
        real = timed_speedup(
            scored.config, cut_vit_config(scored.config, cuts), engine, goal.precision, threads=goal.threads, cache=cache,
            progress=progress,
        )  # fmt: skip
        if real >= speedup:
            return cuts
        asked *= 1.01 * speedup / real
        cuts = scored.cuts_for_speedup(asked)
    return cuts


def _search(scored: Scored, judge: Judge, max_drop: float, progress: Progress) -> tuple[tuple[Cut, ...], dict[str, Any]]:
    """The most that loses at most ``max_drop`` points: bisection over shares, which takes more pruning to lose no less."""
    tries: dict[float, float] = {}
    cuts: dict[float, tuple[Cut, ...]] = {}
    shares = [round(STEP * step, 2) for step in range(1, int(0.6 / STEP) + 1)]

    def fits(share: float) -> bool:
        try:
            cuts[share] = scored.cuts(share)
        except ConfigError:
            return False
        pruned = prune(scored, cuts[share], progress, TRIED)
        graph = fp32_variant(replace(scored.checkpoint, model=pruned.model), judge.engine).model
        tries[share] = judge.drop(graph)
        return tries[share] <= max_drop

    low, high = -1, len(shares)
    while high - low > 1:
        middle = (low + high) // 2 if low >= 0 or high < len(shares) else 3  # 20 % first: where most models end
        low, high = (middle, high) if fits(shares[middle]) else (low, middle)
    report = {"max_drop": max_drop, "metric": judge.metric, "images": len(judge.images),
              "tries": [{"share": share, "drop": drop} for share, drop in tries.items()]}  # fmt: skip
    if low < 0:
        best = tries.get(shares[0], float("nan"))
        msg = (
            f"--prune auto: not met. Removing {100 * shares[0]:g} % of the MACs loses {best:.2f} points of {judge.metric} on "
            f"{len(judge.images)} images, and {max_drop:g} are allowed. Raise --max-drop, pass more --data, or do not prune."
        )
        raise BudgetError(msg)
    return cuts[shares[low]], report
