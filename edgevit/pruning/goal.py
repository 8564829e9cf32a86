"""How much to prune: a share of the arithmetic, a speed-up on the target, or as much as an accuracy budget allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgevit.cache import Kind
from edgevit.engine import backend
from edgevit.engine.base import processor
from edgevit.engine.here import is_here
from edgevit.engines import traits_of
from edgevit.errors import BudgetError, ConfigError
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.digest import model_digest
from edgevit.model.vit import Vit
from edgevit.pruning.costs import Costs, estimated, macs_only, measured, timed_speedup
from edgevit.pruning.distillation import RecoverSettings
from edgevit.pruning.first_pass import Scored, check_settings, score
from edgevit.pruning.recover import recover
from edgevit.pruning.second_pass import Pruned, prune
from edgevit.pruning.settings import PruneSettings
from edgevit.pruning.shapes import cut_vit_config
from edgevit.pruning.smaller import Smaller, kept
from edgevit.pruning.sublayers import Cut
from edgevit.target import load_target
from edgevit.workbench import Workbench

PRUNED, PRUNED_REPORT = Kind("pruned", __name__), Kind("pruned-report", __name__)
STEP = 0.05  # of the share of MACs, between two tries of a search
TRIED = 128  # images that a try makes up on; the model that is kept uses all
TRIES = 6  # at a measured speed-up


def prune_to(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneSettings, precision: str, bench: Workbench,
    budget: Budget | None = None,
) -> Smaller:  # fmt: skip
    """``checkpoint`` pruned as ``settings`` ask, on calibration ``images``, and recovered if they ask for it.

    ``precision`` (fp32, fp16 or int8) is what layer times are taken in. ``budget`` bounds ``settings.auto``; a speed-up is
    measured where this machine is the target's CPU. What is returned keeps the bound, or reaches the speed-up. Raises
    ConfigError for what cannot be reached, BudgetError if the smallest step costs more than the budget, DataError and
    StorageError as `edgevit.pruning.first_pass.score`.
    """
    check_settings(checkpoint, images, settings)
    if settings.auto and budget is None:
        msg = "--prune auto needs an accuracy budget, and images to measure it on: pass --max-drop."
        raise ConfigError(msg)
    costs = costs_for(checkpoint, precision, bench)
    key = _key(checkpoint, images, settings, costs, bench, budget)
    kinds = (PRUNED, PRUNED_REPORT)
    return kept(
        checkpoint, kinds, key, "prune and refit", bench,
        lambda: _prune_to(checkpoint, images, settings, precision, bench, budget, costs),
    )  # fmt: skip


def _key(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneSettings, costs: Costs, bench: Workbench, budget: Budget | None
) -> dict[str, Any]:  # fmt: skip
    """What the outcome depends on, beside its code."""
    targets = images.truth_for(checkpoint.labels, checkpoint.problem_type)  # recovery and `taylor` read them
    return {
        "model": model_digest(checkpoint.model), "contract": checkpoint.preprocessing.to_dict(), "images": images.digest(),
        "targets": None if targets is None else targets.tolist(), "problem_type": checkpoint.problem_type,
        "settings": asdict(settings), "costs": asdict(costs),
        "threads": bench.threads if settings.speedup is not None else None,
        "budget": [budget.evaluator.identity(), budget.max_drop] if budget is not None and settings.auto else None,
    }  # fmt: skip


def costs_for(checkpoint: Checkpoint, precision: str, bench: Workbench) -> Costs:
    """What layers take on the target.

    Those of an engine that compiles in a second are measured where this machine is the target; where the builder lists its
    kernels, they are estimated by the roofline of plans compiled here; without either, multiply-accumulates: another CPU's
    milliseconds would optimise for the wrong one.
    """
    config, target, traits = checkpoint.model.config, bench.target, traits_of(bench.engine)
    if traits.lists_kernels:
        board = load_target(target.boards[0]) if target.boards else target
        return estimated(config, board, precision, bench)
    if traits.ahead_of_time or not is_here(target):
        return macs_only(config)
    return measured(config, precision, bench)


def _prune_to(
    checkpoint: Checkpoint, images: ImageSet, settings: PruneSettings, precision: str, bench: Workbench, budget: Budget | None,
    costs: Costs,
) -> Smaller:  # fmt: skip
    scored = score(checkpoint, images, settings, bench, costs)

    def make(cuts: Sequence[Cut]) -> _Made:
        return _make(scored, cuts, checkpoint, images, bench)

    report: dict[str, Any] = {}
    faster = ""
    if settings.share is not None:
        made = make(scored.cuts(settings.share))
    elif settings.speedup is not None:
        cuts, report["measured"] = _cuts_for_speedup(scored, settings.speedup, precision, bench)
        made = make(cuts)
        faster = _faster(made.pruned, report["measured"])
    else:
        assert budget is not None  # `prune_to`
        made, report["search"] = _search(scored, make, budget, bench)
    report = made.pruned.to_dict() | {"settings": asdict(settings)} | made.report | report
    summary = f"pruned: {made.pruned.describe()}{faster}"
    return Smaller(checkpoint=checkpoint.with_model(made.model), report=report, summary=summary)


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A model that could be kept: pruned on all images, and recovered if that was asked for."""

    pruned: Pruned
    model: Vit
    report: dict[str, Any]
    """What recovery did."""


