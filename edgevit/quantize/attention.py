"""INT8 for the products of attention, block by block, after what rescaling is free.

Keys are centred and evened with the queries, where that is exact (`edgevit.model.rewrites.scores`). Values arrive centred and
evened by the migration in front of proj.

The second product is another matter: softmax's output lies in 0..1, and a step of 1/127 turns the
near-uniform weights of hundreds of tokens into 0 or 1/127. Centred values help (weights sum to 1, so
only differences from the mean are carried), a step below max/127 helps where weights are small (it
clips the peaks, so it is searched for), and still DINOv2's blocks end at 11 to 33 dB. So a block gets it
only if the noise it adds is small beside that of the block's own INT8 proj.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from edgevit.model.devices import CPU
from edgevit.model.folded import Linear, Norm, embed, layer_norm, placed, plain_attention, plain_linear, run_block, scores
from edgevit.model.quantplan import (
    QuantizedAttention,
    QuantizedLinear,
    QuantPlan,
    quantized_attention,
    quantized_linear,
)
from edgevit.model.rewrites.kinds import BETWEEN_FORBIDS
from edgevit.model.rewrites.legal import legal_rewrites
from edgevit.model.rewrites.scores import even_scores
from edgevit.model.rounding import quantize_input
from edgevit.numberformat import NumberFormat
from edgevit.part import Part

TOLERANCE = 0.5  # added noise, as a share of proj's own, up to which a block's attention becomes INT8
JUDGED = 8  # images that a block's INT8 attention is judged on: thousands of tokens, and the search costs five passes over them
PEAKS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125)  # candidates for softmax's largest code, as shares of its largest output

Parts = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Queries, keys and values [N, heads, tokens, head_dim], and what is added to scores (`edgevit.model.merging.Tokens.bias`)."""


@dataclass(frozen=True, kw_only=True)
class AttentionReport:
    """What was measured of one block's attention, and what was made of it."""

    part: Part
    products: str
    """``off``, ``scores`` (q k^T is INT8) or ``full`` (softmax's output times the values, too)."""
    noise: dict[str, float]
    """Noise that ``scores`` and ``full`` add to the block, as multiples of the noise of proj's own INT8 input."""


