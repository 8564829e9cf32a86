"""Choose INT8 scales for a folded ViT from calibration images.

Weights are symmetric per output channel, inputs symmetric per tensor. In front of every GEMM a
centring and a scale migration are searched, judged on images whose ranges they have not seen; weights
are rounded with the inputs in view, kept only if that lowers the output error; then, in network order,
attention becomes INT8 where it adds little, and what mean error is left goes into the biases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from edgevit.model.devices import CPU
from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, forward, plain_linear
from edgevit.model.quantplan import QuantizedLinear, QuantPlan, quantized_linear
from edgevit.model.rewrites.kinds import MIGRATE
from edgevit.model.rewrites.legal import legal_rewrites
from edgevit.model.rewrites.migration import Transform, migrate, migrate_outputs, migrate_values
from edgevit.model.rounding import quantize_input, quantize_weight
from edgevit.numberformat import INT8, NumberFormat
from edgevit.part import Part
from edgevit.quantize.attention import AttentionReport, quantize_attention
from edgevit.quantize.bias_correction import correct_biases, halves
from edgevit.quantize.gptq import round_gptq
from edgevit.quantize.smoothing_search import OFF, best_candidate, clip_value
from edgevit.quantize.statistics import Collector, InputStatistics
from edgevit.recipe import QuantizeSettings, Recipe

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

PRECISION = 1e-5  # of a float32 sum of many products
COMPARED = 4  # of so many sampled tokens, one tells which rounding is better: they differ by 6 to 10 dB
KEPT_TOKENS = 8192  # bounds the frames that pass once more in network order: 32 at 257 tokens


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What happened to one GEMM."""

    part: Part
    input_scale: float
    migration: float
    """The accepted exponent; 0 is off."""
    tail: float
    """How far beyond the calibrated extremes ranges were widened, in gaps between the largest and the fourth largest image."""
    centred: bool
    rounding: str
    """``gptq`` or ``nearest``, whichever left less error."""
    corrected: bool
    """Whether a bias correction in network order held on both halves of its images."""
    sqnr_db: float
    """Signal to quantization noise of the GEMM's output on the sampled tokens, quantized alone."""