def _make(scored: Scored, cuts: Sequence[Cut], checkpoint: Checkpoint, images: ImageSet, bench: Workbench) -> _Made:
    pruned, settings = prune(scored, cuts, bench), scored.settings
    if not settings.recover:
        return _Made(pruned=pruned, model=pruned.model, report={})
    epochs = RecoverSettings(epochs=settings.recover, seed=settings.seed)
    recovered = recover(pruned.model, checkpoint, images, epochs, bench)
    report = {"loss_before": recovered.before, "loss": recovered.after, "kept": recovered.kept}
    return _Made(pruned=pruned, model=recovered.model, report={"recovery": report})


def _cuts_for_speedup(
    scored: Scored, speedup: float, precision: str, bench: Workbench
) -> tuple[tuple[Cut, ...], dict[str, Any] | None]:
    """Cuts with which the model is ``speedup`` times as fast, and what was measured; None where this is not the target's CPU.

    What is returned has itself been measured. Raises ConfigError with the best measured if `TRIES` do not reach it.
    """
    engine, asked = bench.engine, speedup
    cuts = scored.cuts_for_speedup(asked)
    if traits_of(engine).ahead_of_time or not is_here(bench.target):
        return cuts, None
    measured_at = f"{precision} on {backend(engine).version} on {processor()}"
    reached: list[float] = []
    while len(reached) < TRIES:
        real = timed_speedup(scored.config, cut_vit_config(scored.config, cuts), precision, bench)
        reached.append(real)
        if real >= speedup:
            return cuts, {"speedup": real, "tries": len(reached), "on": measured_at}
        more = _more_cuts(scored, cuts, asked, asked * 1.01 * speedup / real)
        if more is None:
            break
        asked, cuts = more
    msg = (
        f"--speedup {speedup:g}: not reached. The fastest of {len(reached)} tries is {max(reached):.2f} times as fast, measured "
        f"in {measured_at}. Ask for less, or say how much goes with --prune."
    )
    raise ConfigError(msg)


def _more_cuts(scored: Scored, cuts: Sequence[Cut], asked: float, wanted: float) -> tuple[float, tuple[Cut, ...]] | None:
    """Other cuts than ``cuts``, which ``asked`` gave, for about ``wanted``, with what gives them; None if there are none.

    The same cuts are not measured again until they please: further is asked for, and where the costs allow no more, nearer.
    """
    for step in (1.0, 2.0, 4.0, 8.0, 0.5, 0.25, 0.125):
        further = asked + step * (wanted - asked)
        with suppress(ConfigError):
            found = scored.cuts_for_speedup(further)
            if cut_vit_config(scored.config, found) != cut_vit_config(scored.config, cuts):
                return further, found
    return None


def _faster(pruned: Pruned, found: dict[str, Any] | None) -> str:
    """How much faster, in words: measured, or by what else."""
    if found is not None:
        return f"; {found['speedup']:.2f} times as fast, measured in {found['on']}"
    return f"; {pruned.speedup:.2f} times as fast by {pruned.cost} alone, not measured: time it on the target"


def _search(
    scored: Scored, make: Callable[[Sequence[Cut]], _Made], budget: Budget, bench: Workbench
) -> tuple[_Made, dict[str, Any]]:
    """The most that loses at most ``max_drop`` points: bisection over shares, which takes more pruning to lose no less.

    A try makes up on `TRIED` images and is not recovered. What it finds is made in full and judged again; if that loses too
    much, as does the next smaller share.
    """
    evaluator, max_drop = budget.evaluator, budget.max_drop
    tries: dict[float, float] = {}
    cuts: dict[float, tuple[Cut, ...]] = {}
    shares = [round(STEP * step, 2) for step in range(1, int(0.6 / STEP) + 1)]

    def drop(model: Vit) -> float:
        return evaluator.drop(fp32_variant(replace(scored.checkpoint, model=model), evaluator.engine).model)

    def fits(share: float) -> bool:
        try:
            cuts[share] = scored.cuts(share)
        except ConfigError:
            return False
        tries[share] = drop(prune(scored, cuts[share], bench, TRIED).model)
        return tries[share] <= max_drop

    low, high = -1, len(shares)
    while high - low > 1:
        middle = (low + high) // 2 if low >= 0 or high < len(shares) else 3  # 20 % first: where most models end
        low, high = (middle, high) if fits(shares[middle]) else (low, middle)
    if shares[0] not in tries and low < 0:
        msg = f"--prune auto: not even {100 * shares[0]:g} % of the MACs of this model can be removed. Build it without --prune."
        raise ConfigError(msg)
    kept: dict[float, float] = {}
    for share in reversed(shares[: low + 1]):
        made = make(cuts[share] if share in cuts else scored.cuts(share))
        kept[share] = drop(made.model)
        if kept[share] <= max_drop:
            return made, {
                "max_drop": max_drop, "metric": evaluator.metric, "images": len(evaluator.images), "drop": kept[share],
                "tries": _listed(tries), "kept": _listed(kept),
            }  # fmt: skip
    best = kept.get(shares[0], tries.get(shares[0]))
    msg = (
        f"--prune auto: not met. Removing {100 * shares[0]:g} % of the MACs loses {best:.2f} points of {evaluator.metric} on "
        f"{len(evaluator.images)} images, and {max_drop:g} are allowed. Raise --max-drop, pass more --data, or do not prune."
    )
    raise BudgetError(msg)


def _listed(drops: Mapping[float, float]) -> list[dict[str, float]]:
    return [{"share": share, "drop": drop} for share, drop in drops.items()]
