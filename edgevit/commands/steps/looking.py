"""The stages of a dry run that pruning and a search have in common: layer times, and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgevit.commands.steps.base import Work
from edgevit.engines import traits_of
from edgevit.pruning.costs import Costs
from edgevit.pruning.layer_times import costs_on, is_timed_here
from edgevit.pruning.settings import PruneMethod

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage


def look_at_costs(work: Work, dry: DryRun) -> Costs | None:
    """Those that are kept; None if they would have to be measured."""
    return dry.look(lambda: costs_on(work.bench, work.checkpoint.model.config, work.precision))


def scoring(work: Work, dry: DryRun, method: PruneMethod, *, kept: bool) -> Iterator[PlannedStage]:
    """Layer times, and what every sublayer could be cut to; ``kept`` as `Step.stages` has it."""
    bench, images = work.bench, work.fitting
    assert images is not None
    if is_timed_here(bench):
        yield dry.stage("measure layer times", f"of every width, in {work.precision} with {bench.engine}")
    elif traits_of(bench.engine).lists_kernels and (builder := dry.builder()):
        yield dry.stage(f"estimate layer times by {builder}", f"of every width, in {work.precision}")
    if kept:
        return
    if not dry.seen("score"):
        if method.score == "taylor":
            yield dry.stage("gradients of the loss", "for --score taylor")
        yield dry.stage("gradients", "how much each token and channel counts")
    yield dry.stage("score", f"by {method.score}, on {len(images)} images of {images.source} at most")
