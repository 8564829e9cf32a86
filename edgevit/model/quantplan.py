"""What quantization decides and every later stage reads: which GEMMs are INT8, with which scales."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.folded import FoldedVit, Linear, LinearOp, plain_linear

QMAX = 127


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """One INT8 GEMM: symmetric, zero-point 0, per-tensor input, per-output-channel weights.

    y = input_scale * weight_scale * (q(x) weight^T) + bias, with
    q(x) = clip(round_half_even(multiplier * x / input_scale), -128, 127).
    """

    weight: Tensor
    """int8 [out, in], within +-127."""
    weight_scale: Tensor
    """float32 [out]."""
    input_scale: float
    """A float32 value: the step of the input's grid."""
    bias: Tensor
    """float32 [out]; never quantized."""
    multiplier: Tensor | None = None
    """float32 [in]: evens channel ranges where nothing upstream can take the factor (after GELU)."""
    query_step: float | None = None
    """qkv only: the step of the queries, a third of the output, where their product with the keys is INT8, too."""
    key_step: float | None = None
    """The same for the keys; both or neither are set."""


@dataclass(frozen=True, kw_only=True)
class QuantPlan:
    """A folded ViT, reparameterised for quantization, and its INT8 GEMMs by name (``blocks.3.fc1``).

    A GEMM without an entry stays in floating point, with the weights that ``model`` holds.
    """

    model: FoldedVit
    linears: dict[str, QuantizedLinear] = field(default_factory=dict)


def quantize_input(x: Tensor, scale: float) -> Tensor:
    """Integer grid values of ``x`` as float32: what QuantizeLinear stores in int8."""
    return torch.clamp(torch.round(x / scale), -QMAX - 1, QMAX)


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest rounding of a weight [out, in] to int8, with its min-max scales float32 [out]."""
    scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * 2**20) / QMAX
    quantized = torch.clamp(torch.round(weight / scale[:, None]), -QMAX, QMAX)
    return quantized.to(torch.int8), scale


def quantized_linear(x: Tensor, linear: QuantizedLinear) -> Tensor:
    """The INT8 GEMM computed on integers held in float32, so it rounds where an integer kernel rounds."""
    x = x if linear.multiplier is None else x * linear.multiplier
    accumulated = F.linear(quantize_input(x, linear.input_scale), linear.weight.float())
    y = accumulated * (linear.weight_scale * linear.input_scale) + linear.bias
    if linear.query_step is None or linear.key_step is None:
        return y
    query, key, value = y.chunk(3, dim=-1)
    steps = ((query, linear.query_step), (key, linear.key_step))
    return torch.cat([*(quantize_input(part, step) * step for part, step in steps), value], dim=-1)


def fake_quant(plan: QuantPlan) -> LinearOp:
    """The callable that makes `edgevit.model.folded.forward` compute what the INT8 graph computes."""

    def linear(name: str, x: Tensor, weights: Linear) -> Tensor:
        quantized = plan.linears.get(name)
        return plain_linear(name, x, weights) if quantized is None else quantized_linear(x, quantized)

    return linear
