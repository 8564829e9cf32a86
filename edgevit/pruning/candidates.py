"""What each sublayer could be cut to, and the harm of it: one pass over calibration images, block by block.

The error of every size at the sublayer's own output comes from second moments, with the columns that stay making up for
those that go. What an error there does to the logits is measured by passing some images on through the rest of the
network, once for half of the units, once for an affine map in the sublayer's place: for other sizes, and for a bias, it
is taken to be proportional to the error. Those images are held out of every fit: of few images, what a fit does to the others is
most of the harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgevit.model.folded import FoldedBlock, FoldedVit, run_block, run_head
from edgevit.model.merging import Tokens
from edgevit.model.token_store import TokenStream, is_held_out
from edgevit.part import Sublayer
from edgevit.pruning.gradients import Influence
from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import Refit, bias_only, held_out_refit, mean_error
from edgevit.pruning.removal import Removal
from edgevit.pruning.scores import BATCH, SCORES, ascending, channels, obs_order, summed, taylor
from edgevit.pruning.sublayers import (
    Cut,
    cut_block,
    merge_behind,
    normalised,
    reads,
    refitted,
    replace_block,
    units,
    writer,
    writes,
)

LEVELS = 6  # sizes at which the error is computed; between them it is interpolated
PASSED_ON = 3  # batches of images that are passed on through the rest of the network, at most


@dataclass(frozen=True, kw_only=True)
class CutCandidate:
    """One way to cut a sublayer."""

    cut: Cut
    harm: float
    """Mean squared change of the logits, over their variance; 0 if nothing is cut."""


@dataclass(frozen=True, kw_only=True)
class Logits:
    """What the model says of the images that are passed on, by batch."""

    batches: tuple[Tensor, ...]

    @property
    def variance(self) -> float:
        """About the mean over all images, per logit."""
        every = torch.cat(self.batches).double()
        # Of images that are all the same nothing varies: then the logits' own size is what there is to compare with.
        return float((every - every.mean(0)).square().mean()) or float(every.square().mean()) or 1.0

    def harm(self, others: Sequence[Tensor]) -> float:
        """Mean squared difference of ``others``, over the variance."""
        changed = torch.cat(list(others)).double() - torch.cat(self.batches)
        return float(changed.square().mean()) / self.variance


def read_passed_on(stream: TokenStream) -> list[Tokens]:
    """The batches of ``stream`` that are passed on."""
    held_out = [batch for batch in range(len(stream)) if is_held_out(batch)]
    return [stream.read(batch) for batch in held_out[:PASSED_ON]]


def logits_of(model: FoldedVit, batches: Sequence[Tokens]) -> Logits:
    """The reference: ``batches`` are what block 0 takes."""
    return Logits(batches=tuple(passed_on(model, 0, batches)))


def sizes(whole: int, multiple: int) -> tuple[int, ...]:
    """What ``whole`` units can be cut to: all of them, then every smaller multiple, none of them zero."""
    return whole, *range((whole - 1) // multiple * multiple, 0, -multiple)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Moments of one sublayer on images it is fitted to, and on others."""

    inputs: tuple[Moments, Moments]
    """Of what the writer reads."""
    tokens: tuple[Moments, Moments]
    """Of the normalised tokens with what the sublayer writes, for a map in its place."""


def observe(
    model: FoldedVit, sublayer: Sublayer, stream: TokenStream, influence: Influence, advance: Callable[[int], None]
) -> Seen:
    """Run ``sublayer`` on ``stream``, which becomes its output; tokens count by their ``influence``."""
    width, channels = model.config.width, writer(model.blocks[sublayer.block], sublayer.kind).weight.shape[1]
    inputs = [Moments.none(channels), Moments.none(channels)]
    tokens = [Moments.none(width, width), Moments.none(width, width)]
    for batch in range(len(stream)):
        taken = stream.read(batch)
        kept, read = reads(model, sublayer, taken)
        output, which = writes(model, sublayer, read), int(is_held_out(batch))
        if units(model.blocks[sublayer.block], sublayer.kind):  # else there is nothing to learn of it
            weights = influence.tokens if which else influence.counts
            inputs[which] = inputs[which].add(read, weights=weights)
            tokens[which] = tokens[which].add(normalised(model, sublayer, taken), output, weights)
        merge, behind = merge_behind(model, sublayer, taken), kept.with_x(kept.x + output)
        stream.replace(batch, behind.merged(merge) if merge else behind)
        advance(len(taken.x))
    return Seen(inputs=(inputs[0], inputs[1]), tokens=(tokens[0], tokens[1]))