class Calibration(Protocol):
    """What calibration images tell."""

    @property
    def frames(self) -> KeptFrames:
        """For the passes in network order."""
        ...

    def of_block(self, index: int) -> Mapping[Part, InputStatistics]:
        """Of the input of every GEMM of a block; asked for block by block, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Collected:
    """A `Calibration` of which all is there at once."""

    statistics: dict[Part, InputStatistics]
    """Of every GEMM's input."""
    frames: KeptFrames
    """See `Calibration.frames`."""

    def of_block(self, index: int) -> Mapping[Part, InputStatistics]:
        """See `Calibration.of_block`."""
        return {part: known for part, known in self.statistics.items() if part.block == index}


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized model and how it came about."""

    plan: QuantPlan
    layers: list[LayerReport]
    attention: list[AttentionReport]


def collect(model: FoldedVit, batches: Iterable[Frame], *, images: int, recipe: Recipe) -> Collected:
    """Calibrate on ``images`` frames, uint8 [N, H, W, 3] per batch, in one pass. Memory does not grow with their number, but with
    the model: `edgevit.quantize.streaming` holds what belongs to one block.
    """
    collector, keeper = collector_for(images, recipe), FrameKeeper(images=images, tokens=model.config.tokens)
    for batch in batches:
        frames = torch.from_numpy(batch)
        forward(model, frames, collector)
        keeper.add(frames)
    return Collected(statistics=collector.statistics, frames=keeper.kept(recipe.calibrate.seed))


def collector_for(images: int, recipe: Recipe) -> Collector:
    """What observes GEMMs as ``recipe`` asks, on so many ``images``."""
    settings, products = recipe.calibrate, recipe.quantize.rounding == "gptq"
    return Collector(images=images, tokens=settings.tokens, seed=settings.seed, products=products)


@dataclass(frozen=True)
class KeptFrames:
    """Some of the calibration images, evenly drawn, in random order."""

    frames: Tensor
    """uint8 [N, H, W, 3]"""
    numbers: list[int]
    """Of each among all images."""

    def means(self, of_images: Sequence[Tensor]) -> Tensor:
        """Mean over each half of them [2, C] of what every image has, [C]."""
        return halves(torch.stack([of_images[number] for number in self.numbers])[:, None])


class FrameKeeper:
    """Keeps some of all frames as they pass."""

    def __init__(self, *, images: int, tokens: int) -> None:
        """Of ``images`` that make so many ``tokens`` each."""
        self._stride = -(-images // max(2, KEPT_TOKENS // tokens))
        self._kept, self._numbers, self._seen = list[Tensor](), list[int](), 0

    def add(self, frames: Tensor) -> None:
        """Take in the next ``frames`` uint8 [N, H, W, 3]."""
        chosen = [number for number in range(self._seen, self._seen + len(frames)) if number % self._stride == 0]
        self._kept += [frames[number - self._seen] for number in chosen]
        self._numbers += chosen
        self._seen += len(frames)

    def kept(self, seed: int) -> KeptFrames:
        """All that were kept, in random order."""
        order = torch.randperm(len(self._kept), generator=torch.Generator().manual_seed(seed)).tolist()
        return KeptFrames(torch.stack([self._kept[i] for i in order]), [self._numbers[i] for i in order])


def quantize(
    model: FoldedVit, calibration: Calibration, recipe: Recipe, progress: Callable[[Part], None] = lambda _part: None,
    to: NumberFormat = INT8, device: torch.device = CPU,
) -> Quantized:  # fmt: skip
    """Quantize the GEMMs that ``recipe`` names to ``to``; ``model``, on the CPU, is left alone.

    ``progress`` is called with each GEMM before its search. Computes on ``device``, where ``calibration`` has its statistics, and
    gives back to the CPU. Deterministic on each device.
    """
    plan, layers = QuantPlan(model=replace(model, blocks=list(model.blocks))), dict[Part, LayerReport]()
    extremes, means, kept = dict[int, tuple[Tensor, Tensor]](), dict[Part, Tensor](), calibration.frames
    for i in range(len(model.blocks)):
        statistics = calibration.of_block(i)
        for kind in (kind for kind in recipe.quantize.linears if kind in model.blocks[i].linears):
            part = Part(i, kind)
            progress(part)
            known = statistics[part]
            linear, transform, layers[part] = _quantize_gemm(part, plan.model.blocks[i].to(device), known, recipe.quantize, to)
            transform = transform and transform.to(CPU)
            _install(plan, part, linear.to(CPU), transform)
            means[part] = kept.means(known.output_means).to(CPU)
            if kind == "qkv":
                extremes[i] = (known.output_low.to(CPU), known.output_high.to(CPU))
            elif kind == "proj" and i in extremes and transform is not None and plan.model.blocks[i].norm_of(kind) is None:
                extremes[i] = migrate_outputs(extremes[i], transform)
                first, second = means[Part(i, "qkv")]
                means[Part(i, "qkv")] = torch.stack(migrate_outputs((first, second), transform))
    if recipe.quantize.bias == "network" and len(kept.frames) > 1:
        plan, corrected = correct_biases(plan, kept.frames, means, device)
        layers |= {part: replace(layers[part], corrected=True) for part in corrected}
    attention: list[AttentionReport] = []
    if recipe.quantize.attention != "off":  # last: it rescales queries and keys, which biases are compared by
        plan, attention = quantize_attention(plan, extremes, kept.frames, recipe.quantize.attention, device)
    return Quantized(plan=plan, layers=list(layers.values()), attention=attention)


def _quantize_gemm(
    part: Part, block: FoldedBlock, known: InputStatistics, settings: QuantizeSettings, to: NumberFormat
) -> tuple[QuantizedLinear, Transform | None, LayerReport]:
    """The INT8 GEMM for a transformed input measured in steps, the transform (None: neither), and the report."""
    linear: Linear = getattr(block, part.kind)
    chosen = best_candidate(known, linear, settings, to) if MIGRATE[part.kind] in legal_rewrites(block) else OFF
    transform, largest = chosen.transform(known.highs.values, known.lows.values, linear.weight.abs().amax(0))
    clip = clip_value(known, transform, float(largest), linear, settings, to)
    trials = {"nearest": _nearest(transform.inverse(linear), clip, to)}
    if known.products is not None:
        trials["gptq"] = _rounded(trials["nearest"], known, transform, linear)
    finished = {rounding: _corrected(trial, known, transform, linear, settings) for rounding, trial in trials.items()}
    rounding = max(finished, key=lambda key: finished[key][1])
    quantized, sqnr = finished[rounding]
    report = LayerReport(
        part=part, input_scale=quantized.input_scale, migration=chosen.alpha, tail=chosen.tail, centred=chosen.centring,
        rounding=rounding, corrected=False, sqnr_db=sqnr,
    )  # fmt: skip
    return (quantized, None, report) if chosen == OFF else (*_in_steps(quantized, transform), report)


def _install(plan: QuantPlan, part: Part, linear: QuantizedLinear, transform: Transform | None) -> None:
    """Put an INT8 GEMM into ``plan`` and its input's transform where it belongs."""
    blocks, qkv = plan.model.blocks, Part(part.block, "qkv")
    plan.linears[part] = linear
    if transform is None:
        return
    blocks[part.block] = migrate(blocks[part.block], part.kind, transform)
    if part.kind == "proj" and qkv in plan.linears and blocks[part.block].norm_of("proj") is None:
        plan.linears[qkv] = migrate_values(plan.linears[qkv], transform)
    if part.kind == "fc2" and blocks[part.block].norm_of("fc2") is None:
        offset = -transform.centre / transform.scales if bool(transform.centre.any()) else None
        plan.linears[part] = replace(linear, multiplier=1 / transform.scales, offset=offset)


