"""Bias correction in network order: what is left of each GEMM's mean error goes into its bias.

Some calibration images run through the quantized model. How the mean of a GEMM's outputs differs from that of the float model,
to which quantized predecessors have added, moves into its
bias (bias correction, arXiv 1906.04721; in network order as in Bias Compensation, arXiv 2404.01892),
guarded against over-fitting: only if the mean of one half of the images lowers the error of the other half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from edgevit.model.devices import CPU
from edgevit.model.folded import Linear, embed, placed, plain_attention, plain_linear, run_block
from edgevit.model.quantplan import QuantPlan, quantized_linear
from edgevit.part import Part

HALVES = 2
AT_ONCE = 8  # images, so that what lies between a GEMM's input and its output, as large as either five times over, is of a few


def correct_biases(
    plan: QuantPlan, frames: Tensor, wanted: Mapping[Part, Tensor], device: torch.device = CPU
) -> tuple[QuantPlan, set[Part]]:  # fmt: skip
    """``plan`` with corrected biases, and the GEMMs whose correction held on both halves.

    ``frames`` uint8 [N, H, W, 3] are calibration images in random order, N at least 2, all in one batch; ``wanted`` [2, out] are
    the means of every GEMM's outputs over each half of them (`halves`), in floating point. Runs on ``device``.
    """
    linears, corrected = dict(plan.linears), set[Part]()

    def quantized(part: Part, x: Tensor, weights: Linear) -> Tensor:
        if part not in linears:
            return plain_linear(part, x, weights)
        linear = linears[part].to(device)
        y = torch.cat([quantized_linear(images, linear) for images in x.split(AT_ONCE)])
        shift = _held_out_shift(wanted[part].to(device) - halves(y))
        if shift is None:
            return y
        corrected.add(part)
        linears[part] = replace(linears[part], bias=linears[part].bias + shift.to(CPU))
        return y + shift

    tokens = embed(plan.model, frames).to(device)
    for i in range(len(plan.model.blocks)):
        tokens = run_block(placed(plan.model, i, device), i, tokens, quantized, _attention)
    return replace(plan, linears=linears), corrected


def _held_out_shift(errors: Tensor) -> Tensor | None:
    """The mean of ``errors`` [2, out] if either half's lowers the other's squared error, summed; else None."""
    left = (errors - errors.flip(0)).square().sum()
    return errors.mean(0) if left < errors.square().sum() else None


def _attention(part: Part, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """`plain_attention`, of a few images at once."""
    operands = [x.split(AT_ONCE) for x in (queries, keys, values)]
    if bias is not None:  # of all images alike or of each
        operands.append(bias.expand(len(queries), -1, -1, -1).split(AT_ONCE))
    return torch.cat([plain_attention(part, *images) for images in zip(*operands, strict=True)])


def halves(y: Tensor) -> Tensor:
    """Mean over the tokens of each half of the images [2, out], of outputs [N, T, out]."""
    return torch.stack([half.flatten(0, 1).mean(0) for half in y.tensor_split(HALVES)])
