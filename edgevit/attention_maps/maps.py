"""Attention weights of one image: what the head's token looks at, block by block, and how far two models differ. Arrays only.

Rollout is Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv:2005.00928: the residual connection
counts as attention to oneself, and the blocks' matrices are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """The weights of one image. Tokens are the prefix (class token and such) and then patches, row by row."""

    weights: dict[int, Array]
    """By block, float32 [heads, queries, tokens]; rows sum to 1. The last block's queries may be only those the head reads."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    class_token: bool
    """Whether token 0 is a class token."""

    @property
    def prefix(self) -> int:
        """Tokens before the first patch."""
        return next(iter(self.weights.values())).shape[2] - self.grid[0] * self.grid[1]

    def read(self, queries: Array) -> Array:
        """What the head's token sees: [..., queries, tokens] to [..., tokens].

        The class token's row; without one, the mean over the patches' rows.
        """
        if self.class_token:
            return queries[..., 0, :]
        # The last block may carry fewer queries on than there are tokens, but then it has a class token.
        mean: Array = queries[..., self.prefix :, :].mean(-2)
        return mean

    def heads(self, block: int) -> Array:
        """float32 [heads, tokens]: `read` of every head of ``block``."""
        return self.read(self.weights[block])

    def maps(self, block: int) -> Array:
        """float32 [heads, rows, columns]: `heads` on patches. Sums to 1 less what goes to prefix tokens."""
        return self.heads(block)[:, self.prefix :].reshape(-1, *self.grid)

    def rollout(self) -> Array:
        """float32 [rows, columns]: attention of the head's token to patches of the input, through all blocks."""
        flow: Array | None = None
        # From the head down: one row goes through the blocks instead of a matrix.
        for _, weights in sorted(self.weights.items(), reverse=True):
            mean = weights.mean(0)
            mixed = 0.5 * mean + 0.5 * np.eye(*mean.shape, dtype=np.float32)
            mixed /= mixed.sum(-1, keepdims=True)
            flow = self.read(mixed) if flow is None else flow @ mixed
        assert flow is not None
        return flow[self.prefix :].reshape(self.grid)


def unmerged(weights: Mapping[int, Array], places: Mapping[int, NDArray[np.int64]]) -> dict[int, Array]:
    """Attention among merged tokens as that among the tokens they stand for, so that it compares with other models'.

    ``weights`` [heads, queries, tokens] by block; ``places`` [tokens] by block: which new token each becomes part of behind that
    block's attention. A merged token counts for as many as it stands for, so what it is given is theirs in equal parts, and what
    it looks at each of them does.
    """
    if not places:
        return dict(weights)
    groups = np.arange(len(places[min(places)]))
    spread: dict[int, Array] = {}
    for block in sorted({*weights, *places}):
        if block in weights:
            queries, tokens = weights[block].shape[1:]
            wide = (weights[block] / np.bincount(groups, minlength=tokens).clip(1))[..., groups]
            spread[block] = (wide[:, groups] if queries == tokens else wide).astype(np.float32)
        if block in places:
            groups = places[block][groups]
    return spread


def distance(one: Attention, other: Attention) -> dict[int, Array]:
    """By block, float32 [heads]: the share of attention that goes elsewhere, 0..1, mean over queries.

    Total variation, half the sum of absolute differences. Blocks that only one has, or with other heads, are left out.
    """
    alike = [block for block, weights in one.weights.items() if _shape(other, block) == weights.shape]
    return {block: 0.5 * np.abs(one.weights[block] - other.weights[block]).sum(-1).mean(-1) for block in alike}


def correlation(one: Array, other: Array) -> float | None:
    """Pearson's, of two maps of one shape; None if one is constant."""
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else None


def stacked(attentions: list[Attention]) -> Array:
    """float32 [models, blocks, heads, rows, columns]: `Attention.maps` of all; NaN where a model lacks a block or a head."""
    blocks = 1 + max(block for attention in attentions for block in attention.weights)
    heads = max(len(weights) for attention in attentions for weights in attention.weights.values())
    found = np.full((len(attentions), blocks, heads, *attentions[0].grid), np.nan, np.float32)
    for i, attention in enumerate(attentions):
        for block in attention.weights:
            maps = attention.maps(block)
            found[i, block, : len(maps)] = maps
    return found


def _shape(attention: Attention, block: int) -> tuple[int, ...] | None:
    return attention.weights[block].shape if block in attention.weights else None
