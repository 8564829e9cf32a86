"""Choose INT8 scales for a folded ViT from calibration images.

Weights are symmetric per output channel, inputs symmetric per tensor, both by min-max. In front of
every GEMM a scale migration is searched and kept only if the layer's output error falls; weights are
rounded with the inputs in view, again only if that lowers the output error; the mean of what error
is left goes into the bias (Data-Free Quantization, arXiv 1906.04721).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgevit.compress.migrate import can_migrate, migrate, migrate_values, migration_scales
from edgevit.compress.rounding import round_gptq
from edgevit.compress.scores import quantize_scores
from edgevit.compress.statistics import Collector, InputStatistics
from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, forward, plain_linear
from edgevit.model.quantplan import QMAX, QuantizedLinear, QuantPlan, quantize_weight, quantized_linear
from edgevit.recipe import Quantize, Recipe

if TYPE_CHECKING:
    from edgevit.preprocess import Frame


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What happened to one GEMM."""

    name: str
    input_scale: float
    migration: float
    """The accepted exponent; 0 is off."""
    sqnr_db: float
    """Signal to quantization noise of the GEMM's output on the sampled tokens, quantized alone."""


def collect(model: FoldedVit, batches: Iterable[Frame], *, images: int, recipe: Recipe) -> dict[str, InputStatistics]:
    """Statistics of every GEMM's input over ``images`` calibration frames, uint8 [N, H, W, 3] per batch.

    Memory does not grow with the number of images.
    """
    collector = Collector(
        images=images,
        tokens=recipe.calibrate.tokens,
        seed=recipe.calibrate.seed,
        products=recipe.quantize.rounding == "gptq",
    )
    for batch in batches:
        forward(model, torch.from_numpy(batch), collector)
    return collector.statistics


def quantize(
    model: FoldedVit,
    statistics: dict[str, InputStatistics],
    recipe: Recipe,
    progress: Callable[[str], None] = lambda _name: None,
) -> tuple[QuantPlan, list[LayerReport]]:
    """Quantize the GEMMs that ``recipe`` names; ``model`` is left alone.

    ``progress`` is called with each GEMM's name before its search. Deterministic.
    """
    blocks: list[FoldedBlock] = []
    linears: dict[str, QuantizedLinear] = {}
    reports: list[LayerReport] = []
    for i, original in enumerate(model.blocks):
        block = original
        for kind in recipe.quantize.linears:
            name = f"blocks.{i}.{kind}"
            progress(name)
            known = statistics[name]
            alpha, scales = _best_migration(block, kind, known, recipe.quantize)
            trials = [_min_max(known, getattr(block, kind), scales)]
            if known.products is not None:
                trials.append(_rounded(trials[0], known, getattr(block, kind), scales))
            linears[name], sqnr = max(
                (_corrected(trial, known.tokens, scales, getattr(block, kind)) for trial in trials),
                key=lambda trial: trial[1],
            )
            step = linears[name].input_scale
            if alpha:
                linears[name], scales = _in_steps(linears[name], scales)
                block = migrate(block, kind, scales)
            if alpha and kind == "proj" and f"blocks.{i}.qkv" in linears:
                linears[f"blocks.{i}.qkv"] = migrate_values(linears[f"blocks.{i}.qkv"], scales)
            if kind == "fc2" and alpha:
                linears[name] = replace(linears[name], multiplier=1 / scales)
            if kind == "qkv" and recipe.quantize.scores:
                linears[name] = quantize_scores(linears[name], known.output_low, known.output_high)
            reports.append(LayerReport(name=name, input_scale=step, migration=alpha, sqnr_db=sqnr))
        blocks.append(block)
    return QuantPlan(model=replace(model, blocks=blocks), linears=linears), reports


def _best_migration(block: FoldedBlock, kind: str, known: InputStatistics, settings: Quantize) -> tuple[float, Tensor]:
    """The exponent with the least output error on the sampled tokens, 0 for off, and its scales."""
    linear: Linear = getattr(block, kind)
    candidates = {0.0: torch.ones_like(known.absmax)}
    if can_migrate(block, kind):
        candidates |= {alpha: migration_scales(known.absmax, linear.weight, alpha) for alpha in settings.migration}
    wanted = plain_linear(kind, known.tokens, linear)
    noise = {
        alpha: _energy(quantized_linear(known.tokens / scales, _min_max(known, linear, scales)) - wanted)
        for alpha, scales in candidates.items()
    }
    best = min(noise, key=lambda alpha: noise[alpha])  # the first of equals, so off wins a tie
    return best, candidates[best]


def _min_max(known: InputStatistics, linear: Linear, scales: Tensor) -> QuantizedLinear:
    """``linear`` in INT8 by min-max, its input divided by ``scales`` beforehand."""
    weight, weight_scale = quantize_weight(linear.weight * scales)
    largest = float((known.absmax / scales).max())
    # An input that is always zero (a dead layer) still needs a step.
    step = float(np.float32(largest / QMAX)) or 1.0
    return QuantizedLinear(weight=weight, weight_scale=weight_scale, input_scale=step, bias=linear.bias)


def _rounded(quantized: QuantizedLinear, known: InputStatistics, linear: Linear, scales: Tensor) -> QuantizedLinear:
    """The same steps with weights rounded by GPTQ; needs ``known.products``."""
    assert known.products is not None
    moment = known.products / known.count / scales[:, None] / scales
    # Rounding adds uniform noise to every input, independent of it: step^2 / 12 on the diagonal.
    moment.diagonal().add_(quantized.input_scale**2 / 12)
    return replace(quantized, weight=round_gptq(linear.weight * scales, quantized.weight_scale, moment))


def _corrected(quantized: QuantizedLinear, tokens: Tensor, scales: Tensor, linear: Linear) -> tuple[QuantizedLinear, float]:
    """The GEMM with its mean output error moved into the bias, and the SQNR in dB that is left."""
    wanted = plain_linear("", tokens, linear)
    error = wanted - quantized_linear(tokens / scales, quantized)
    mean = error.mean(0)
    return replace(quantized, bias=quantized.bias + mean), decibel(_energy(wanted), _energy(error - mean))


def _in_steps(quantized: QuantizedLinear, scales: Tensor) -> tuple[QuantizedLinear, Tensor]:
    """The same GEMM on an input measured in steps: what divides it takes the step, too, and a multiplication is saved."""
    step = quantized.input_scale
    return replace(quantized, input_scale=1.0, weight_scale=quantized.weight_scale * step), scales * step


def _energy(x: Tensor) -> float:
    return float(x.square().sum(dtype=torch.float64))


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise), capped at 200 where there is no noise."""
    return 200.0 if noise <= signal * 1e-20 else float(10 * np.log10(signal / noise))
