"""Even the channel ranges of a GEMM's input by moving scale into its weights. Exact; free at run time.

A per-tensor quantizer has one step for all channels, so channels of small range get few of its 256
codes. Dividing channel j of the input by s_j and multiplying column j of the weight by s_j leaves
the product as it is (SmoothQuant, arXiv 2211.10438; RepQ-ViT, arXiv 2212.08254). Where the division goes:

- qkv, fc1: into the LayerNorm in front;
- proj: into the value rows of qkv, since attention mixes tokens and not channels;
- fc2: GELU lets no factor through, so a multiplication by a constant vector stays in front of the
  quantizer. Every engine fuses it into the kernel that quantizes (no extra kernel in TensorRT's plan,
  no measurable time in OpenVINO or ONNX Runtime).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgevit.model.folded import FoldedBlock, Linear, Norm
from edgevit.model.quantplan import QuantizedLinear

NORM_OF = {"qkv": "norm1", "fc1": "norm2"}


def migration_scales(input_absmax: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """Divisors s [C] of a GEMM's input: s_j = max|x_j|^alpha / max|W_:j|^(1 - alpha), geometric mean 1.

    ``input_absmax`` is [C], ``weight`` [out, C]. Dead channels keep 1; the rest stays within 1e-2..1e2.
    """
    weight_absmax = weight.abs().amax(0)
    alive = (input_absmax > 0) & (weight_absmax > 0)
    scales = torch.ones_like(input_absmax)
    scales[alive] = input_absmax[alive] ** alpha / weight_absmax[alive] ** (1 - alpha)
    scales[alive] /= scales[alive].log().mean().exp()
    return scales.clamp(1e-2, 1e2)


def can_migrate(block: FoldedBlock, kind: str) -> bool:
    """Whether the input of GEMM ``kind`` can be rescaled: a norm-free ViT has nothing in front of qkv and fc1."""
    return kind not in NORM_OF or getattr(block, NORM_OF[kind]) is not None


def migrate(block: FoldedBlock, kind: str, scales: Tensor) -> FoldedBlock:
    """``block`` computing the same function with the input of ``kind`` divided by ``scales`` [C].

    fc2 is left as it is: its scales live in `QuantizedLinear.multiplier`.
    """
    if kind == "fc2":
        return block
    linear: Linear = getattr(block, kind)
    changes: dict[str, Any] = {kind: Linear(linear.weight * scales, linear.bias)}
    if kind == "proj":
        factors = _value_rows(scales)
        changes["qkv"] = Linear(block.qkv.weight / factors[:, None], block.qkv.bias / factors)
    else:
        norm: Norm = getattr(block, NORM_OF[kind])
        changes[NORM_OF[kind]] = Norm(norm.weight / scales, norm.bias / scales)
    return replace(block, **changes)


def migrate_values(qkv: QuantizedLinear, scales: Tensor) -> QuantizedLinear:
    """A quantized qkv whose values are divided by ``scales``: per-channel steps take it, codes stay."""
    factors = _value_rows(scales)
    return replace(qkv, weight_scale=qkv.weight_scale / factors, bias=qkv.bias / factors)


def _value_rows(scales: Tensor) -> Tensor:
    return torch.cat([torch.ones(2 * len(scales)), scales])