def _nearest(linear: Linear, clip: float, to: NumberFormat) -> QuantizedLinear:
    """``linear`` in ``to`` with weights to their nearest codes and inputs clipped at ``clip``."""
    weight, weight_scale = quantize_weight(linear.weight, to)
    # An input that is always zero (a dead layer) still needs a step.
    return QuantizedLinear(
        weight=weight,
        weight_scale=weight_scale,
        input_scale=float(np.float32(clip / to.largest)) or 1.0,
        bias=linear.bias,
        format=to,
    )


def _rounded(quantized: QuantizedLinear, known: InputStatistics, transform: Transform, linear: Linear) -> QuantizedLinear:
    """The same steps with weights rounded by GPTQ; needs ``known.products``."""
    assert known.products is not None
    # About the mean, whose error the bias takes.
    moment = (known.second_moment - known.mean[:, None] * known.mean) / transform.scales[:, None] / transform.scales
    # Rounding adds uniform noise to every input, independent of it: step^2 / 12 on the diagonal. The other part
    # is what the subtraction in float32 may have lost, so that inputs that never change stay positive definite.
    lost = PRECISION * (known.products.diagonal() / known.count / transform.scales.square()).mean()
    moment.diagonal().add_(quantized.input_scale**2 / 12 + lost)
    return replace(
        quantized, weight=round_gptq(transform.inverse(linear).weight, quantized.weight_scale, moment, quantized.format)
    )


def _corrected(
    quantized: QuantizedLinear, known: InputStatistics, transform: Transform, linear: Linear, settings: QuantizeSettings
) -> tuple[QuantizedLinear, float]:
    """The GEMM with its mean output error moved into the bias, unless that is off, and the SQNR in dB that is left.

    Of all sampled tokens for the mean, which takes no more than the mean of their codes; of every `COMPARED`-th for the SQNR.
    """
    if settings.bias != "off":
        codes = quantize_input(transform(known.tokens), quantized.input_scale, quantized.format)
        step = quantized.weight_scale * quantized.input_scale
        got = step * (quantized.weight.float() @ (known.shares.T @ codes)[0]) + quantized.bias
        wanted = plain_linear(None, (known.shares.T @ known.tokens)[0], linear)
        quantized = replace(quantized, bias=quantized.bias + wanted - got)
    tokens, shares = known.tokens[::COMPARED], known.shares[::COMPARED, 0]
    exact = plain_linear(None, tokens, linear)
    error = exact - quantized_linear(transform(tokens), quantized)
    signal, noise = (float(y.square().sum(1) @ shares) for y in (exact, error))
    return quantized, decibel(signal, noise)


def _in_steps(quantized: QuantizedLinear, transform: Transform) -> tuple[QuantizedLinear, Transform]:
    """The same GEMM on an input measured in steps: what divides it takes the step, too, and a multiplication is saved."""
    step = quantized.input_scale
    inside = replace(quantized, input_scale=1.0, weight_scale=quantized.weight_scale * step)
    return inside, replace(transform, scales=transform.scales * step)


def decibel(signal: float, noise: float) -> float:
    """10 log10(signal / noise), capped at 200 where there is no noise."""
    return 200.0 if noise <= signal * 1e-20 else float(10 * np.log10(signal / noise))
