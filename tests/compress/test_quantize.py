"""From calibration frames to INT8 GEMMs: statistics are true and bounded, errors small, results repeatable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from edgevit.compress.migrate import migration_scales
from edgevit.compress.quantize import collect, decibel, quantize
from edgevit.compress.statistics import InputStatistics
from edgevit.model.folded import LINEARS, FoldedVit, Linear, forward, plain_linear
from edgevit.model.planfile import dump_plan, load_plan
from edgevit.model.quantplan import QuantPlan, fake_quant, quantized_linear
from edgevit.recipe import Calibrate, Quantize, Recipe
from tests.zoo import ZOO, folded, frames, int8

CALIBRATION = 16


@pytest.fixture(scope="module")
def model() -> FoldedVit:
    return folded()


def names(model: FoldedVit, linears: tuple[str, ...] = LINEARS) -> list[str]:
    return [f"blocks.{i}.{kind}" for i in range(len(model.blocks)) for kind in linears]


def logits(plan: QuantPlan, images: np.ndarray) -> Tensor:
    return forward(plan.model, torch.from_numpy(images), fake_quant(plan))


def sqnr(plan: QuantPlan, model: FoldedVit) -> float:
    """Of the logits, in dB, on frames that calibration has not seen."""
    images = frames(model.config, 64, seed=7)
    wanted = forward(model, torch.from_numpy(images))
    return decibel(float(wanted.square().sum()), float((logits(plan, images) - wanted).square().sum()))


def statistics_without_products(statistics: dict[str, InputStatistics]) -> dict[str, InputStatistics]:
    """As `collect` gives them for nearest rounding."""
    return {name: replace(known, products=None) for name, known in statistics.items()}


# --- statistics ------------------------------------------------------------------------------------------------------------


def test_ranges_are_the_extremes_of_every_token(model: FoldedVit) -> None:
    """Over all images and tokens, also those that the sample passes over."""
    images = frames(model.config, 10)
    low: dict[str, Tensor] = {}
    high: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def linear(name: str, x: Tensor, weights: Linear) -> Tensor:
        low[name], high[name] = x.flatten(0, 1).amin(0), x.flatten(0, 1).amax(0)
        outputs[name] = plain_linear(name, x, weights)
        return outputs[name]

    forward(model, torch.from_numpy(images), linear)
    recipe = Recipe(calibrate=Calibrate(tokens=64))
    statistics = collect(model, [images[:3], images[3:4], images[4:]], images=10, recipe=recipe)
    assert list(statistics) == names(model)
    for name, known in statistics.items():
        torch.testing.assert_close(known.low, low[name], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(known.high, high[name], rtol=1e-5, atol=1e-5)
        assert torch.equal(known.absmax, torch.maximum(-known.low, known.high))
        torch.testing.assert_close(known.output_low, outputs[name].flatten(0, 1).amin(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(known.output_high, outputs[name].flatten(0, 1).amax(0), rtol=1e-5, atol=1e-5)


def test_extremes_of_inputs_and_outputs_are_kept_apart() -> None:
    """Of one GEMM, token by token: what was seen before is not forgotten, and x and y may differ in width."""
    empty = {"sample": torch.empty(8, 2), "low": torch.full((2,), torch.inf), "high": torch.full((2,), -torch.inf)}
    known = InputStatistics(**empty, output_low=torch.full((3,), torch.inf), output_high=torch.full((3,), -torch.inf))
    known.add(torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 0.0, -1.0]]))
    known.add(torch.tensor([[0.5, 3.0], [2.0, 1.0]]), torch.tensor([[-4.0, 1.0, -2.0], [0.0, 2.0, -3.0]]))
    assert (known.low.tolist(), known.high.tolist()) == ([0.5, -2.0], [2.0, 3.0])
    assert (known.output_low.tolist(), known.output_high.tolist()) == ([-4.0, 0.0, -3.0], [4.0, 2.0, -1.0])
    assert known.count == 3
    assert known.products is None


@pytest.mark.parametrize("count", [1, 7, 64, 65, 300])
def test_statistics_are_bounded(model: FoldedVit, count: int) -> None:
    """Memory is the recipe's tokens, however many images pass; each gives about the same share."""
    images = frames(model.config, count)
    recipe = Recipe(calibrate=Calibrate(tokens=64))
    statistics = collect(model, np.array_split(images, math.ceil(count / 8)), images=count, recipe=recipe)
    for name, known in statistics.items():
        assert len(known.sample) == 64
        assert 0 < known.used <= 64
        assert torch.isfinite(known.tokens).all()
        if count >= 64:
            # From 64 images on each gives one token; from 65 on every second image does, and so on.
            assert known.used == math.ceil(count / math.ceil(count / 64)), name


