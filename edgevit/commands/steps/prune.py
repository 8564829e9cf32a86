"""Pruning as a step: heads, hidden neurons and whole sublayers removed, the rest refitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgevit.commands.steps.base import Work
from edgevit.engine.here import is_here
from edgevit.engines import traits_of
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.pruning.first_pass import check_settings, score
from edgevit.pruning.goal import costs_for, prune_to
from edgevit.pruning.settings import PruneSettings
from edgevit.target import Target

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage

SHOWN = ("share", "speedup", "measured", "cost", "settings")
"""Of the report, what a manifest keeps."""


@dataclass(frozen=True)
class Prune:
    """See `edgevit.pruning.goal.prune_to`."""

    settings: PruneSettings
    leaves = "fp32-pruned"

    @classmethod
    def of_share(cls, share: float, target: Target) -> Prune:
        """So that ``share`` (0..1) of the multiply-accumulates goes, in widths that the target packs."""
        return cls(PruneSettings(share=share, multiple=target.multiple))

    @property
    def images(self) -> int:
        """See `Step.images`."""
        return self.settings.images

    @property
    def spends(self) -> bool:
        """See `Step.spends`."""
        return self.settings.auto

    def check(self, checkpoint: Checkpoint, images: ImageSet | None) -> None:
        """See `Step.check`."""
        assert images is not None  # a request without images is refused
        check_settings(checkpoint, images, self.settings)

    def run(self, work: Work) -> Work:
        """See `Step.run`; on ``work.fitting``."""
        assert work.fitting is not None  # a request without images is refused
        outcome = prune_to(work.checkpoint, work.fitting, self.settings, work.precision, work.bench, work.budget)
        return replace(
            work,
            checkpoint=outcome.checkpoint,
            between=(*work.between, (self.leaves, outcome.checkpoint)),
            notes=(*work.notes, outcome.summary),
            report={**work.report, "pruning": outcome.report},
            provenance={**work.provenance, "pruning": {key: outcome.report[key] for key in SHOWN if key in outcome.report}},
        )

    def stages(self, work: Work, dry: DryRun, *, kept: bool) -> Iterator[PlannedStage]:
        """See `Step.stages`."""
        settings, bench, images = self.settings, work.bench, work.fitting
        assert images is not None
        costs = dry.look(lambda: costs_for(work.checkpoint, work.precision, bench))
        dry.look(lambda: score(work.checkpoint, images, settings, bench, costs))
        timed_here = not traits_of(bench.engine).ahead_of_time and is_here(bench.target)
        if timed_here:
            yield dry.stage("measure layer times", f"of every width, in {work.precision} with {bench.engine}")
        elif traits_of(bench.engine).lists_kernels and (builder := dry.builder()):
            yield dry.stage(f"estimate layer times by {builder}", f"of every width, in {work.precision}")
        if not kept:
            if not dry.seen("score"):
                if settings.score == "taylor":
                    yield dry.stage("gradients of the loss", "for --score taylor")
                yield dry.stage("gradients", "how much each token and channel counts")
            yield dry.stage("score", f"by {settings.score}, on {len(images)} images of {images.source} at most")
            if settings.speedup is not None and timed_here:
                yield dry.stage("measure the speed-up", f"until it is {settings.speedup:g}")
        yield dry.stage("prune and refit", f"{_how_much(settings)}, on {len(images)} images of {images.source}")
        if not kept and settings.recover:
            yield dry.stage("recover", f"{settings.recover} epochs of distillation")


def _how_much(settings: PruneSettings) -> str:
    if settings.share is not None:
        return f"{100 * settings.share:g} % of the MACs"
    return f"for a speed-up of {settings.speedup:g}" if settings.speedup is not None else "as much as the budget allows"
