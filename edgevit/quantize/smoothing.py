"""How much of a GEMM's input range goes into its weights: SmoothQuant's scales (arXiv 2211.10438).

A per-tensor quantizer has one step for all channels and a grid that is symmetric about zero, so channels of small range and
channels that live on one side get few of its 256 codes. `edgevit.model.rewrites.migration` says why it is exact to centre and to
scale them, and where that goes; free at run time.
"""

from __future__ import annotations

import torch
from torch import Tensor


def migration_scales(ranges: Tensor, reach: Tensor, alpha: float) -> Tensor:
    """Divisors s of a GEMM's input: s_j = range_j^alpha / max|W_:j|^(1 - alpha), geometric mean 1; alpha 0 is off.

    ``ranges`` is [..., C], ``reach`` [C] is max|W_:j|. Dead channels keep 1; the rest stays within 1e-3..1e3.
    """
    if not alpha:
        return torch.ones_like(ranges)
    alive = (ranges > 0) & (reach > 0)
    logs = torch.where(alive, alpha * ranges.log() - (1 - alpha) * reach.log(), 0.0)
    mean = logs.sum(-1, keepdim=True) / alive.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(alive, (logs - mean).exp().clamp(1e-3, 1e3), 1.0)
