"""A model made faster by whatever harms it least: a speed-up on the target, or as much as an accuracy budget allows."""

from __future__ import annotations

from typing import Any

from edgevit.cache import Kind
from edgevit.engine.base import available_threads
from edgevit.errors import ConfigError
from edgevit.export.form import form_for
from edgevit.export.merging import can_merge_in
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.vit import Vit
from edgevit.pruning.costs import Costs
from edgevit.pruning.first_pass import check_settings, score
from edgevit.pruning.layer_times import costs_on
from edgevit.pruning.make import Made, made_by, make
from edgevit.pruning.second_pass import prune
from edgevit.pruning.smaller import Smaller, kept
from edgevit.search.schedules import schedules
from edgevit.search.settings import SearchSettings
from edgevit.search.speedup import faster, shape_for_speedup
from edgevit.search.trade import Shape, Trade
from edgevit.search.within_budget import Making, most_within
from edgevit.tokens.merge import merging
from edgevit.tokens.refit import merged_report, merged_summary, require_mergeable
from edgevit.tokens.settings import merges_in
from edgevit.workbench import Workbench

FASTER, FASTER_REPORT = Kind("faster", __name__), Kind("faster-report", __name__)
TRIED = 128  # images that a try of a budget makes up on; the model that is kept uses all


def search(
    checkpoint: Checkpoint, images: ImageSet, settings: SearchSettings, precision: str, bench: Workbench,
    budget: Budget | None = None,
) -> Smaller:  # fmt: skip
    """``checkpoint`` made faster as ``settings`` ask, refitted on calibration ``images``, and recovered if they ask for it.

    Tokens are merged, and heads, neurons and sublayers removed, as does least harm for the time it saves on the bench's target
    (see `edgevit.search.trade`). ``precision`` (fp32, fp16 or int8) is what layer times are taken in. ``budget`` bounds
    ``settings.auto``; a speed-up is measured where this machine is the target's CPU. What is returned keeps the bound, or
    reaches the speed-up. Raises ConfigError for what cannot be reached, BudgetError if the smallest step costs more than the
    budget, DataError and StorageError as `edgevit.pruning.first_pass.score`.
    """
    check_search(checkpoint, images, settings)
    if settings.auto and budget is None:
        msg = "--prune auto needs an accuracy budget, and images to measure it on: pass --max-drop."
        raise ConfigError(msg)
    costs = costs_on(bench, checkpoint.model.config, precision)
    key: dict[str, Any] = made_by(checkpoint, images, settings, costs) | {
        "threads": bench.threads or available_threads() if settings.speedup is not None else None,
        "budget": [budget.evaluator.identity(), budget.max_drop] if budget is not None and settings.auto else None,
    }
    return kept(
        checkpoint, (FASTER, FASTER_REPORT), key, "prune and refit", bench,
        lambda: _search(checkpoint, images, settings, precision, bench, budget, costs),
    )  # fmt: skip


def check_search(checkpoint: Checkpoint, images: ImageSet, settings: SearchSettings) -> None:
    """Raise, before anything slow, as `edgevit.pruning.first_pass.check_settings`; ConfigError for merges it cannot have."""
    check_settings(checkpoint, images, settings)
    if settings.merge is not None:
        require_mergeable(checkpoint, settings.merge)


def trade_for(
    checkpoint: Checkpoint, images: ImageSet, settings: SearchSettings, precision: str, bench: Workbench, costs: Costs
) -> Trade:  # fmt: skip
    """All that there is to choose from, from the cache if it was asked before."""
    scored = score(checkpoint, images, settings, bench, costs)
    tokens = settings.tokens and can_merge_in(checkpoint.model.config, form_for(bench.engine, precision))
    families = schedules(checkpoint, scored.images, settings.merge, bench, tokens=tokens)
    return Trade(scored=scored, schedules=families)


def _search(
    checkpoint: Checkpoint, images: ImageSet, settings: SearchSettings, precision: str, bench: Workbench, budget: Budget | None,
    costs: Costs,
) -> Smaller:  # fmt: skip
    trade = trade_for(checkpoint, images, settings, precision, bench, costs)

    def merged(shape: Shape) -> Vit:  # a model that merges already does so as before
        return merging(checkpoint.model, shape.merges)

    def fully(shape: Shape) -> Made:
        return make(trade.scored, shape.cuts, images, bench, onto=merged(shape))

    def roughly(shape: Shape) -> Vit:
        return prune(trade.scored, shape.cuts, bench, TRIED, onto=merged(shape)).model

    if settings.speedup is not None:
        shape, measured = shape_for_speedup(trade, settings.speedup, precision, bench)
        made = fully(shape)
        more, said = {"measured": measured}, faster(made.pruned, measured)
    else:
        assert budget is not None  # `search`
        shape, made, found = most_within(trade, Making(roughly=roughly, fully=fully), budget)
        more, said = {"search": found}, ""
    before, after = checkpoint.model.config, made.model.config
    report, tokens = made.report | more | {"expected_harm": shape.harm}, ""
    if shape.merges and not merges_in(before):
        report["merging"], tokens = merged_report(before, after), f"; merged: {merged_summary(before, after)}"
    summary = f"pruned: {made.pruned.describe()}{tokens}{said}"
    return Smaller(checkpoint=checkpoint.with_model(made.model), report=report, summary=summary)
