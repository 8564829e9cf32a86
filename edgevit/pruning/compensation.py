"""Make up for what was cut, in closed form and in network order, against the unpruned model.

The model and what is left of it run side by side. Behind every sublayer the layer that writes to the stream is refitted on
its own inputs in the pruned model, so that the pruned stream is what the unpruned one is: each sublayer also makes up for what is
left of the errors before it. (Layer-wise least squares against the teacher's output, as OB2C, arXiv 2608.17657, has it;
here the target is the residual stream and not the layer's own output.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgevit.model.folded import FoldedBlock, FoldedVit
from edgevit.part import Sublayer
from edgevit.pruning.gradients import Influence
from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import Refit, bias_only, held_out_refit, mean_error, unchanged
from edgevit.pruning.sublayers import Cut, cut_block, reads, refitted, replace_block, sublayers, writer, writes
from edgevit.pruning.token_store import Stream, is_held_out


@dataclass(frozen=True, kw_only=True)
class SublayerReport:
    """What happened to one sublayer. Errors are shares 0.. of the variance of the unpruned stream behind it."""

    sublayer: Sublayer
    before: int
    """Heads or hidden neurons."""
    after: int
    left: str
    """``part``, ``map`` or ``bias``; see `Cut`."""
    error_before: float
    """On held-out images, with nothing made up for in this sublayer."""
    error: float
    """The same after the refit."""
    refit: str
    """``ridge``, ``bias``, or ``none`` where no change held on the held-out images."""
    ridge: float
    """Share of each input's variance."""


def cut_model(model: FoldedVit, cuts: Sequence[Cut]) -> FoldedVit:
    """``model`` with every sublayer cut, in network order; nothing makes up for it."""
    blocks = []
    for index, block in enumerate(model.blocks):
        attention, mlp = cuts[2 * index], cuts[2 * index + 1]
        blocks.append(cut_block(cut_block(block, "attention", attention), "mlp", mlp))
    return replace(model, blocks=blocks)


def compensate(
    model: FoldedVit, cuts: Sequence[Cut], streams: tuple[Stream, Stream], influences: Sequence[Influence], method: str,
    advance: Callable[[int], None],
) -> tuple[list[FoldedBlock], list[SublayerReport]]:  # fmt: skip
    """The blocks that are left of ``model``, refitted, and what happened to each sublayer.

    Both ``streams`` hold what block 0 takes, and are used up. ``influences``, by sublayer, say how much each token counts.
    ``method``: ``ridge``, ``bias`` alone, or ``none``.
    """
    wanted, got = streams
    pruned, reports = cut_model(model, cuts), []
    for sublayer, cut, influence in zip(sublayers(model), cuts, influences, strict=True):
        with Stream() as inputs:
            lacking = _compare(model, pruned, sublayer, (wanted, got, inputs), influence)
            refit = _refit(lacking, method)
            pruned = replace_block(pruned, sublayer.block, refitted(pruned.blocks[sublayer.block], sublayer.kind, refit))
            for batch in range(len(got)):
                got.replace(batch, got.read(batch) + writes(pruned, sublayer, inputs.read(batch)))
        advance(1)
        reports.append(_report(sublayer, model, cut, refit, lacking))
    return list(pruned.blocks), reports


@dataclass(frozen=True, kw_only=True)
class _Lacking:
    """What the pruned stream lacks behind a sublayer, beside what the sublayer's writer reads."""

    fit: Moments
    held_out: Moments
    variance: float
    """Of the unpruned stream on the held-out images, summed over channels."""


def _compare(
    model: FoldedVit, pruned: FoldedVit, sublayer: Sublayer, streams: tuple[Stream, Stream, Stream], influence: Influence
) -> _Lacking:  # fmt: skip
    """Run a sublayer of both. Afterwards the first stream is behind it, the second what it adds to, the third what it reads."""
    wanted, got, inputs = streams
    channels, width = writer(pruned.blocks[sublayer.block], sublayer.kind).weight.shape[1], model.config.width
    fit, held_out, output = Moments.none(channels, width), Moments.none(channels, width), Moments.none(0, width)
    for batch in range(len(got)):
        kept, read = reads(model, sublayer, wanted.read(batch))
        target = kept + writes(model, sublayer, read)
        kept, read = reads(pruned, sublayer, got.read(batch))
        lacks = target - kept - writes(pruned, sublayer, read)
        if is_held_out(batch):
            held_out, output = held_out.add(read, lacks, influence.tokens), output.add(target[..., :0], target, influence.tokens)
        else:
            fit = fit.add(read, lacks, influence.counts)
        wanted.replace(batch, target)
        got.replace(batch, kept)
        inputs.append(read)
    variance = float(output.yy) / output.count - float((output.y / output.count).square().sum())
    return _Lacking(fit=fit, held_out=held_out, variance=variance)


def _refit(lacking: _Lacking, method: str) -> Refit:
    if method == "none":
        return unchanged(lacking.fit)
    if method == "bias":
        return bias_only(lacking.fit + lacking.held_out)
    return held_out_refit(lacking.fit, lacking.held_out)


def _report(sublayer: Sublayer, model: FoldedVit, cut: Cut, refit: Refit, lacking: _Lacking) -> SublayerReport:
    block = model.blocks[sublayer.block]
    return SublayerReport(
        sublayer=sublayer,
        before=block.heads if sublayer.kind == "attention" else len(block.fc1.weight),
        after=len(cut.kept),
        left=cut.left,
        error_before=mean_error(lacking.held_out, unchanged(lacking.held_out)) / lacking.variance,
        error=mean_error(lacking.held_out, refit) / lacking.variance,
        refit=refit.kind,
        ridge=refit.ridge,
    )
