"""The second pass of pruning: cut, and make up for it layer by layer, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgevit.model.folded import FoldedVit
from edgevit.model.macs import macs
from edgevit.model.rewrites.folding import fold
from edgevit.model.rewrites.unfolding import unfold
from edgevit.model.token_store import TokenStream
from edgevit.model.vit import Vit
from edgevit.part import named
from edgevit.pruning.compensation import Compensation, compensate
from edgevit.pruning.first_pass import Scored, write_embedded
from edgevit.pruning.sublayers import Cut, cut_model, units
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class SublayerReport(Compensation):
    """What happened to one sublayer."""

    before: int
    """Heads or hidden neurons."""
    after: int
    left: str
    """``part``, ``map`` or ``bias``; see `Cut`."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A pruned model, and what was done to it."""

    model: Vit
    sublayers: tuple[SublayerReport, ...]
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
        return report | {"halves": [named(item) for item in self.sublayers]}

    def describe(self) -> str:
        """One line: what went."""
        attention = [item for item in self.sublayers if item.sublayer.kind == "attention"]
        mlp = [item for item in self.sublayers if item.sublayer.kind == "mlp"]
        gone = [str(item.sublayer) for item in self.sublayers if item.left != "part" and item.before]
        return f"{100 * self.share:.1f} % of the MACs removed: {_removed(attention)} heads and {_removed(mlp)} hidden neurons" + (
            f"; nothing but a map or a bias left of {', '.join(gone)}" if gone else ""
        )


def _removed(reports: Sequence[SublayerReport]) -> str:
    before, after = sum(item.before for item in reports), sum(item.after for item in reports)
    return f"{before - after} of {before}"


def prune(
    scored: Scored, cuts: Sequence[Cut], bench: Workbench, images: int | None = None, onto: Vit | None = None
) -> Pruned:  # fmt: skip
    """The second pass: cut, and make up for it on ``images`` of the calibration images, all by default. Labels are not read.

    ``onto`` is what is cut: the scored model by default, or the same with tokens merged, which the one refit makes up for, too.
    """
    checkpoint, chosen = scored.checkpoint, scored.images.subset(range(min(images or len(scored.images), len(scored.images))))
    model, onto = fold(checkpoint.model, checkpoint.preprocessing), onto or checkpoint.model
    whole = fold(onto, checkpoint.preprocessing)
    with bench.stage("prune and refit", total=2 * len(model.blocks)) as stage, TokenStream() as wanted, TokenStream() as got:
        write_embedded(model, chosen, checkpoint, wanted, got)
        blocks, made = compensate(
            model, cut_model(whole, cuts), (wanted, got), scored.influences, scored.settings.compensation, stage.advance
        )
    result = unfold(onto, blocks)
    before, after = model.config, result.config
    return Pruned(
        model=result,
        sublayers=tuple(_reported(item, cut, model) for item, cut in zip(made, cuts, strict=True)),
        macs_before=macs(before),
        macs=macs(after),
        speedup=scored.costs.total(before) / scored.costs.total(after),
        cost=scored.costs.source,
        images=len(chosen),
    )


def _reported(made: Compensation, cut: Cut, model: FoldedVit) -> SublayerReport:
    before = units(model.blocks[made.sublayer.block], made.sublayer.kind)
    return SublayerReport(
        sublayer=made.sublayer, before=before, after=len(cut.kept), left=cut.left, error_before=made.error_before,
        error=made.error, refit=made.refit, ridge=made.ridge,
    )  # fmt: skip
