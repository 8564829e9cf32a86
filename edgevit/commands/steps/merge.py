"""Token merging as a step: fewer tokens from some blocks on, the rest refitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.commands.steps.base import Work
from edgevit.errors import ConfigError
from edgevit.export.form import form_for
from edgevit.export.merging import MOST, is_countable
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.target import Target
from edgevit.tokens.refit import is_refitted, merge, require_mergeable
from edgevit.tokens.settings import MergeSettings, merges_of, merges_text

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage


@dataclass(frozen=True)
class Merge:
    """See `edgevit.tokens.refit.merge`."""

    settings: MergeSettings
    leaves = "fp32-merged"
    spends = False

    @classmethod
    def of_share(cls, share: float, _target: Target) -> Merge:
        """So that ``share`` (0..1) of the multiply-accumulates goes, or a little more."""
        return cls(MergeSettings(share=share))

    @property
    def images(self) -> int:
        """See `Step.images`."""
        return self.settings.images if self.settings.refit else 0

    def check(self, checkpoint: Checkpoint, images: ImageSet | None) -> None:
        """See `Step.check`."""
        require_mergeable(checkpoint, self.settings)

    def run(self, work: Work) -> Work:
        """See `Step.run`; on ``work.fitting``, held against the model as it came."""
        require_countable(work)
        done = merge(work.checkpoint, self.settings, work.fitting, work.bench, work.original)
        return work.smaller(self.leaves, done, {"merging": done.report})

    def stages(self, work: Work, dry: DryRun, *, kept: bool) -> Iterator[PlannedStage]:
        """See `Step.stages`."""
        images = work.fitting
        if images is None or not is_refitted(self.settings, images):
            return
        if not kept:
            yield dry.stage("influence of tokens", "by gradients: how much each counts")
        merges = merges_text(merges_of(self.settings, work.checkpoint.model.config))
        yield dry.stage(
            "merge and refit", f"{merges} tokens, on {min(len(images), self.settings.images)} images of {images.source}"
        )


def require_countable(work: Work) -> None:
    """Raise ConfigError, before anything is fitted, where the target's graph could not merge so many tokens."""
    tokens, form = work.checkpoint.model.config.tokens, form_for(work.bench.engine, work.precision)
    if not is_countable(tokens, form):
        msg = (
            f"--merge: {work.bench.target.name} computes in FP16, which counts to {MOST} exactly, and this model has {tokens} "
            "tokens. Build without --merge, for a smaller --image-size, or with --precision fp32."
        )
        raise ConfigError(msg)
