"""FP16: a stream that outgrows it is divided without changing logits, what cannot be helped is refused, scales keep meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgevit.errors import ConfigError
from edgevit.model.folded import FoldedVit, Linear, embed, forward, run_block
from edgevit.model.quantplan import QuantizedLinear, QuantPlan, simulate
from edgevit.part import Part
from edgevit.quantize.fp16 import (
    LARGEST,
    NORMAL,
    SMALLEST,
    fit,
    peaks,
    simulate_half,
    with_half_scales,
    without_key_biases,
)
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.vitconfig import BlockConfig
from tests.zoo import ZOO, folded, frames, int8, int8_of


def grown(model: FoldedVit, factor: float) -> FoldedVit:
    """The same model with a residual stream ``factor`` times as large: proj and fc2 write more, norms do not care."""
    return replace(
        model,
        patch=model.patch * factor,
        positions=model.positions * factor,
        blocks=[replace(block, proj=Linear(block.proj.weight * factor, block.proj.bias * factor),
                        fc2=Linear(block.fc2.weight * factor, block.fc2.bias * factor)) for block in model.blocks],
    )  # fmt: skip


def sqnr(wanted: torch.Tensor, found: torch.Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


def test_peaks_are_the_largest_magnitudes() -> None:
    model = folded()
    images = frames(model.config, 6)
    seen: dict[str, float] = {}

    def linear(name: Part, x: torch.Tensor, weights: Linear) -> torch.Tensor:
        seen[f"{name} input"] = float(x.abs().max())
        seen[str(name)] = float((x @ weights.weight.T + weights.bias).abs().max())
        return x @ weights.weight.T + weights.bias

    forward(model, torch.from_numpy(images), linear)
    found = peaks(model, [images[:2], images[2:]])
    assert {name: found[name] for name in seen} == pytest.approx(seen, rel=1e-5)
    assert {"stream", "embed", "head", "blocks.0.attention", "blocks.1.attention"} <= set(found)
    assert found["stream"] > 0
    assert found["head"] == pytest.approx(float(forward(model, torch.from_numpy(images)).abs().max()), rel=1e-5)


def test_sums_of_merged_tokens_are_seen_in_front_of_the_mlp() -> None:
    """Which may take back what attention wrote: of equal tokens, half of which go, the largest sum is theirs times the size."""
    blocks = (BlockConfig(heads=4, hidden=48, merged=8), BlockConfig(heads=4, hidden=48))
    model = folded(position_embedding=False, blocks=blocks)
    first = model.blocks[0]
    model.blocks[0] = replace(
        first,
        proj=Linear(first.proj.weight * 0, torch.full_like(first.proj.bias, 1000.0)),
        fc2=Linear(first.fc2.weight * 0, torch.full_like(first.fc2.bias, -1000.0)),
    )
    image = np.full((1, 16, 16, 3), 128, np.uint8)
    tokens = embed(model, torch.from_numpy(image)).x
    merged = run_block(model, 0, embed(model, torch.from_numpy(image)))
    assert merged.sizes is not None
    largest = float(merged.sizes.max())
    assert largest > 1
    patches = tokens[:, model.config.prefix_tokens :] + 1000.0
    assert peaks(model, [image])["stream"] == pytest.approx(largest * float(patches.abs().max()), rel=1e-5)


def test_key_biases_go_where_scores_stay_small() -> None:
    model = folded()
    images = frames(model.config, 4)
    bare = without_key_biases(model, peaks(model, [images]))
    inner = model.blocks[0].proj.weight.shape[1]
    assert all(not block.qkv.bias[inner : 2 * inner].any() for block in bare.blocks)
    assert (forward(bare, torch.from_numpy(images)) - forward(model, torch.from_numpy(images))).abs().max() < 1e-4


def test_key_biases_that_keep_scores_small_stay() -> None:
    """Keys of mean -b with a bias of b: without it scores would be large, and FP16 coarse where they differ."""
    model = folded()
    images = frames(model.config, 4)
    for block in model.blocks:
        inner = block.proj.weight.shape[1]
        rows = slice(inner, 2 * inner)
        assert block.norm1 is not None
        block.qkv.bias[rows] += 400  # of the norm's constant part ...
        block.norm1.bias += 1
        block.qkv.weight[rows] -= 400 / block.qkv.weight.shape[1]  # ... which the weights take away again
    found = peaks(model, [images])
    assert found["blocks.0.attention without key bias"] > 2 * found["blocks.0.attention"]
    kept = without_key_biases(model, found)
    assert torch.equal(kept.blocks[0].qkv.bias, model.blocks[0].qkv.bias)


def test_an_overflowing_embedding_is_seen() -> None:
    """In front of an embedding norm nothing else tells."""
    model = folded(embedding_norm=True)
    images = frames(model.config, 4)
    wanted = forward(model, torch.from_numpy(images))
    model = replace(model, patch=model.patch * 3e5, positions=model.positions * 3e5)
    assert model.embedding_norm is not None
    model = replace(model, embedding_norm=replace(model.embedding_norm, eps=model.embedding_norm.eps * 9e10))
    found = peaks(model, [images])
    assert found["embed"] > LARGEST
    assert not torch.isfinite(simulate_half(QuantPlan(model=model), torch.from_numpy(images))).all()
    fitted = fit(model, found)
    assert sqnr(wanted, simulate_half(QuantPlan(model=fitted.model), torch.from_numpy(images))) > 40


def test_a_stream_beyond_fp16_is_divided_and_then_holds() -> None:
    model = grown(folded(), 3e5)
    images = frames(model.config, 8)
    tensor = torch.from_numpy(images)
    wanted = forward(model, tensor)
    assert not torch.isfinite(simulate_half(QuantPlan(model=model), tensor)).all()
    fitted = fit(model, peaks(model, [images]))
    assert fitted.shift > 0
    assert f"divided by {2**fitted.shift}" in fitted.notes[0]
    assert peaks(fitted.model, [images])["stream"] <= LARGEST / 2
    assert sqnr(wanted, simulate_half(QuantPlan(model=fitted.model), tensor)) > 40


def test_what_a_norm_inside_the_mlp_hides_is_seen() -> None:
    """The product of a gated MLP, in front of its norm, has the square of what fc1 gives."""
    model = folded(**ZOO["norms before proj and fc2"])
    block = model.blocks[1]
    large = Linear(block.fc1.weight * 200, block.fc1.bias * 200)
    model = replace(model, blocks=[model.blocks[0], replace(block, fc1=large)])
    found = peaks(model, [frames(model.config, 4)])
    assert found["blocks.1.fc1"] < LARGEST / 2
    with pytest.raises(ConfigError, match=r"blocks\.1\.mlp_norm input reaches"):
        fit(model, found)


def test_attention_pooling_is_seen() -> None:
    model = folded(**ZOO["attention pooling"])
    assert model.pool is not None
    model = replace(model, pool=replace(model.pool, scores=model.pool.scores * 1e6))
    with pytest.raises(ConfigError, match=r"head\.pool\.scores reaches"):
        fit(model, peaks(model, [frames(model.config, 4)]))


def test_a_model_that_fits_is_left_alone() -> None:
    model = folded()
    fitted = fit(model, peaks(model, [frames(model.config, 4)]))
    assert (fitted.model, fitted.shift, fitted.notes) == (model, 0, ())


@pytest.mark.parametrize(
    ("name", "found", "place"),
    [
        ("plain", {"stream": 1.0, "blocks.1.fc1": 1e5}, r"blocks\.1\.fc1 reaches 100,000"),
        ("plain", {"blocks.0.attention": 5e4}, r"blocks\.0\.attention reaches 50,000"),
        ("plain", {"stream": float("inf")}, "stream reaches inf"),
        ("plain", {"stream": float("nan")}, "stream reaches nan"),
        ("no norm in blocks", {"stream": 1e5}, "stream reaches 100,000"),
    ],
)
def test_what_nothing_helps_against_is_refused_with_place_and_figure(name: str, found: dict[str, float], place: str) -> None:
    with pytest.raises(ConfigError, match=f"FP16 cannot hold this model: {place}.*--precision fp32"):
        fit(folded(**ZOO[name]), found)


@pytest.mark.parametrize("name", ["plain", "layer scale", "pruned blocks"])
def test_half_scales_are_fp16_values_and_cost_next_to_nothing(name: str) -> None:
    plan = int8_of(name)
    half = with_half_scales(plan)
    for linear in half.linears.values():
        assert torch.equal(linear.weight_scale.half().float(), linear.weight_scale)
        assert float(np.float16(linear.input_scale)) == linear.input_scale
    for steps in half.attention.values():
        for step in (steps.query_step, steps.key_step, steps.value_step, steps.probability_step):
            assert float(np.float16(step)) == step
    images = torch.from_numpy(frames(plan.model.config, 16, seed=7))
    assert sqnr(simulate(plan, images), simulate(half, images)) > 25


def weights(linear: QuantizedLinear) -> torch.Tensor:
    """What the codes stand for, per unit of the input's codes."""
    return linear.weight.double() * linear.weight_scale.double()[:, None] * linear.input_scale


