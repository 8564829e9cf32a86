"""Bias correction in network order: what is left of each GEMM's mean error goes into its bias.

Some calibration images run through the float model and the quantized one side by side, block by
block. The mean difference of a GEMM's outputs, which quantized predecessors have added to, moves into its
bias (bias correction, arXiv 1906.04721; in network order as in Bias Compensation, arXiv 2404.01892),
guarded against over-fitting: only if the mean of one half of the images lowers the error of the other half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgevit.model.folded import Linear, embed, plain_linear, run_block
from edgevit.model.quantplan import QuantPlan, quantized_linear
from edgevit.part import Part

HALVES = 2


@dataclass
class _Means:
    """A `LinearOp` that computes the float GEMM and keeps its output's mean over each half of the images, [2, out]."""

    of: dict[Part, Tensor]

    def __call__(self, part: Part, x: Tensor, weights: Linear) -> Tensor:
        y = plain_linear(part, x, weights)
        self.of[part] = _means(y)
        return y


def correct_biases(plan: QuantPlan, frames: Tensor) -> tuple[QuantPlan, set[Part]]:
    """``plan`` with corrected biases, and the GEMMs whose correction held on both halves.

    ``frames`` uint8 [N, H, W, 3] are calibration images in random order, N at least 2, all in one batch.
    """
    linears, corrected, means = dict(plan.linears), set[Part](), _Means({})

    def quantized(part: Part, x: Tensor, weights: Linear) -> Tensor:
        if part not in linears:
            return plain_linear(part, x, weights)
        y = quantized_linear(x, linears[part])
        shift = _held_out_shift(means.of[part] - _means(y))
        if shift is None:
            return y
        corrected.add(part)
        linears[part] = replace(linears[part], bias=linears[part].bias + shift)
        return y + shift

    wanted = got = embed(plan.model, frames)
    for i in range(len(plan.model.blocks)):
        wanted = run_block(plan.model, i, wanted, means)
        got = run_block(plan.model, i, got, quantized)
    return replace(plan, linears=linears), corrected


def _held_out_shift(errors: Tensor) -> Tensor | None:
    """The mean of ``errors`` [2, out] if either half's lowers the other's squared error, summed; else None."""
    left = (errors - errors.flip(0)).square().sum()
    return errors.mean(0) if left < errors.square().sum() else None


def _means(y: Tensor) -> Tensor:
    return torch.stack([half.flatten(0, 1).mean(0) for half in y.tensor_split(HALVES)])
