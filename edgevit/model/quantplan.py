"""What quantization decides and every later stage reads: which GEMMs are quantized, with which scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.folded import AttentionOp, FoldedVit, Linear, LinearOp, forward, plain_attention, plain_linear, scores, streams
from edgevit.model.merging import Tokens
from edgevit.model.rounding import quantize_input
from edgevit.numberformat import INT8, NumberFormat
from edgevit.part import Part


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """One quantized GEMM: symmetric, zero-point 0, per-tensor input, per-output-channel weights.

    y = input_scale * weight_scale * (q(x) weight^T) + bias, with
    q(x) the value of ``format`` nearest to (multiplier * x + offset) / input_scale, for INT8 clip(round_half_even(.), -128, 127).
    """

    weight: Tensor
    """[out, in] in the dtype of ``format``, within plus and minus its largest value."""
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
    format: NumberFormat = INT8
    """Of weight and input."""

    def to(self, device: torch.device) -> QuantizedLinear:
        """The same on ``device``."""
        tensors: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True, kw_only=True)
class QuantizedAttention:
    """The quantized products of one block's attention: symmetric, per tensor, over all heads. Steps are float32 values."""

    query_step: float
    key_step: float
    value_step: float | None = None
    """None leaves the second product, of softmax's output and the values, in floating point."""
    probability_step: float | None = None
    """Of softmax's output; set exactly if ``value_step`` is."""
    format: NumberFormat = INT8
    """Of the operands."""

    @property
    def products(self) -> str:
        """``full``, or ``scores`` where only the first product is quantized."""
        return "scores" if self.value_step is None else "full"


@dataclass(frozen=True, kw_only=True)
class QuantPlan:
    """A folded ViT, reparameterised for quantization, and which of its parts are quantized.

    A GEMM or an attention without an entry stays in floating point, with the
    weights that ``model`` holds.
    """

    model: FoldedVit
    linears: dict[Part, QuantizedLinear] = field(default_factory=dict)
    attention: dict[Part, QuantizedAttention] = field(default_factory=dict)

    @property
    def format(self) -> NumberFormat:
        """What its parts are quantized to; all of one plan to the same. INT8 if there are none."""
        entries = (*self.linears.values(), *self.attention.values())
        return next((entry.format for entry in entries), INT8)  # type: ignore[attr-defined]  # mypy joins the two to object


def quantized_linear(x: Tensor, linear: QuantizedLinear) -> Tensor:
    """The quantized GEMM computed on codes held in float32, so it rounds where a kernel of its format rounds."""
    if linear.multiplier is not None:
        x = x * linear.multiplier
    if linear.offset is not None:
        x = x + linear.offset
    accumulated = F.linear(quantize_input(x, linear.input_scale, linear.format), linear.weight.float())
    return accumulated * (linear.weight_scale * linear.input_scale) + linear.bias


def quantized_attention(
    queries: Tensor, keys: Tensor, values: Tensor, steps: QuantizedAttention, bias: Tensor | None = None
) -> Tensor:  # fmt: skip
    """`plain_attention` with the operands of its products rounded to ``steps``; the bias is not."""
    to = steps.format
    probabilities = scores(_on_grid(queries, steps.query_step, to), _on_grid(keys, steps.key_step, to), bias).softmax(-1)
    if steps.probability_step is None or steps.value_step is None:
        return probabilities @ values
    return _on_grid(probabilities, steps.probability_step, to) @ _on_grid(values, steps.value_step, to)


def _on_grid(x: Tensor, step: float, to: NumberFormat) -> Tensor:
    return quantize_input(x, step, to) * step


def fake_quant(plan: QuantPlan) -> LinearOp:
    """The GEMMs of the quantized graph, for `edgevit.model.folded.forward`."""

    def linear(part: Part, x: Tensor, weights: Linear) -> Tensor:
        quantized = plan.linears.get(part)
        return plain_linear(part, x, weights) if quantized is None else quantized_linear(x, quantized)

    return linear


def fake_quant_attention(plan: QuantPlan) -> AttentionOp:
    """The attention of the quantized graph, for `edgevit.model.folded.forward`."""

    def attention(part: Part, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        steps = plan.attention.get(part)
        if steps is None:
            return plain_attention(part, queries, keys, values, bias)
        return quantized_attention(queries, keys, values, steps, bias)

    return attention


def simulate(plan: QuantPlan, frames: Tensor) -> Tensor:
    """Logits [N, classes] that the quantized graph of ``plan`` gives for uint8 frames [N, H, W, 3]."""
    return forward(plan.model, frames, fake_quant(plan), fake_quant_attention(plan))


def simulated_streams(plan: QuantPlan, frames: Tensor) -> Iterator[Tokens]:
    """The residual stream of `simulate`, as `edgevit.model.folded.streams` gives it."""
    return streams(plan.model, frames, fake_quant(plan), fake_quant_attention(plan))