def test_inputs_in_steps_lend_their_weights_a_power_of_two() -> None:
    """Otherwise nearly every weight scale lies below FP16's normal range: on DINOv2-S that cost 6 dB."""
    plan = int8(folded(), Recipe(quantize=QuantizeSettings(attention="full")))
    assert min(float(linear.weight_scale.min()) for linear in plan.linears.values()) < NORMAL
    half = with_half_scales(plan)
    for name, linear in half.linears.items():
        assert linear.input_scale >= NORMAL
        assert float(linear.weight_scale.median()) > NORMAL
        assert torch.equal(linear.weight, plan.linears[name].weight)
        # Values take their power from proj's side.
        rows = slice(0, 64) if name.kind == "qkv" else slice(None)
        assert torch.allclose(weights(linear)[rows], weights(plan.linears[name])[rows], rtol=2e-3)
    images = torch.from_numpy(frames(plan.model.config, 16, seed=9))
    assert sqnr(simulate(plan, images), simulate(half, images)) > 35


@pytest.mark.parametrize("name", ["no norm in blocks", "registers", "pruned blocks"])
def test_half_scales_leave_the_float_model_what_it_computes(name: str) -> None:
    """The power goes into norms and value rows of the float weights, too: a reverted GEMM reads what it should."""
    plan = int8(folded(**ZOO[name]))
    half = with_half_scales(plan)
    images = torch.from_numpy(frames(plan.model.config, 4))
    assert (forward(half.model, images) - forward(plan.model, images)).abs().max() < 1e-4
    assert sqnr(simulate(plan, images), simulate(half, images)) > 30


