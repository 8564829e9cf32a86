"""Pruning as a step: heads, hidden neurons and whole sublayers removed, the rest refitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.commands.steps.base import Work
from edgevit.commands.steps.looking import look_at_costs, scoring
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.pruning.first_pass import check_settings, score
from edgevit.pruning.layer_times import costs_on
from edgevit.pruning.settings import PruneSettings
from edgevit.pruning.to_share import prune_to_share
from edgevit.target import Target

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage


@dataclass(frozen=True)
class Prune:
    """See `edgevit.pruning.to_share.prune_to_share`."""

    settings: PruneSettings
    leaves = "fp32-pruned"
    spends = False

    @classmethod
    def of_share(cls, share: float, target: Target) -> Prune:
        """So that ``share`` (0..1) of the multiply-accumulates goes, in widths that the target packs."""
        return cls(PruneSettings(share=share, multiple=target.multiple))

    @property
    def images(self) -> int:
        """See `Step.images`."""
        return self.settings.images

    def check(self, checkpoint: Checkpoint, images: ImageSet | None) -> None:
        """See `Step.check`."""
        assert images is not None  # a request without images is refused
        check_settings(checkpoint, images, self.settings)

    def run(self, work: Work) -> Work:
        """See `Step.run`; on ``work.fitting``."""
        assert work.fitting is not None  # a request without images is refused
        costs = costs_on(work.bench, work.checkpoint.model.config, work.precision)
        done = prune_to_share(work.checkpoint, work.fitting, self.settings, costs, work.bench)
        return work.smaller(self.leaves, done, {"pruning": done.report})

    def stages(self, work: Work, dry: DryRun, *, kept: bool) -> Iterator[PlannedStage]:
        """See `Step.stages`."""
        settings, images = self.settings, work.fitting
        assert images is not None
        costs = look_at_costs(work, dry)
        dry.look(lambda: score(work.checkpoint, images, settings, work.bench, costs))
        yield from scoring(work, dry, settings, kept=kept)
        share = f"{100 * settings.share:g} % of the MACs"
        yield dry.stage("prune and refit", f"{share}, on {len(images)} images of {images.source}")
        if not kept and settings.recover:
            yield dry.stage("recover", f"{settings.recover} epochs of distillation")
