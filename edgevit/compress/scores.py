"""INT8 for the product of queries and keys, after what rescaling is free.

Two transforms leave softmax(q k^T) as it is and cost nothing at run time: a constant added to every
key adds the same number to all scores of a query, which softmax ignores, so keys are centred; and
channel c of the queries may be divided by d_c if the keys' is multiplied by it, so their ranges are
evened. Then each gets one symmetric step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgevit.model.quantplan import QMAX, QuantizedLinear


def quantize_scores(qkv: QuantizedLinear, low: Tensor, high: Tensor) -> QuantizedLinear:
    """``qkv`` with steps for its queries and keys; ``low`` and ``high`` [out] are its output's extremes."""
    inner = len(low) // 3
    queries, keys = slice(0, inner), slice(inner, 2 * inner)
    centre = (high[keys] + low[keys]) / 2
    query_range = torch.maximum(high[queries], -low[queries])
    key_range = (high[keys] - low[keys]) / 2
    alive = (query_range > 0) & (key_range > 0)
    even = torch.ones_like(centre)
    even[alive] = (query_range[alive] / key_range[alive]).sqrt().clamp(1e-2, 1e2)
    factors = torch.cat([1 / even, even, torch.ones_like(centre)])
    shift = torch.cat([torch.zeros_like(centre), centre, torch.zeros_like(centre)])
    return replace(
        qkv,
        weight_scale=qkv.weight_scale * factors,
        bias=(qkv.bias - shift) * factors,
        query_step=_step(query_range / even),
        key_step=_step(key_range * even),
    )


def _step(ranges: Tensor) -> float:
    """The step whose largest code is the largest range; a float32 value."""
    return float(np.float32(float(ranges.max()) / QMAX)) or 1.0