def test_second_moments_are_of_every_token(model: FoldedVit) -> None:
    """The sum of x x^T over all tokens of all images, and how many; only for the rounding that reads it."""
    images, seen = frames(model.config, 5), {}

    def linear(name: str, x: Tensor, weights: Linear) -> Tensor:
        seen[name] = x.flatten(0, 1)
        return plain_linear(name, x, weights)

    forward(model, torch.from_numpy(images), linear)
    for name, known in collect(model, [images[:2], images[2:]], images=5, recipe=Recipe()).items():
        assert known.count == len(seen[name])
        assert known.products is not None
        wanted = seen[name].T @ seen[name]
        torch.testing.assert_close(known.products, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    nearest = Recipe(quantize=Quantize(rounding="nearest"))
    assert all(known.products is None for known in collect(model, [images], images=5, recipe=nearest).values())


def test_the_sample_begins_with_the_class_token(model: FoldedVit) -> None:
    """A share of one token per image is its class token, which the head reads."""
    images = frames(model.config, 64)
    known = collect(model, [images], images=64, recipe=Recipe(calibrate=Calibrate(tokens=64)))["blocks.1.qkv"]
    seen = {}

    def linear(name: str, x: Tensor, weights: Linear) -> Tensor:
        seen[name] = x
        return plain_linear(name, x, weights)

    forward(model, torch.from_numpy(images), linear)
    torch.testing.assert_close(known.tokens, seen["blocks.1.qkv"][:, 0])


def test_sampled_tokens_of_an_image_are_different_ones(model: FoldedVit) -> None:
    known = collect(model, [frames(model.config, 1)], images=1, recipe=Recipe(calibrate=Calibrate(tokens=64)))["blocks.0.qkv"]
    assert known.used == model.config.tokens
    assert len(known.tokens.unique(dim=0)) == known.used


def test_batches_change_no_result(model: FoldedVit) -> None:
    images = frames(model.config, 9)
    one, many = (collect(model, np.array_split(images, parts), images=9, recipe=Recipe()) for parts in (9, 2))
    for name, known in one.items():
        torch.testing.assert_close(known.tokens, many[name].tokens, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(known.absmax, many[name].absmax, rtol=1e-4, atol=1e-5)


# --- quality -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_every_vit_keeps_its_logits(name: str) -> None:
    """8 bits are about 40 dB a GEMM; these small models with planted outliers keep more than 20 end to end.

    Without LayerNorms nothing takes a migration in front of qkv and fc1, which costs a few dB.
    """
    model = folded(**ZOO[name])
    plan = int8(model)
    assert set(plan.linears) == set(names(model))
    assert sqnr(plan, model) > (20 if model.config.block_norm else 15)


def test_outlier_channels_are_migrated_and_the_error_falls(model: FoldedVit) -> None:
    """The model's LayerNorms have channels twelve times as large as others."""
    images = frames(model.config, CALIBRATION)
    statistics = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    plan, reports = quantize(model, statistics, Recipe())
    plain, plain_reports = quantize(model, statistics, Recipe(quantize=Quantize(migration=())))
    assert all(report.migration in Quantize().migration for report in reports if report.name.endswith(("qkv", "fc1")))
    assert all(report.migration == 0 for report in plain_reports)
    for migrated, fixed in zip(reports, plain_reports, strict=True):
        # proj sees qkv's weights before migration, so each GEMM alone is never worse.
        assert migrated.sqnr_db >= fixed.sqnr_db - 0.1, migrated.name
    assert sqnr(plan, model) > sqnr(plain, model) + 3


def test_migration_leaves_the_float_model_as_it_was(model: FoldedVit) -> None:
    """What is not quantized, of a plan, computes what the model computes."""
    plan, images = int8(model), torch.from_numpy(frames(model.config, 2))
    alone = forward(replace(plan, linears={}).model, images)
    # fc2's migration is in its INT8 entry; the others are in the weights.
    torch.testing.assert_close(alone, forward(model, images), rtol=1e-4, atol=1e-4)


def test_weights_are_within_half_a_step(model: FoldedVit) -> None:
    """Nearest rounding: codes times steps, times what the input is multiplied with, are the migrated float weights."""
    plan = int8(model, Recipe(quantize=Quantize(rounding="nearest", scores=False)))
    for name, linear in plan.linears.items():
        _, index, kind = name.split(".")
        weight = getattr(plan.model.blocks[int(index)], kind).weight
        factor = torch.ones(weight.shape[1]) if linear.multiplier is None else linear.multiplier
        error = (linear.weight * linear.weight_scale[:, None] * factor - weight).abs()
        assert (error <= 0.501 * linear.weight_scale[:, None] * factor).all(), name
        assert linear.weight.dtype == torch.int8
        assert linear.weight.abs().max() <= 127


@pytest.mark.parametrize("name", ["plain", "no norm in blocks", "layer scale"])
def test_the_step_is_folded_into_the_migration(name: str) -> None:
    """A migrated GEMM measures its input in steps: one multiplication less. The report tells the step all the same."""
    model = folded(**ZOO[name])
    images = frames(model.config, CALIBRATION)
    statistics = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    plan, reports = quantize(model, statistics, Recipe())
    assert any(report.migration for report in reports)
    for report in reports:
        linear, known = plan.linears[report.name], statistics[report.name]
        _, index, kind = report.name.split(".")
        if not report.migration:
            assert linear.input_scale == report.input_scale == float(np.float32(known.absmax.max() / 127)), report.name
            assert linear.multiplier is None
            continue
        assert linear.input_scale == 1.0, report.name
        before, after = model.blocks[int(index)], plan.model.blocks[int(index)]
        if kind == "fc2":
            assert linear.multiplier is not None
            scales = 1 / linear.multiplier
        else:
            # Columns of the weight took what divides the input; of qkv, proj's migration changes the rows of the values alone.
            assert linear.multiplier is None
            rows = len(getattr(before, kind).weight) * (2 if kind == "qkv" else 3) // 3
            grown, plain = getattr(after, kind).weight[:rows], getattr(before, kind).weight[:rows]
            scales = grown.abs().sum(0) / plain.abs().sum(0)
        wanted = migration_scales(known.absmax, getattr(before, kind).weight, report.migration)
        torch.testing.assert_close(scales, wanted * report.input_scale, rtol=1e-4, atol=0)
        assert report.input_scale == pytest.approx(float((known.absmax / wanted).max()) / 127, rel=1e-6)
        if kind in ("qkv", "fc1"):
            norms = [getattr(block, "norm1" if kind == "qkv" else "norm2") for block in (before, after)]
            torch.testing.assert_close(norms[1].weight * scales, norms[0].weight, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(norms[1].bias * scales, norms[0].bias, rtol=1e-4, atol=1e-6)


def test_scores_are_quantized_where_qkv_is(model: FoldedVit) -> None:
    """Steps on every qkv and on nothing else; none if the recipe says so or qkv stays in floating point."""
    for settings, wanted in (
        (Quantize(), True),
        (Quantize(linears=("qkv",)), True),
        (Quantize(scores=False), False),
        (Quantize(linears=("proj", "fc1", "fc2")), False),
    ):
        plan = int8(model, Recipe(quantize=settings))
        for name, linear in plan.linears.items():
            steps = (linear.query_step, linear.key_step)
            if wanted and name.endswith("qkv"):
                assert all(step is not None and 0 < step < math.inf and step == float(np.float32(step)) for step in steps), name
            else:
                assert steps == (None, None), name


def test_no_calibration_query_or_key_is_clipped(model: FoldedVit) -> None:
    """Steps come from the float model's extremes; the INT8 GEMM's own outputs pass them by its error at most."""
    images = frames(model.config, CALIBRATION)
    plan = int8(model, calibration=images)
    largest: dict[str, list[float]] = {}

    def linear(name: str, x: Tensor, weights: Linear) -> Tensor:
        quantized = plan.linears[name]
        if name.endswith("qkv"):
            query, key, _ = quantized_linear(x, replace(quantized, query_step=None, key_step=None)).chunk(3, dim=-1)
            assert quantized.query_step is not None
            assert quantized.key_step is not None
            largest[name] = [float(query.abs().max()) / quantized.query_step, float(key.abs().max()) / quantized.key_step]
        return plain_linear(name, x, weights)

    forward(plan.model, torch.from_numpy(images), linear)
    assert set(largest) == set(names(model, ("qkv",)))
    for name, codes in largest.items():
        assert codes == pytest.approx([127, 127], rel=0.03), name


def test_no_calibration_input_is_clipped(model: FoldedVit) -> None:
    """Min-max: the largest input of calibration is the largest code; outlier tokens matter."""
    images = frames(model.config, CALIBRATION)
    plan = int8(model, calibration=images)
    largest = {}

    def linear(name: str, x: Tensor, weights: Linear) -> Tensor:
        quantized = plan.linears[name]
        x_scaled = x if quantized.multiplier is None else x * quantized.multiplier
        largest[name] = float(x_scaled.abs().max()) / quantized.input_scale
        return plain_linear(name, x, weights)

    forward(plan.model, torch.from_numpy(images), linear)
    assert all(largest[name] == pytest.approx(127, abs=0.1) for name in plan.linears)


def test_the_mean_error_is_in_the_bias(model: FoldedVit) -> None:
    """On the sampled tokens each output channel is right in the mean."""
    images = frames(model.config, 4)
    statistics = collect(model, [images], images=4, recipe=Recipe())
    plan, _ = quantize(model, statistics, Recipe(quantize=Quantize(linears=("qkv",), migration=(), scores=False)))
    tokens = statistics["blocks.0.qkv"].tokens
    error = fake_quant(plan)("blocks.0.qkv", tokens, model.blocks[0].qkv) - plain_linear("", tokens, model.blocks[0].qkv)
    assert error.mean(0).abs().max() < 1e-5
    assert error.abs().max() > 1e-3


# --- repeatability -----------------------------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes(model: FoldedVit) -> None:
    assert dump_plan(int8(model)) == dump_plan(int8(model))


def test_the_seed_picks_the_tokens(model: FoldedVit) -> None:
    recipes = [Recipe(calibrate=Calibrate(seed=seed, tokens=64)) for seed in (0, 0, 1)]
    first, same, other = (dump_plan(int8(model, recipe)) for recipe in recipes)
    assert first == same
    assert first != other


def test_the_model_is_left_alone(model: FoldedVit) -> None:
    before = dump_plan(QuantPlan(model=model))
    int8(model)
    assert dump_plan(QuantPlan(model=model)) == before


@pytest.mark.parametrize("name", ["plain", "no norm in blocks", "pruned blocks"])
def test_a_plan_survives_its_file(name: str) -> None:
    model = folded(**ZOO[name])
    plan, images = int8(model), frames(model.config, 3)
    loaded = load_plan(dump_plan(plan), model)
    assert loaded.linears.keys() == plan.linears.keys()
    assert torch.equal(logits(loaded, images), logits(plan, images))
    assert dump_plan(loaded) == dump_plan(plan)


# --- what a recipe may ask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linears", [("fc1",), ("proj", "fc2"), ("fc2", "proj", "qkv"), ()], ids=str)
def test_only_the_named_gemms_become_int8(model: FoldedVit, linears: tuple[str, ...]) -> None:
    plan = int8(model, Recipe(quantize=Quantize(linears=linears)))
    assert set(plan.linears) == set(names(model, linears))
    assert sqnr(plan, model) > 20
    for i, (before, after) in enumerate(zip(model.blocks, plan.model.blocks, strict=True)):
        untouched = {"fc1": ("qkv", "proj", "fc2", "norm1"), ("proj", "fc2"): ("fc1", "fc2", "norm1", "norm2")}.get(
            linears[0] if len(linears) == 1 else linears, ()
        )
        for part in untouched:
            assert torch.equal(getattr(before, part).weight, getattr(after, part).weight), (i, part)


def test_gemms_may_be_named_in_any_order(model: FoldedVit) -> None:
    """proj before qkv: the values are migrated in floating point and quantized after."""
    assert sqnr(int8(model, Recipe(quantize=Quantize(linears=LINEARS[::-1]))), model) > 20


@pytest.mark.parametrize("name", ["plain", "pruned blocks", "mean pooling", "layer scale"])
def test_rounding_with_the_inputs_in_view_is_no_worse(name: str) -> None:
    """Each GEMM keeps the better of two roundings, on the tokens that calibration saw."""
    model = folded(**ZOO[name])
    images = frames(model.config, CALIBRATION)
    statistics = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    nearest = quantize(model, statistics_without_products(statistics), Recipe(quantize=Quantize(rounding="nearest")))[1]
    gptq = quantize(model, statistics, Recipe())[1]
    gains = [better.sqnr_db - plain.sqnr_db for better, plain in zip(gptq, nearest, strict=True)]
    assert min(gains) >= 0
    assert sum(gains) / len(gains) > 1


def test_progress_names_every_gemm(model: FoldedVit) -> None:
    images, seen = frames(model.config, 2), []
    _, reports = quantize(model, collect(model, [images], images=2, recipe=Recipe()), Recipe(), seen.append)
    assert seen == names(model) == [report.name for report in reports]
    assert all(math.isfinite(report.sqnr_db) and report.input_scale > 0 for report in reports)


# --- degenerate input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("name", ["plain", "no norm in blocks", "relu"])
def test_constant_images(name: str, level: int) -> None:
    """A lens cap on during calibration: finite scales, finite logits, also for other frames later."""
    model = folded(**ZOO[name])
    calibration = np.full((4, *model.config.image_size, 3), level, np.uint8)
    plan = int8(model, calibration=calibration)
    for images in (calibration, frames(model.config, 4)):
        assert torch.isfinite(logits(plan, images)).all()
    assert all(linear.input_scale > 0 and (linear.weight_scale > 0).all() for linear in plan.linears.values())


def test_dead_layers() -> None:
    """Weights and norms that are zero (a pruned or collapsed layer) have steps all the same, and keep giving zero."""
    model = folded(**ZOO["relu"])
    block = model.blocks[0]
    assert block.norm1 is not None
    block.norm1.weight.zero_()
    block.norm1.bias.zero_()
    block.fc1.weight.zero_()
    block.fc1.bias.fill_(-1)
    block.proj.weight[3] = 0
    plan = int8(model)
    assert all(0 < linear.input_scale < math.inf for linear in plan.linears.values())
    assert all(torch.isfinite(linear.weight_scale).all() for linear in plan.linears.values())
    assert sqnr(plan, model) > 20


def test_decibel() -> None:
    assert decibel(100.0, 1.0) == pytest.approx(20)
    assert decibel(1.0, 0.0) == decibel(0.0, 0.0) == 200
    assert decibel(1.0, 10.0) == pytest.approx(-10)