def quantize_attention(
    plan: QuantPlan, extremes: dict[int, tuple[Tensor, Tensor]], frames: Tensor, wanted: str, device: torch.device = CPU
) -> tuple[QuantPlan, list[AttentionReport]]:
    """``plan`` with INT8 attention in the blocks where ``wanted`` (see `edgevit.recipe.QuantizeSettings.attention`) lets it be.

    ``extremes`` are, by block, lowest and highest outputs [3 * inner] of each INT8 qkv; what attention adds is measured, as is
    what queries and keys reach where they are turned or normed on their way, on the first of ``frames`` uint8 [N, H, W, 3], as
    the quantized blocks in front deliver them. Where qkv or proj is in floating point, attention is, too. Runs on ``device``.
    """
    linears, attention, reports = dict(plan.linears), dict[Part, QuantizedAttention](), list[AttentionReport]()

    def linear(part: Part, x: Tensor, weights: Linear) -> Tensor:
        return quantized_linear(x, linears[part].to(device)) if part in linears else plain_linear(part, x, weights)

    def attend(part: Part, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        operands = (queries, keys, values, bias)
        proj = linears.get(Part(part.block, "proj"))
        if part.block not in steps or proj is None:
            return plain_attention(part, *operands)
        proj, own = proj.to(device), steps[part.block]
        if plan.model.blocks[part.block].forbidden >= BETWEEN_FORBIDS:  # qkv's extremes are not those of the scores' operands
            own = replace(own, query_step=step_for(queries.abs(), own.format), key_step=step_for(keys.abs(), own.format))
        levels = {"scores": own, "full": with_values(own, operands, reach[part.block])}
        norm = plan.model.blocks[part.block].attention_norm
        norm = norm and norm.to(device)
        noise = {level: added_noise(offered, operands, proj, norm) for level, offered in levels.items()}
        products = choose_products(noise, wanted)
        reports.append(AttentionReport(part=part, products=products, noise=noise))
        if products == "off":
            return plain_attention(part, *operands)
        attention[part] = levels[products]
        return quantized_attention(queries, keys, values, levels[products], bias)

    steps, reach = dict[int, QuantizedAttention](), dict[int, Tensor]()
    for block, (low, high) in extremes.items():
        qkv, values = Part(block, "qkv"), slice(len(low) // 3 * 2, None)
        to = linears[qkv].format
        linears[qkv], queries, keys = even_scores(linears[qkv], low, high, legal_rewrites(plan.model.blocks[block]))
        steps[block] = QuantizedAttention(query_step=step_for(queries, to), key_step=step_for(keys, to), format=to)
        reach[block] = torch.maximum(high[values], -low[values])
    x = embed(plan.model, frames[:JUDGED]).to(device)
    for i in range(len(plan.model.blocks)):
        x = run_block(placed(plan.model, i, device), i, x, linear, attend)
    return replace(plan, linears=linears, attention=attention), reports


def with_values(steps: QuantizedAttention, parts: Parts, reach: Tensor) -> QuantizedAttention:
    """``steps`` with those of the second product: values up to ``reach`` [inner], softmax's output searched on ``parts``.

    Clipping softmax's peaks costs
    where attention is sharp, a coarse step where it is flat; the candidates of `PEAKS` are compared.
    """
    (queries, keys, values, bias), to = parts, steps.format
    probabilities = scores(queries, keys, bias).softmax(-1)
    wanted, largest = probabilities @ values, float(probabilities.max())

    def error(peak: float) -> float:
        step = peak * largest / to.largest
        return float((quantize_input(probabilities, step, to) * step @ values - wanted).square().sum(dtype=torch.float64))

    probability_step = float(np.float32(min(PEAKS, key=error) * largest / to.largest))
    return replace(steps, value_step=step_for(reach, to), probability_step=probability_step)


def added_noise(steps: QuantizedAttention, parts: Parts, proj: QuantizedLinear, norm: Norm | None = None) -> float:
    """Noise that INT8 attention adds to proj's output, over the noise that proj's own input quantizer makes of it.

    ``norm`` stands between them, if there is one.
    """
    plain = _read(plain_attention(None, *parts), norm)
    own = _noise(quantize_input(plain, proj.input_scale, proj.format) * proj.input_scale - plain, proj)
    queries, keys, values, bias = parts
    added = _noise(_read(quantized_attention(queries, keys, values, steps, bias), norm) - plain, proj)
    return added / own if own else float("inf") if added else 0.0


def _read(mixed: Tensor, norm: Norm | None) -> Tensor:
    """What proj reads [N, T, inner], of attention's output [N, heads, T, head_dim]."""
    return layer_norm(mixed.transpose(1, 2).flatten(2), norm)


def choose_products(noise: dict[str, float], wanted: str) -> str:
    """The products to make INT8: what ``wanted`` names, and for ``auto`` the most that stays within `TOLERANCE`."""
    if wanted != "auto":
        return wanted
    return next((level for level in ("full", "scores") if noise[level] <= TOLERANCE), "off")


def _noise(error: Tensor, proj: QuantizedLinear) -> float:
    """Energy of an error of what proj reads [N, T, inner] behind proj, about its mean."""
    behind = error.flatten(0, 1) @ proj.weight.float().T * proj.weight_scale
    return float((behind - behind.mean(0)).square().sum(dtype=torch.float64))


def step_for(reach: Tensor, to: NumberFormat) -> float:
    """The step whose largest code is the largest of ``reach``; a float32 value, 1 if there is none."""
    return float(np.float32(float(reach.max()) / to.largest)) or 1.0 if reach.numel() else 1.0
