"""Make up for what a model lost, in closed form and in network order, against the model as it was.

The model and what was made of it, pruned or merging tokens, run side by side. Behind every sublayer the layer that writes to the
stream is refitted on its own inputs in the changed model, so that the changed stream is what the unchanged one is: each sublayer
also makes up for what is left of the errors before it. (Layer-wise least squares against the teacher's output, as OB2C, arXiv
2608.17657, has it; here the target is the residual stream and not the layer's own output.) Where the changed model has merged
tokens, what it should be is the unchanged stream averaged over the tokens that became one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from edgevit.model.folded import FoldedBlock, FoldedVit
from edgevit.model.merging import Merge, Tokens
from edgevit.model.token_store import TokenStream, is_held_out
from edgevit.part import Sublayer
from edgevit.pruning.gradients import Influence
from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import Refit, bias_only, held_out_refit, mean_error, unchanged
from edgevit.pruning.sublayers import merge_behind, reads, refitted, replace_block, sublayers, writer, writes


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """What was made up for in one sublayer. Errors are shares 0.. of the variance of the unchanged stream behind it."""

    sublayer: Sublayer
    error_before: float
    """On held-out images, with nothing made up for in this sublayer."""
    error: float
    """The same after the refit."""
    refit: str
    """``ridge``, ``bias``, or ``none`` where no change held on the held-out images."""
    ridge: float
    """Share of each input's variance."""


def compensate(
    model: FoldedVit, changed: FoldedVit, streams: tuple[TokenStream, TokenStream], influences: Sequence[Influence], method: str,
    advance: Callable[[int], None],
) -> tuple[list[FoldedBlock], list[Compensation]]:  # fmt: skip
    """The blocks of ``changed``, refitted to do what ``model`` does, and what that made up for in each sublayer.

    ``changed`` has as many blocks, of the same width; of tokens it merges those that ``model`` does, or ``model`` merges none.
    Both ``streams`` hold what block 0 takes, and are used up. ``influences``, by sublayer, say how much each token of ``model``
    counts. ``method``: ``ridge``, ``bias`` alone, or ``none``.
    """
    wanted, got = streams
    pairs, made, first = [_Pair() for _ in range(len(got))], list[Compensation](), _first_changed(model, changed)
    for number, (sublayer, influence) in enumerate(zip(sublayers(model), influences, strict=True)):
        if number < first:  # both streams are the same still: there is nothing to make up for
            _run(model, sublayer, streams)
            advance(1)
            made.append(Compensation(sublayer=sublayer, error_before=0.0, error=0.0, refit="none", ridge=0.0))
            continue
        with TokenStream() as inputs:
            lacking = _compare(model, changed, sublayer, (wanted, got, inputs), influence, pairs)
            refit = _refit(lacking, method)
            changed = replace_block(changed, sublayer.block, refitted(changed.blocks[sublayer.block], sublayer.kind, refit))
            for batch, pair in enumerate(pairs):
                kept = got.read(batch)
                got.replace(batch, pair.merged(kept.with_x(kept.x + writes(changed, sublayer, inputs.read(batch).x))))
        advance(1)
        made.append(_made(sublayer, refit, lacking))
    return list(changed.blocks), made


def _first_changed(model: FoldedVit, changed: FoldedVit) -> int:
    """How many sublayers are the same in both before the first that is not."""
    return sum(1 for _ in takewhile(lambda sublayer: _is_same(model, changed, sublayer), sublayers(model)))


def _is_same(model: FoldedVit, changed: FoldedVit, sublayer: Sublayer) -> bool:
    if model.config.blocks[sublayer.block].merged != changed.config.blocks[sublayer.block].merged:
        return False
    one, other = (_weights(vit.blocks[sublayer.block], sublayer.kind) for vit in (model, changed))
    return len(one) == len(other) and all(torch.equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))


def _weights(block: FoldedBlock, kind: str) -> list[Tensor]:
    """All that decides what a sublayer writes."""
    norm, *linears = (block.norm1, block.qkv, block.proj) if kind == "attention" else (block.norm2, block.fc1, block.fc2)
    both = [tensor for linear in linears for tensor in (linear.weight, linear.bias)]
    return both if norm is None else [*both, norm.weight, norm.bias]


