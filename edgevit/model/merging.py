"""Fewer tokens: patches that are alike become one, without training (ToMe, arXiv 2210.09461). Tensors only.

Patches are split by turns into sources (the first, third, ...) and destinations (the second, fourth, ...). Each source is matched
with the destination that is most alike, and the sources that are most alike of all go into theirs: an average weighted by the
patches that each token stands for, its size. Prefix tokens take no part.

Alike is what the block takes, normalised: ToMe compares keys, whose average over heads keeps 2 to 6 dB less of DINOv2-S's logits
(docs/tokens.md). It needs no heads, no product of its own, and no quantization changes it.

Nothing depends on chance or on an engine's habits: of equal matches the first destination counts, of equally good sources the
first goes. (Equal floats are those of equal tokens, of which it does not matter which goes: together they weigh the same.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-12  # of the LayerNorm that tokens are compared behind: of no meaning but for tokens that are all zero


@dataclass(frozen=True, eq=False)
class Tokens:
    """The residual stream between blocks."""

    x: Tensor
    """[N, T, width]."""
    sizes: Tensor | None = None
    """[N, T]: patches that each token stands for; None before any were merged, when each stands for itself."""
    places: Tensor | None = None
    """[N, T, all tokens]: what share of each token every token of block 0 is; None before any were merged, and where nobody asks
    (`Merge.places`). Rotary positions of a token are the mean of those of its patches."""

    @property
    def bias(self) -> Tensor | None:
        """What attention adds to all scores of a token [N, 1, 1, T]: log size, as if each of its patches were still there."""
        return None if self.sizes is None else self.sizes.log()[:, None, None, :]

    def to(self, device: torch.device) -> Tokens:
        """The same on ``device``."""
        return Tokens(self.x.to(device), *(None if part is None else part.to(device) for part in (self.sizes, self.places)))

    def with_x(self, x: Tensor) -> Tokens:
        """Other values of the same tokens, or of the first of them."""
        return Tokens(x, *(None if part is None else part[:, : x.shape[1]] for part in (self.sizes, self.places)))

    def merged(self, merge: Merge) -> Tokens:
        """Fewer tokens, each the average of some, weighted by their sizes."""
        kept = torch.arange(merge.kept, device=self.x.device)
        members = (merge.groups[:, None, :] == kept[:, None]).to(self.x.dtype)
        if self.sizes is not None:
            members = members * self.sizes[:, None, :]
        sizes = members.sum(-1)
        shares = members / sizes[..., None]
        places = None if not merge.places else shares if self.places is None else shares @ self.places
        return Tokens(shares @ self.x, sizes, places)

    def mean(self, first: int) -> Tensor:
        """The mean [N, width] over all patches, those merged included; ``first`` is the first patch's token."""
        if self.sizes is None:
            return self.x[:, first:].mean(1)
        sizes = self.sizes[:, first:, None]
        return (self.x[:, first:] * sizes).sum(1) / sizes.sum(1)


@dataclass(frozen=True, eq=False)
class Merge:
    """Which tokens become one."""

    groups: Tensor
    """int64 [N, T]: the number of the new token that each becomes part of."""
    kept: int
    """New tokens: first the prefix, then the sources that stay, the one least like any other first, then the destinations."""
    places: bool = False
    """Whether it is kept track of where tokens come from: `Tokens.places`."""

    def after(self, earlier: Merge | None) -> Merge:
        """Which tokens in front of ``earlier`` become one by both."""
        if earlier is None:
            return self
        return Merge(groups=self.groups.gather(1, earlier.groups), kept=self.kept)


def compared(x: Tensor) -> Tensor:
    """What tokens ``x`` [N, T, width] are compared by: centred and of length one (LayerNorm without weights), to the same."""
    return F.layer_norm(x.detach(), x.shape[-1:], eps=EPSILON) / x.shape[-1] ** 0.5  # a choice, which has no gradient


def matched(unit: Tensor, *, prefix: int, merged: int, places: bool = False) -> Merge:
    """The merge of the sources that are most like a destination.

    Args:
        unit: [N, T, depth], of all tokens, of length one: see `compared`.
        prefix: tokens in front, which stay.
        merged: how many sources go; at most half of the patches.
        places: see `Merge`.
    """
    patches = unit[:, prefix:]
    best, nearest = (patches[:, ::2] @ patches[:, 1::2].transpose(-1, -2)).max(-1)  # the first, of equals
    order = torch.argsort(best, dim=-1, descending=True, stable=True)
    sources = torch.arange(best.shape[1], device=unit.device)
    rank = torch.empty_like(order).scatter_(-1, order, sources.expand_as(order))
    first = prefix + len(sources) - merged  # destination
    groups = torch.arange(unit.shape[1], device=unit.device).repeat(len(unit), 1)
    groups[:, prefix::2] = torch.where(rank < merged, first + nearest, prefix + len(sources) - 1 - rank)
    groups[:, prefix + 1 :: 2] = first + torch.arange(patches.shape[1] // 2, device=unit.device)
    return Merge(groups=groups, kept=unit.shape[1] - merged, places=places)
