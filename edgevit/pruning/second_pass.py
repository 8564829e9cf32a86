"""The second pass of pruning: cut, and make up for it layer by layer, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgevit.model.folded import fold
from edgevit.model.macs import macs
from edgevit.model.unfold import unfold
from edgevit.model.vit import Vit
from edgevit.pruning.compensation import HalfReport, compensate
from edgevit.pruning.first_pass import Scored, write_embedded
from edgevit.pruning.sublayers import Cut
from edgevit.pruning.token_store import Stream
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A pruned model, and what was done to it."""

    model: Vit
    halves: tuple[HalfReport, ...]
    macs_before: int
    """Multiply-accumulates of one image."""
    macs: int
    speedup: float
    """Time before over time after, by the costs that the allocation went by."""
    cost: str
    """What those costs are."""
    images: int
    """Calibration images used."""

    @property
    def share(self) -> float:
        """Of the multiply-accumulates that were removed, 0..1."""
        return 1 - self.macs / self.macs_before

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready report, without the model."""
        report = {key: getattr(self, key) for key in ("macs_before", "macs", "share", "speedup", "cost", "images")}
        return report | {"halves": [asdict(half) for half in self.halves]}

    def describe(self) -> str:
        """One line: what went."""
        heads = sum(half.before - half.after for half in self.halves if half.name.endswith("attention"))
        neurons = sum(half.before - half.after for half in self.halves if half.name.endswith("mlp"))
        gone = [half.name for half in self.halves if half.left != "part" and half.before]
        return (
            f"{100 * self.share:.1f} % of the MACs removed: {heads} of {_total(self.halves, 'attention')} heads and {neurons} of "
            f"{_total(self.halves, 'mlp')} hidden neurons"
            + (f"; nothing but a map or a bias left of {', '.join(gone)}" if gone else "")
        )


def _total(reports: Sequence[HalfReport], kind: str) -> int:
    return sum(half.before for half in reports if half.name.endswith(kind))


def prune(scored: Scored, cuts: Sequence[Cut], bench: Workbench, images: int | None = None) -> Pruned:
    """The second pass: cut, and make up for it on ``images`` of the calibration images, all by default. Labels are not read."""
    checkpoint, chosen = scored.checkpoint, scored.images.subset(range(min(images or len(scored.images), len(scored.images))))
    model = fold(checkpoint.model, checkpoint.preprocessing)
    with bench.stage("prune and refit", total=2 * len(model.blocks)) as stage, Stream() as wanted, Stream() as got:
        write_embedded(model, chosen, checkpoint, wanted, got)
        blocks, reports = compensate(model, cuts, (wanted, got), scored.influences, scored.settings.compensation, stage.advance)
    result = unfold(checkpoint.model, blocks)
    before, after = model.config, result.config
    return Pruned(
        model=result,
        halves=tuple(reports),
        macs_before=macs(before),
        macs=macs(after),
        speedup=scored.costs.total(before) / scored.costs.total(after),
        cost=scored.costs.source,
        images=len(chosen),
    )