def candidates(
    model: FoldedVit, sublayer: Sublayer, seen: Seen, batches: Sequence[Tokens], wanted: Logits, *,
    root: Tensor, multiple: int, score: str, contributions: Tensor | None,
) -> list[CutCandidate]:  # fmt: skip
    """All ways to cut ``sublayer``, the first of which is to leave it whole.

    ``batches`` are tokens [N, T, width] that block ``sublayer.block`` takes; ``score`` is ``obs``, ``wifv``,
    ``variance``, or ``taylor``, which wants ``contributions`` [images, channels]. Errors e of the sublayer's output are compared
    by |``root`` e|^2, see `Influence.root`.
    """
    block = model.blocks[sublayer.block]
    if not units(block, sublayer.kind):  # pruned before: it stays as it is
        left = "map" if writer(block, sublayer.kind).weight.shape[1] else "bias"
        return [CutCandidate(cut=Cut.gone(left), harm=0.0)]
    own = writer(block, sublayer.kind).weight.double()
    weight, size = root @ own, block_size(model, sublayer)
    order = unit_order(size, weight, seen.inputs[0], score, contributions)
    removal = Removal.of(seen.inputs[0], channels(order.flip(0), size))
    offered = [Cut.part(order[len(order) - number :].sort().values) for number in sizes(len(order), multiple)]
    known = _levels(offered)
    errors = {len(cut.kept): _error(removal.change(weight, len(cut.kept) * size), seen.inputs[1]) for cut in known}
    harms = _interpolated(offered, errors)

    def harm(cut: Cut, refit: Refit) -> float:
        changed = refitted(cut_block(block, sublayer.kind, cut), sublayer.kind, refit)
        return wanted.harm(passed_on(replace_block(model, sublayer.block, changed), sublayer.block, batches))

    result = [CutCandidate(cut=offered[0], harm=0.0)]
    if len(offered) > 1:
        anchor = min(known[1:], key=lambda cut: abs(len(cut.kept) - len(order) / 2))
        made_up = removal.change(own, len(anchor.kept) * size)
        stays = replace(made_up, weight=made_up.weight[:, channels(anchor.kept, size)])
        scale = harm(anchor, stays) / max(errors[len(anchor.kept)], 1e-300)
        result += [CutCandidate(cut=cut, harm=scale * error) for cut, error in zip(offered[1:], harms[1:], strict=True)]
    return result + _replacements(block, sublayer, seen, harm)


def _replacements(
    block: FoldedBlock, sublayer: Sublayer, seen: Seen, harm: Callable[[Cut, Refit], float]
) -> list[CutCandidate]:  # fmt: skip
    """A map in the place of ``sublayer``, whose harm is measured, and a bias, whose harm is taken to follow from its error."""
    fit, held_out = (_without_bias(moments, writer(block, sublayer.kind).bias) for moments in seen.tokens)
    mapped = held_out_refit(fit, held_out)
    harm_of_map = harm(Cut.gone("map"), mapped)
    constant = bias_only(fit)
    ratio = mean_error(held_out, constant) / max(mean_error(held_out, mapped), 1e-300)
    return [
        CutCandidate(cut=Cut.gone("map"), harm=harm_of_map),
        CutCandidate(cut=Cut.gone("bias"), harm=harm_of_map * max(1.0, ratio)),
    ]


def block_size(model: FoldedVit, sublayer: Sublayer) -> int:
    """Channels of one unit: head_dim, or 1."""
    return model.config.head_dim if sublayer.kind == "attention" else 1


def unit_order(size: int, weight: Tensor, moments: Moments, score: str, contributions: Tensor | None) -> Tensor:
    """All units of ``size`` channels, the one to go first first."""
    if score == "obs":
        return obs_order(moments.covariance, weight, size, 1 if size > 1 else BATCH)
    if score == "taylor":
        assert contributions is not None
        return ascending(taylor(contributions, size))
    return ascending(summed(SCORES[score](moments.covariance, weight), size))


def _levels(offered: Sequence[Cut]) -> list[Cut]:
    """At most `LEVELS` + 1 of the cuts, evenly, with both ends."""
    last = len(offered) - 1
    return [offered[place] for place in sorted({round(last * level / LEVELS) for level in range(LEVELS + 1)})]


def _interpolated(offered: Sequence[Cut], errors: dict[int, float]) -> list[float]:
    known = sorted(errors)
    table = torch.tensor(known, dtype=torch.float64), torch.tensor([errors[size] for size in known], dtype=torch.float64)
    found = []
    for cut in offered:
        upper = min(int(torch.searchsorted(table[0], float(len(cut.kept)))), len(known) - 1)
        lower = max(0, upper - 1)
        span = float(table[0][upper] - table[0][lower]) or 1.0
        share = (len(cut.kept) - float(table[0][lower])) / span
        found.append(float(table[1][lower] * (1 - share) + table[1][upper] * share))
    return found


def _error(change: Refit, held_out: Moments) -> float:
    """Mean |e|^2 of the error e that ``change`` of a layer makes at its output on the held-out images."""
    return mean_error(_without_outputs(held_out, len(change.bias)), change)


def _without_outputs(moments: Moments, outputs: int) -> Moments:
    """``moments`` of x with y zero, of so many channels."""
    y, xy = torch.zeros(outputs, dtype=torch.float64), torch.zeros(len(moments.x), outputs, dtype=torch.float64)
    return replace(moments, y=y, xy=xy, yy=torch.zeros((), dtype=torch.float64))


def _without_bias(moments: Moments, bias: Tensor) -> Moments:
    """``moments`` of y less a constant, which the cut sublayer keeps."""
    bias, count = bias.double(), moments.count
    yy = moments.yy - 2 * bias @ moments.y + count * bias @ bias
    return replace(moments, y=moments.y - count * bias, xy=moments.xy - torch.outer(moments.x, bias), yy=yy)


def passed_on(model: FoldedVit, index: int, batches: Sequence[Tokens]) -> list[Tensor]:
    """Logits of tokens that block ``index`` takes."""
    found = []
    for tokens in batches:
        for number in range(index, len(model.blocks)):
            tokens = run_block(model, number, tokens)
        found.append(run_head(model, tokens))
    return found
