"""FP16 for everything that is not INT8: does the model fit, and what is done where it does not.

FP16 ends at 65,504 and its steps are 2^-11 of a value. A ViT overflows it, if at all, in the residual
stream, which grows from block to block and carries outlier channels. Every block reads the stream
through a LayerNorm, which does not see its scale: dividing all that is written to it (embedding, proj,
fc2) by a power of two, and epsilon by its square, changes nothing but the range. What else overflows
(a GEMM's output, attention scores) is refused with the place and the figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.errors import ConfigError
from edgevit.model.folded import (
    AttentionOp,
    FoldedBlock,
    FoldedVit,
    Linear,
    LinearOp,
    attended,
    before_pooling,
    forward,
    merged_behind,
    patch_product,
    placed,
    plain_linear,
    positioned,
    run_attention,
    run_block,
    run_head,
    run_mlp,
    scores,
)
from edgevit.model.merging import Tokens
from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear, QuantPlan, quantized_attention, quantized_linear
from edgevit.model.rewrites.kinds import MIGRATE, Rewrite
from edgevit.model.rewrites.legal import legal_rewrites
from edgevit.model.rewrites.migration import Transform, migrate, migrate_values
from edgevit.model.rewrites.scores import key_bias, without_key_bias
from edgevit.model.rewrites.stream import can_divide, divided
from edgevit.model.rounding import dtype_of, rounded, weight_codes
from edgevit.model.vit import ACTIVATIONS, activated
from edgevit.numberformat import FP16
from edgevit.part import WRITERS, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.preprocess import Frame

LARGEST = FP16.largest
HEADROOM = 2.0  # by how much an unseen image may exceed the calibrated ones
SMALLEST = 2.0**-24  # above 0, of FP16
NORMAL = 2.0**-14  # the smallest that FP16 has in full precision
EXACT = 2.0**-8  # relative change of a scale up to which its codes stay: rounding them anew would cost as much


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model that FP16 holds."""

    model: FoldedVit
    shift: int
    """The residual stream is divided by two to this power; 0 nearly always."""
    notes: tuple[str, ...]


class PeakMeter:
    """Runs a model as `edgevit.model.folded.forward` does and sees the largest magnitudes of what FP16 has to hold.

    ``found`` has them by place: ``stream`` is the residual stream, ``embed`` the product of patches and weights, with and without
    positions; ``blocks.3.fc1`` a GEMM's output, ``blocks.3.fc1 input`` its input, ``blocks.3.attention`` the scores,
    ``blocks.3.attention without key bias`` the same, where it may be left out; ``blocks.3.mlp_norm input`` the hidden activations
    in front of a norm; ``head.pool.scores`` and others attention pooling's; ``head`` the logits.
    """

    def __init__(self, model: FoldedVit) -> None:
        self.model, self.found = model, dict[str, float]()

    @torch.inference_mode()
    def embed(self, frames: Tensor) -> Tokens:
        """Tokens of uint8 frames [N, H, W, 3]."""
        product = patch_product(self.model, frames)
        self._see("embed", product)
        self._see("embed", product + self.model.positions[self.model.config.prefix_tokens :])
        tokens = Tokens(positioned(self.model, product))
        self._see("stream", tokens.x)
        return tokens

    @torch.inference_mode()
    def run_block(self, index: int, tokens: Tokens, linear: LinearOp = plain_linear) -> Tokens:
        """What block ``index`` makes of ``tokens``, with its GEMMs by ``linear``, where the tokens are; behind the last one come
        the logits, too."""
        model = placed(self.model, index, tokens.x.device)

        def seen(part: Part, x: Tensor, weights: Linear) -> Tensor:
            y = linear(part, x, weights)
            self._see(f"{part} input", x)
            self._see(str(part), y)
            if part.kind == "fc1" and model.blocks[index].mlp_norm is not None:  # behind it fc2's input is small again
                hidden = activated(ACTIVATIONS[model.config.activation], y, gated=model.blocks[index].gated)
                self._see(f"blocks.{index}.mlp_norm input", hidden)
            return y

        behind = run_attention(model, index, tokens, seen, partial(self._attention, model.blocks[index]))
        self._see("stream", behind.x)
        merged = merged_behind(model, index, tokens, behind)
        if merged is not behind and merged.sizes is not None:  # summed before they are averaged
            self._see("stream", merged.x * merged.sizes[..., None])
        last = run_mlp(model, index, merged, seen)
        self._see("stream", last.x)
        if index == len(model.blocks) - 1:
            self._head(model, last.to(torch.device("cpu")))
        return last

    def _head(self, model: FoldedVit, tokens: Tokens) -> None:
        if model.pool is not None:
            for place, x in attended(model.pool, before_pooling(model, tokens), model.config).items():
                self._see(f"head.pool.{place}", x)
        if not model.config.unit_features:  # else it is in FP32
            self._see("head", run_head(model, tokens))

    def _attention(
        self, block: FoldedBlock, part: Part, queries: Tensor, keys: Tensor, values: Tensor, added: Tensor | None
    ) -> Tensor:  # fmt: skip
        reached = scores(queries, keys, added)
        self._see(str(part), reached)
        if Rewrite.DROP_KEY_BIAS in legal_rewrites(block):
            self._see(_bare(part), reached - (queries * key_bias(block)[:, None]).sum(-1, keepdim=True))
        return reached.softmax(-1) @ values

    def _see(self, place: str, x: Tensor) -> None:
        low, high = x.aminmax()
        self.found[place] = max(self.found.get(place, 0.0), float(high), -float(low))