def _run(model: FoldedVit, sublayer: Sublayer, streams: tuple[TokenStream, TokenStream]) -> None:
    """Run a sublayer of ``model`` on the first stream; both become what is behind it."""
    for batch in range(len(streams[0])):
        taken = streams[0].read(batch)
        kept, read = reads(model, sublayer, taken)
        merge, behind = merge_behind(model, sublayer, taken), kept.with_x(kept.x + writes(model, sublayer, read))
        for stream in streams:
            stream.replace(batch, behind.merged(merge) if merge else behind)


class _Pair:
    """Which tokens of the unchanged model each token of the changed one stands for, in one batch."""

    def __init__(self) -> None:
        self._groups: Merge | None = None
        self._next: Merge | None = None

    def target(self, tokens: Tensor, kept: Tokens) -> Tensor:
        """What ``kept`` should be [N, keep, width], of the unchanged model's ``tokens`` at the same place."""
        if self._groups is None or tokens.shape[1] == kept.x.shape[1]:
            return tokens
        return Tokens(tokens).merged(self._groups).x

    def weights(self, weights: Tensor, prefix: int, kept: Tokens) -> Tensor:
        """How much each of ``kept`` counts [N, keep], of ``weights`` by token of the unchanged model: a patch for every patch."""
        images, count = kept.x.shape[:2]
        if self._groups is None or kept.sizes is None or count <= prefix:
            return weights[:count].expand(images, -1)
        return torch.cat([weights[:prefix].expand(images, -1), weights[prefix] * kept.sizes[:, prefix:count]], 1)

    def behind(self, own: Merge | None, changed: Merge | None) -> None:
        """What becomes one behind this sublayer: in the unchanged model, which the changed one then follows, or in that alone."""
        self._next = own or changed
        if own is None and changed is not None:
            self._groups = changed.after(self._groups)

    def merged(self, tokens: Tokens) -> Tokens:
        """``tokens`` of the changed model as they leave this sublayer."""
        return tokens if self._next is None else tokens.merged(self._next)


@dataclass(frozen=True, kw_only=True)
class _Lacking:
    """What the changed stream lacks behind a sublayer, beside what the sublayer's writer reads."""

    fit: Moments
    held_out: Moments
    variance: float
    """Of the unchanged stream on the held-out images, summed over channels."""


def _compare(
    model: FoldedVit, changed: FoldedVit, sublayer: Sublayer, streams: tuple[TokenStream, TokenStream, TokenStream],
    influence: Influence, pairs: Sequence[_Pair],
) -> _Lacking:  # fmt: skip
    """Run a sublayer of both. Afterwards the first stream is behind it, the second what it adds to, the third what it reads."""
    wanted, got, inputs = streams
    channels, config = writer(changed.blocks[sublayer.block], sublayer.kind).weight.shape[1], model.config
    fit, held_out, output = (Moments.none(count, config.width) for count in (channels, channels, 0))
    for batch, pair in enumerate(pairs):
        before, taken = wanted.read(batch), got.read(batch)
        kept, read = reads(model, sublayer, before)
        behind = kept.with_x(kept.x + writes(model, sublayer, read))
        kept, read = reads(changed, sublayer, taken)
        target = pair.target(behind.x, kept)
        lacks = target - kept.x - writes(changed, sublayer, read)
        if is_held_out(batch):
            weights = pair.weights(influence.tokens, config.prefix_tokens, kept)
            held_out, output = held_out.add(read, lacks, weights), output.add(target[..., :0], target, weights)
        else:
            fit = fit.add(read, lacks, pair.weights(influence.counts, config.prefix_tokens, kept))
        own = merge_behind(model, sublayer, before)
        pair.behind(own, None if own else merge_behind(changed, sublayer, taken))
        wanted.replace(batch, behind.merged(own) if own else behind)
        got.replace(batch, kept)
        inputs.append(Tokens(read))
    variance = float(output.yy) / output.count - float((output.y / output.count).square().sum())
    return _Lacking(fit=fit, held_out=held_out, variance=variance)


def _refit(lacking: _Lacking, method: str) -> Refit:
    if method == "none":
        return unchanged(lacking.fit)
    if method == "bias":
        return bias_only(lacking.fit + lacking.held_out)
    return held_out_refit(lacking.fit, lacking.held_out)


def _made(sublayer: Sublayer, refit: Refit, lacking: _Lacking) -> Compensation:
    return Compensation(
        sublayer=sublayer,
        error_before=mean_error(lacking.held_out, unchanged(lacking.held_out)) / lacking.variance,
        error=mean_error(lacking.held_out, refit) / lacking.variance,
        refit=refit.kind,
        ridge=refit.ridge,
    )
