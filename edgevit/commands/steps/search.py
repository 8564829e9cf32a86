"""A search as a step: tokens, heads, neurons and sublayers, whatever does least harm for the time it saves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.commands.steps.base import Work
from edgevit.commands.steps.looking import look_at_costs, scoring
from edgevit.commands.steps.merge import require_countable
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.pruning.costs import macs_only
from edgevit.pruning.layer_times import is_timed_here
from edgevit.search.schedules import can_merge
from edgevit.search.search import check_search, search, trade_for
from edgevit.search.settings import SearchSettings
from edgevit.target import Target
from edgevit.tokens.settings import merges_of, merges_text

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage


@dataclass(frozen=True)
class Search:
    """See `edgevit.search.search.search`."""

    settings: SearchSettings
    leaves = "fp32-faster"

    @classmethod
    def of_speedup(cls, speedup: float, target: Target) -> Search:
        """So that the model is ``speedup`` (1..10) times as fast, in widths that the target packs."""
        return cls(SearchSettings(speedup=speedup, multiple=target.multiple))

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
        check_search(checkpoint, images, self.settings)

    def run(self, work: Work) -> Work:
        """See `Step.run`; on ``work.fitting``."""
        assert work.fitting is not None  # a request without images is refused
        if self.settings.merge is not None:
            require_countable(work)
        done = search(work.checkpoint, work.fitting, self.settings, work.precision, work.bench, work.budget)
        pruning = dict(done.report)
        merging = pruning.pop("merging", None)
        return work.smaller(self.leaves, done, {"pruning": pruning} | ({"merging": merging} if merging else {}))

    def stages(self, work: Work, dry: DryRun, *, kept: bool) -> Iterator[PlannedStage]:
        """See `Step.stages`."""
        settings, images = self.settings, work.fitting
        assert images is not None
        costs = look_at_costs(work, dry) or macs_only(work.checkpoint.model.config)
        dry.look(lambda: trade_for(work.checkpoint, images, settings, work.precision, work.bench, costs))
        yield from scoring(work, dry, settings, kept=kept)
        if not kept:
            if settings.merge is not None or (settings.tokens and can_merge(work.checkpoint.model.config)):
                yield dry.stage("score merges", _merges(settings, work))
            if settings.speedup is not None and is_timed_here(work.bench):
                yield dry.stage("measure the speed-up", f"until it is {settings.speedup:g}")
        yield dry.stage("prune and refit", f"{_how_much(settings)}, on {len(images)} images of {images.source}")
        if not kept and settings.recover:
            yield dry.stage("recover", f"{settings.recover} epochs of distillation")


def _merges(settings: SearchSettings, work: Work) -> str:
    if settings.merge is None:
        return "the harm of merging so many tokens here and there"
    return f"the harm of merging {merges_text(merges_of(settings.merge, work.checkpoint.model.config))} tokens"


def _how_much(settings: SearchSettings) -> str:
    return f"for a speed-up of {settings.speedup:g}" if settings.speedup is not None else "as much as the budget allows"