def peaks(model: FoldedVit, batches: Iterable[Frame]) -> dict[str, float]:
    """What `PeakMeter` finds on frames uint8 [N, H, W, 3] per batch."""
    meter = PeakMeter(model)
    for batch in batches:
        tokens = meter.embed(torch.from_numpy(batch))
        for index in range(len(model.blocks)):
            tokens = meter.run_block(index, tokens)
    return meter.found


def _bare(attention: Part) -> str:
    """The place of scores without the bias of keys."""
    return f"{attention} without key bias"


def without_key_biases(model: FoldedVit, found: dict[str, float]) -> FoldedVit:
    """``model`` without the biases of keys, which add the same to all scores of a query: a kernel less, the same softmax.

    A block keeps them where scores would become much larger without, and FP16 coarser.
    """

    def bare(index: int, block: FoldedBlock) -> FoldedBlock:
        part = Part(index, "attention")
        if Rewrite.DROP_KEY_BIAS not in legal_rewrites(block) or found[_bare(part)] > 2 * found[str(part)]:
            return block
        return without_key_bias(block)

    return replace(model, blocks=[bare(i, block) for i, block in enumerate(model.blocks)])


def fit(model: FoldedVit, found: dict[str, float]) -> Fitted:
    """``model`` as FP16 can hold it, given its `peaks`. Raises ConfigError where nothing helps."""
    limit = LARGEST / HEADROOM
    blocks = range(len(model.blocks))
    bare = {_bare(Part(i, "attention")) for i in blocks}  # as the model is, it is not
    written = {"stream", "embed"} | {str(Part(i, kind)) for i in blocks for kind in WRITERS}  # it can be divided
    for place, peak in ((place, peak) for place, peak in found.items() if place not in bare):
        if not np.isfinite(peak) or (peak > limit and (place not in written or not can_divide(model))):
            msg = (
                f"FP16 cannot hold this model: {place} reaches {peak:,.0f} on the calibration images, and FP16 ends at "
                f"{LARGEST:,.0f} (a factor {HEADROOM:g} is kept for other images). Build with --precision fp32."
            )
            raise ConfigError(msg)
    largest = max((peak for place, peak in found.items() if place in written), default=0.0)
    if largest <= limit:
        return Fitted(model=model, shift=0, notes=())
    shift = int(np.ceil(np.log2(largest / limit)))
    stream = found.get("stream", 0.0)
    note = f"fp16: the residual stream reaches {stream:,.0f} and is carried divided by {2**shift} (exact, no cost)"
    return Fitted(model=divided(model, shift), shift=shift, notes=(note,))


def with_half_scales(plan: QuantPlan) -> QuantPlan:
    """``plan`` with every scale a value that FP16 has, and codes to match; what it computes stays.

    TensorRT's scales have the activations' dtype. Inputs measured in steps leave weights with scales of 1e-5 and less,
    which FP16 holds with few digits, so a power of two goes from them into the inputs. A scale that is still
    below FP16's normal range (LayerScale makes some) may lose so many digits that its channel is rounded anew.
    """
    plan = replace(plan, model=replace(plan.model, blocks=list(plan.model.blocks)), linears=dict(plan.linears))
    for part in list(plan.linears):
        plan = _with_small_steps(plan, part)
    linears = {part: _half_linear(linear) for part, linear in plan.linears.items()}
    return replace(plan, linears=linears, attention={part: _half_steps(steps) for part, steps in plan.attention.items()})