@pytest.mark.parametrize("size", [8.9e-8, 1.48e-7, 2e-7, 4.4e-7, 3e-6])
def test_a_scale_below_the_normal_range_never_clips_the_largest_weight(size: float) -> None:
    """A norm-free block has no power to lend: the scale is rounded up."""
    plan = int8(folded(block_norm=False, final_norm="none"))
    name = Part(0, "fc1")
    old = plan.linears[name]
    codes = old.weight.clone()
    codes[:, 0] = 127
    tiny = replace(old, weight=codes, weight_scale=torch.full_like(old.weight_scale, size))
    half = with_half_scales(replace(plan, linears=plan.linears | {name: tiny})).linears[name]
    assert (half.weight_scale >= tiny.weight_scale * (1 - 2**-9)).all()
    worst = (weights(half)[:, 0] / weights(tiny)[:, 0] - 1).abs().max()
    assert worst < 0.5 * float(half.weight_scale[0]) / (127 * size) + 1e-3


def test_scales_below_fp16_range_get_codes_of_their_own() -> None:
    """A channel whose scale has three digits left in FP16 keeps its weights to half a step of the new scale."""
    plan = int8(folded())
    name = Part(0, "proj")
    old = plan.linears[name]
    tiny = replace(old, weight_scale=torch.logspace(-13, -9, len(old.weight_scale)))
    half = with_half_scales(replace(plan, linears=plan.linears | {name: tiny})).linears[name]
    step = half.weight_scale.double()[:, None] * half.input_scale
    assert (half.weight_scale >= SMALLEST).all()
    inside = weights(tiny).abs() <= 127 * step
    assert ((weights(tiny) - weights(half)).abs() <= 0.5001 * step)[inside].all()
    naive = tiny.weight * step
    assert (weights(tiny) - weights(half)).square().sum() < (weights(tiny) - naive).square().sum() / 4
