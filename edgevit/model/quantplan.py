"""What quantization decides and every later stage reads: which GEMMs are INT8, with which scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.folded import AttentionOp, FoldedVit, Linear, LinearOp, forward, plain_attention, plain_linear, streams
from edgevit.part import Part

QMAX = 127


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """One INT8 GEMM: symmetric, zero-point 0, per-tensor input, per-output-channel weights.

    y = input_scale * weight_scale * (q(x) weight^T) + bias, with
    q(x) = clip(round_half_even((multiplier * x + offset) / input_scale), -128, 127).
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
    offset: Tensor | None = None
    """float32 [in]: centres those channels; ``bias`` makes up for it. Only beside a multiplier."""


@dataclass(frozen=True, kw_only=True)
class QuantizedAttention:
    """The INT8 products of one block's attention: symmetric, per tensor, over all heads. Steps are float32 values."""

    query_step: float
    key_step: float
    value_step: float | None = None
    """None leaves the second product, of softmax's output and the values, in floating point."""
    probability_step: float | None = None
    """Of softmax's output; set exactly if ``value_step`` is."""

    @property
    def products(self) -> str:
        """``full``, or ``scores`` where only the first product is INT8."""
        return "scores" if self.value_step is None else "full"


@dataclass(frozen=True, kw_only=True)
class QuantPlan:
    """A folded ViT, reparameterised for quantization, and which of its parts are INT8.

    A GEMM or an attention without an entry stays in floating point, with the
    weights that ``model`` holds.
    """

    model: FoldedVit
    linears: dict[Part, QuantizedLinear] = field(default_factory=dict)
    attention: dict[Part, QuantizedAttention] = field(default_factory=dict)


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
    if linear.multiplier is not None:
        x = x * linear.multiplier
    if linear.offset is not None:
        x = x + linear.offset
    accumulated = F.linear(quantize_input(x, linear.input_scale), linear.weight.float())
    return accumulated * (linear.weight_scale * linear.input_scale) + linear.bias


def quantized_attention(queries: Tensor, keys: Tensor, values: Tensor, steps: QuantizedAttention) -> Tensor:
    """softmax(q k^T) v over [N, heads, tokens, head_dim] with the operands of its products rounded to ``steps``."""
    scores = _rounded(queries, steps.query_step) @ _rounded(keys, steps.key_step).transpose(-1, -2)
    probabilities = scores.softmax(-1)
    if steps.probability_step is None or steps.value_step is None:
        return probabilities @ values
    return _rounded(probabilities, steps.probability_step) @ _rounded(values, steps.value_step)


def _rounded(x: Tensor, step: float) -> Tensor:
    return quantize_input(x, step) * step


def fake_quant(plan: QuantPlan) -> LinearOp:
    """The GEMMs of the INT8 graph, for `edgevit.model.folded.forward`."""

    def linear(part: Part, x: Tensor, weights: Linear) -> Tensor:
        quantized = plan.linears.get(part)
        return plain_linear(part, x, weights) if quantized is None else quantized_linear(x, quantized)

    return linear


def fake_quant_attention(plan: QuantPlan) -> AttentionOp:
    """The attention of the INT8 graph, for `edgevit.model.folded.forward`."""

    def attention(part: Part, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        steps = plan.attention.get(part)
        if steps is None:
            return plain_attention(part, queries, keys, values)
        return quantized_attention(queries, keys, values, steps)

    return attention


def simulate(plan: QuantPlan, frames: Tensor) -> Tensor:
    """Logits [N, classes] that the INT8 graph of ``plan`` gives for uint8 frames [N, H, W, 3]."""
    return forward(plan.model, frames, fake_quant(plan), fake_quant_attention(plan))


def simulated_streams(plan: QuantPlan, frames: Tensor) -> Iterator[Tensor]:
    """The residual stream of `simulate`, as `edgevit.model.folded.streams` gives it."""
    return streams(plan.model, frames, fake_quant(plan), fake_quant_attention(plan))