def _with_small_steps(plan: QuantPlan, part: Part) -> QuantPlan:
    """The input of one GEMM divided by a power of two, down to a step of `NORMAL`, and its weights multiplied by it.

    As `smoothing` does it: in the norm in front, the value rows, or fc2's multiplier. What has none of these stays.
    """
    linear, block = plan.linears[part], plan.model.blocks[part.block]
    power = int(np.floor(np.log2(linear.input_scale / NORMAL)))
    if power <= 0 or MIGRATE[part.kind] not in legal_rewrites(block) or _is_fixed(plan, part):
        return plan
    factor = 2.0**power
    inputs = linear.weight.shape[1]
    transform = Transform(centre=torch.zeros(inputs), scales=torch.full((inputs,), factor))
    plan.model.blocks[part.block] = migrate(block, part.kind, transform)
    plan.linears[part] = replace(
        linear,
        input_scale=linear.input_scale / factor,
        weight_scale=linear.weight_scale * factor,
        multiplier=None if linear.multiplier is None else linear.multiplier / factor,
        offset=None if linear.offset is None else linear.offset / factor,
    )
    if part.kind != "proj" or block.norm_of("proj") is not None:
        return plan
    qkv, products = Part(part.block, "qkv"), Part(part.block, "attention")
    if qkv in plan.linears:
        plan.linears[qkv] = migrate_values(plan.linears[qkv], transform)
    steps = plan.attention.get(products)
    if steps is None or steps.value_step is None:
        return plan
    return replace(plan, attention=plan.attention | {products: replace(steps, value_step=steps.value_step / factor)})


def _is_fixed(plan: QuantPlan, part: Part) -> bool:
    """Whether it is an fc2 whose input nothing scales."""
    before = plan.model.blocks[part.block].norm_of(part.kind)
    return part.kind == "fc2" and before is None and plan.linears[part].multiplier is None


def _half_linear(linear: QuantizedLinear) -> QuantizedLinear:
    # Below the normal range upwards: a smaller scale would clip the largest weights.
    coarse = (linear.weight_scale / SMALLEST).ceil() * SMALLEST
    scale = torch.where(linear.weight_scale < NORMAL, coarse, _round(linear.weight_scale)).clamp_min(SMALLEST)
    ratio = linear.weight_scale / scale
    codes = torch.where((ratio - 1).abs()[:, None] > EXACT, linear.weight.float() * ratio[:, None], linear.weight.float())
    weight = weight_codes(codes, linear.format).to(dtype_of(linear.format))
    return replace(linear, weight=weight, weight_scale=scale, input_scale=_half(linear.input_scale))


def _half_steps(steps: QuantizedAttention) -> QuantizedAttention:
    value, probability = steps.value_step, steps.probability_step
    return replace(
        steps,
        query_step=_half(steps.query_step),
        key_step=_half(steps.key_step),
        value_step=None if value is None else _half(value),
        probability_step=None if probability is None else _half(probability),
    )


def _half(step: float) -> float:
    return max(float(np.float16(step)), SMALLEST)


@torch.inference_mode()
def simulate_half(plan: QuantPlan, frames: Tensor) -> Tensor:
    """Logits [N, classes] of frames uint8 [N, H, W, 3] with everything that ``plan`` leaves in floating point rounded to FP16.

    Rounded are weights, the inputs and outputs of every GEMM from patches to head, both products and softmax of
    attention, and the stream between blocks; sums are in FP32, as tensor cores have them. Inside LayerNorm and GELU nothing is.
    """
    *_, last = half_streams(plan, frames)
    return run_head(plan.model, last)


@torch.inference_mode()
def half_streams(plan: QuantPlan, frames: Tensor) -> Iterator[Tokens]:
    """The residual stream of `simulate_half`, as `edgevit.model.folded.streams` gives it."""
    linear, attention = _half_ops(plan)
    model = replace(plan.model, patch=_round(plan.model.patch), positions=_round(plan.model.positions))
    tokens = Tokens(_round(positioned(model, _round(patch_product(model, frames)))))
    yield tokens
    for i in range(len(model.blocks)):
        tokens = run_block(model, i, tokens, linear, attention)
        tokens = tokens.with_x(_round(tokens.x))
        yield tokens


def half_logits(plan: QuantPlan, reference: FoldedVit, batch: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [N, classes] of frames uint8 [N, H, W, 3]: of ``reference`` in FP32, and of ``plan`` as `simulate_half` has it."""
    frames = torch.from_numpy(batch)
    return forward(reference, frames).numpy(), simulate_half(plan, frames).numpy()


def _half_ops(plan: QuantPlan) -> tuple[LinearOp, AttentionOp]:
    def linear(part: Part, x: Tensor, weights: Linear) -> Tensor:
        quantized = plan.linears.get(part)
        if quantized is not None:
            return _round(quantized_linear(_round(x), quantized))
        return _round(_round(F.linear(_round(x), _round(weights.weight))) + _round(weights.bias))

    def attention(part: Part, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        steps = plan.attention.get(part)
        if steps is not None:
            return _round(quantized_attention(queries, keys, values, steps, bias))
        probabilities = _round(_round(scores(queries, keys, bias)).softmax(-1))
        return _round(probabilities @ values)

    return linear, attention


def _round(x: Tensor) -> Tensor:
    return rounded(x, FP16)
