"""Centre and scale the input of a GEMM by changing what delivers it.

Subtracting c_j from channel j of the input and dividing by s_j, while column j of the weight is multiplied by s_j and W c added
to the bias, leaves the product as it is (SmoothQuant, arXiv 2211.10438; RepQ-ViT, arXiv 2212.08254; Outlier Suppression+, arXiv
2304.09145). Where the subtraction and the division go:

- qkv, fc1: into the LayerNorm in front; so do the affine maps that pruning puts in the place of attention and MLP;
- proj: into the value rows of qkv, since attention mixes tokens and not channels and its weights sum to 1;
- fc2: GELU lets nothing through, so a multiplication by one constant vector and an addition of another
  stay in front of the quantizer. Engines fuse both into the kernel that quantizes (no extra kernel in
  TensorRT's plan, no measurable time in OpenVINO or ONNX Runtime).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgevit.model.folded import Factors, FoldedBlock, Linear, Norm
from edgevit.model.quantplan import QuantizedLinear
from edgevit.model.rewrites.kinds import MIGRATE
from edgevit.model.rewrites.legal import require


@dataclass(frozen=True, kw_only=True)
class Transform:
    """x becomes (x - centre) / scales, both float32 [C] or, image by image, [N, 1, C]."""

    centre: Tensor
    scales: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The transformed ``x`` [..., C]."""
        return (x - self.centre) / self.scales

    def to(self, device: torch.device) -> Transform:
        """The same on ``device``."""
        return Transform(centre=self.centre.to(device), scales=self.scales.to(device))

    def inverse(self, linear: Linear) -> Linear:
        """The GEMM that computes from transformed inputs what ``linear`` computes from plain ones."""
        return linear.scaled(Factors(self.scales, rows=False), linear.bias + linear.weight @ self.centre)


def migrate(block: FoldedBlock, kind: str, transform: Transform) -> FoldedBlock:
    """``block`` computing the same function with the input of ``kind`` transformed. Raises ValueError where that is illegal.

    fc2 behind an activation is left as it is: its transform lives in `QuantizedLinear.multiplier` and `QuantizedLinear.offset`.
    """
    require(block, MIGRATE[kind])
    before = block.norm_of(kind)
    if before is None and kind == "fc2":
        return block
    changes: dict[str, Any] = {kind: transform.inverse(getattr(block, kind))}
    if before is None:
        centre, factors = _value_rows(transform)
        changes["qkv"] = block.qkv.scaled(Factors(factors, rows=True), (block.qkv.bias - centre) / factors)
    else:
        norm: Norm = getattr(block, before)
        changes[before] = replace(norm, weight=norm.weight / transform.scales, bias=transform(norm.bias))
    return replace(block, **changes)


def migrate_values(qkv: QuantizedLinear, transform: Transform) -> QuantizedLinear:
    """A quantized qkv whose values are transformed: per-channel steps and the bias take it, codes stay."""
    centre, factors = _value_rows(transform)
    return replace(qkv, weight_scale=qkv.weight_scale / factors, bias=(qkv.bias - centre) / factors)


def migrate_outputs(extremes: tuple[Tensor, Tensor], transform: Transform) -> tuple[Tensor, Tensor]:
    """Lowest and highest outputs [3C] of a qkv whose values are transformed."""
    centre, factors = _value_rows(transform)
    low, high = extremes
    return (low - centre) / factors, (high - centre) / factors


def _value_rows(transform: Transform) -> tuple[Tensor, Tensor]:
    """Centre and scales of qkv's output [3C]: those of the transform for the values, none for queries and keys."""
    channels = len(transform.scales)
    nothing = torch.zeros(2 * channels)
    return torch.cat([nothing, transform.centre]), torch.cat([nothing + 1, transform.scales])
