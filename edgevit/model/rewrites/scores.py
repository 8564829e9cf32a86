"""Rescale queries and keys, and leave out what softmax does not see.

Two transforms leave softmax(q k^T) as it is and cost nothing at run time: a constant added to every key adds the same number to
all scores of a query, which softmax ignores, so keys may be centred, or lose their bias; and channel c of the queries may be
divided by d_c if the keys' is multiplied by it, so their ranges may be evened.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgevit.model.folded import FoldedBlock
from edgevit.model.quantplan import QuantizedLinear
from edgevit.model.rewrites.kinds import Rewrite
from edgevit.model.rewrites.legal import require


def even_scores(
    qkv: QuantizedLinear, low: Tensor, high: Tensor, legal: frozenset[Rewrite]
) -> tuple[QuantizedLinear, Tensor, Tensor]:  # fmt: skip
    """``qkv`` with keys centred and evened with the queries, as far as ``legal``, and what both then reach, channel by channel.

    ``low`` and ``high`` float32 [3 * inner] are the extremes of its output. A channel whose keys or whose queries never leave
    zero adds nothing to any score and is left out of the reaches.
    """
    inner = len(low) // 3
    queries, keys = slice(0, inner), slice(inner, 2 * inner)
    query_range = torch.maximum(high[queries], -low[queries])
    if Rewrite.CENTRE_KEYS in legal:
        centre, key_range = (high[keys] + low[keys]) / 2, (high[keys] - low[keys]) / 2
    else:
        centre, key_range = torch.zeros_like(query_range), torch.maximum(high[keys], -low[keys])
    alive, even = (query_range > 0) & (key_range > 0), torch.ones_like(centre)
    if Rewrite.EVEN_SCORES in legal:
        even[alive] = (query_range[alive] / key_range[alive]).sqrt().clamp(1e-2, 1e2)
    factors = torch.cat([1 / even, even, torch.ones_like(centre)])
    shift = torch.cat([torch.zeros_like(centre), centre, torch.zeros_like(centre)])
    evened = replace(qkv, weight_scale=qkv.weight_scale * factors, bias=(qkv.bias - shift) * factors)
    return evened, (query_range / even)[alive], (key_range * even)[alive]


def key_bias(block: FoldedBlock) -> Tensor:
    """The bias of the keys of each head, float32 [heads, head_dim]."""
    inner = block.proj.inputs
    return block.qkv.bias[inner : 2 * inner].view(block.heads, -1)


def without_key_bias(block: FoldedBlock) -> FoldedBlock:
    """``block`` without it: a kernel less where products are three, the same softmax. Raises ValueError where that is illegal."""
    require(block, Rewrite.DROP_KEY_BIAS)
    inner, bias = block.proj.inputs, block.qkv.bias.clone()
    bias[inner : 2 * inner] = 0
    return replace(block, qkv=replace(block.qkv, bias=bias))
