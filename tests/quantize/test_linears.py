"""From calibration frames to INT8 GEMMs: statistics are true and bounded, errors small, results repeatable."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgevit.model.folded import FoldedVit, Linear, forward, plain_attention, plain_linear
from edgevit.model.planfile import dump_plan, load_plan
from edgevit.model.quantplan import QuantPlan, fake_quant, simulate
from edgevit.part import Part
from edgevit.quantize.bias_correction import correct_biases
from edgevit.quantize.linears import Collected, collect, decibel, quantize
from edgevit.quantize.smoothing_search import OFF, SmoothingCandidate
from edgevit.quantize.statistics import TOP, Extremes, InputStatistics
from edgevit.recipe import LINEARS, Calibrate, QuantizeSettings, Recipe
from tests.quantize.float_means import float_means
from tests.zoo import ZOO, folded, frames, int8

CALIBRATION = 16


@pytest.fixture(scope="module")
def model() -> FoldedVit:
    return folded()


def names(model: FoldedVit, linears: tuple[str, ...] = LINEARS) -> list[Part]:
    return [Part(i, kind) for i, block in enumerate(model.blocks) for kind in linears if kind in block.linears]


def logits(plan: QuantPlan, images: np.ndarray) -> Tensor:
    return simulate(plan, torch.from_numpy(images))


def sqnr(plan: QuantPlan, model: FoldedVit) -> float:
    """Of the logits, in dB, on frames that calibration has not seen."""
    images = frames(model.config, 64, seed=7)
    wanted = forward(model, torch.from_numpy(images))
    return decibel(float(wanted.square().sum()), float((logits(plan, images) - wanted).square().sum()))


def without_products(calibration: Collected) -> Collected:
    """As `collect` gives it for nearest rounding."""
    statistics = {name: replace(known, products=None) for name, known in calibration.statistics.items()}
    return replace(calibration, statistics=statistics)


def absmax(known: InputStatistics) -> Tensor:
    return torch.maximum(known.lows.values[:, 0], known.highs.values[:, 0])


# --- statistics ------------------------------------------------------------------------------------------------------------


def test_ranges_are_the_extremes_of_every_token(model: FoldedVit) -> None:
    """Over all images and tokens, also those that the sample passes over."""
    images = frames(model.config, 10)
    low: dict[Part, Tensor] = {}
    high: dict[Part, Tensor] = {}
    outputs: dict[Part, Tensor] = {}
    highs, lows, mean = dict[Part, Tensor](), dict[Part, Tensor](), dict[Part, Tensor]()

    def linear(name: Part, x: Tensor, weights: Linear) -> Tensor:
        highs[name], lows[name], mean[name] = x.amax(1), -x.amin(1), x.flatten(0, 1).mean(0)
        low[name], high[name] = x.flatten(0, 1).amin(0), x.flatten(0, 1).amax(0)
        outputs[name] = plain_linear(name, x, weights)
        return outputs[name]

    forward(model, torch.from_numpy(images), linear)
    recipe = Recipe(calibrate=Calibrate(tokens=64))
    statistics = collect(model, [images[:3], images[3:4], images[4:]], images=10, recipe=recipe).statistics
    assert list(statistics) == names(model)
    for name, known in statistics.items():
        torch.testing.assert_close(-known.lows.values[:, 0], low[name], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(known.highs.values[:, 0], high[name], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(known.mean, mean[name], rtol=1e-4, atol=1e-5)
        for extremes, largest in ((known.highs, highs[name]), (known.lows, lows[name])):
            values, images_of = largest.topk(TOP, 0)
            torch.testing.assert_close(extremes.values, values.T, rtol=1e-5, atol=1e-5)
            # Which image it was; where two are equal to float rounding, either may be named.
            torch.testing.assert_close(largest.gather(0, extremes.images.T), values, rtol=1e-5, atol=1e-5)
            clear = values[:-1] - values[1:] > 1e-3
            clear = torch.cat([clear[:1], clear[1:] & clear[:-1]]).T  # from the neighbours on both sides
            assert torch.equal(extremes.images[:, :-1][clear], images_of.T[:, :-1][clear])
        torch.testing.assert_close(known.output_low, outputs[name].flatten(0, 1).amin(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(known.output_high, outputs[name].flatten(0, 1).amax(0), rtol=1e-5, atol=1e-5)


def test_extremes_of_inputs_and_outputs_are_kept_apart() -> None:
    """Of one GEMM, token by token: what was seen before is not forgotten, and x and y may differ in width."""
    known = InputStatistics(
        highs=Extremes.none(2), lows=Extremes.none(2), sample=torch.empty(8, 2), owners=torch.empty(8, dtype=torch.long),
        weights=torch.empty(8), total=torch.zeros(2),
        output_low=torch.full((3,), torch.inf), output_high=torch.full((3,), -torch.inf),
    )  # fmt: skip
    known.add(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[4.0, 0.0, -1.0]]]))
    known.add(torch.tensor([[[0.5, 3.0], [2.0, 1.0]]]), torch.tensor([[[-4.0, 1.0, -2.0], [0.0, 2.0, -3.0]]]))
    assert (known.lows.values[:, 0].tolist(), known.highs.values[:, 0].tolist()) == ([-0.5, 2.0], [2.0, 3.0])
    assert (known.output_low.tolist(), known.output_high.tolist()) == ([-4.0, 0.0, -3.0], [4.0, 2.0, -1.0])
    assert (known.count, known.images) == (3, 2)
    assert known.mean.tolist() == pytest.approx([3.5 / 3, 2 / 3])
    assert known.products is None
    # Image 1 holds the largest of both channels; left out, image 0 is what is left.
    assert known.highs.images[:, :2].tolist() == [[1, 0], [1, 0]]
    assert known.highs.without(torch.tensor([1]))[0, :, 0].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("count", [1, 7, 64, 65, 300])
def test_statistics_are_bounded(model: FoldedVit, count: int) -> None:
    """Memory is the recipe's tokens, however many images pass; each gives about the same share."""
    images = frames(model.config, count)
    recipe = Recipe(calibrate=Calibrate(tokens=64))
    calibration = collect(model, np.array_split(images, math.ceil(count / 8)), images=count, recipe=recipe)
    for name, known in calibration.statistics.items():
        assert len(known.sample) == 64
        assert 0 < known.used <= 64
        assert torch.isfinite(known.tokens).all()
        assert known.owners[: known.used].min() == 0
        assert known.owners[: known.used].max() < count
        if count >= 64:
            assert known.used == math.ceil(count / math.ceil(count / 64)), name


@pytest.mark.parametrize("count", [64, 100, 300])
def test_the_sample_spans_all_images(model: FoldedVit, count: int) -> None:
    """With as many images as tokens or more, those that give tokens are spread evenly over all of them."""
    recipe = Recipe(calibrate=Calibrate(tokens=64))
    calibration = collect(model, np.array_split(frames(model.config, count), math.ceil(count / 8)), images=count, recipe=recipe)
    for known in calibration.statistics.values():
        assert known.owners[: known.used].max() > 0.9 * (count - 1)


def test_second_moments_are_of_every_token(model: FoldedVit) -> None:
    """The sum of x x^T over all tokens of all images, and how many; only for the rounding that reads it."""
    images, seen = frames(model.config, 5), {}

    def linear(name: Part, x: Tensor, weights: Linear) -> Tensor:
        seen[name] = x.flatten(0, 1)
        return plain_linear(name, x, weights)

    forward(model, torch.from_numpy(images), linear)
    for name, known in collect(model, [images[:2], images[2:]], images=5, recipe=Recipe()).statistics.items():
        assert known.count == len(seen[name])
        assert known.products is not None
        wanted = seen[name].T @ seen[name]
        torch.testing.assert_close(known.second_moment * known.count, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    nearest = Recipe(quantize=QuantizeSettings(rounding="nearest"))
    statistics = collect(model, [images], images=5, recipe=nearest).statistics
    assert all(known.products is None for known in statistics.values())


def test_the_sample_begins_with_the_class_token(model: FoldedVit) -> None:
    """The first token that an image gives is its class token, which the head reads."""
    images = frames(model.config, 64)
    known = collect(model, [images], images=64, recipe=Recipe(calibrate=Calibrate(tokens=64))).statistics[Part(1, "qkv")]
    seen = {}

    def linear(name: Part, x: Tensor, weights: Linear) -> Tensor:
        seen[name] = x
        return plain_linear(name, x, weights)

    forward(model, torch.from_numpy(images), linear)
    owners = known.owners[: known.used]
    first = torch.cat([torch.tensor([True]), owners[1:] != owners[:-1]])
    torch.testing.assert_close(known.tokens[first], seen[Part(1, "qkv")][owners[first], 0])


def test_sampled_tokens_of_an_image_stand_for_all_of_it(model: FoldedVit) -> None:
    """The first, others drawn without repetition, and the largest once more: it stands for itself, the others for the image."""
    images = frames(model.config, 4)
    seen = {}

    def linear(name: Part, x: Tensor, weights: Linear) -> Tensor:
        seen[name] = x
        return plain_linear(name, x, weights)

    forward(model, torch.from_numpy(images), linear)
    calibration = collect(model, [images], images=4, recipe=Recipe(calibrate=Calibrate(tokens=64)))
    for name in names(model, ("qkv", "fc1")):
        known, tokens = calibration.statistics[name], seen[name].shape[1]
        share = max(2, min(16, tokens))
        assert known.owners[: known.used].tolist() == [image for image in range(4) for _ in range(share)]
        for image in range(4):
            rows = known.owners[: known.used] == image
            chosen, weights = known.tokens[rows], known.weights[: known.used][rows]
            assert len(chosen[:-1].unique(dim=0)) == share - 1
            torch.testing.assert_close(chosen[-1], seen[name][image][seen[name][image].abs().amax(1).argmax()])
            assert weights[-1] == 1
            assert weights[:-1].sum() == pytest.approx(tokens)
        assert float(known.shares.sum()) == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_frames_are_kept_for_the_passes_in_network_order(model: FoldedVit, count: int) -> None:
    """Few images: all of them, in an order that the seed decides."""
    images = frames(model.config, count)
    recipes = [Recipe(calibrate=Calibrate(seed=seed)) for seed in (0, 0, 1)]
    kept = [
        collect(model, np.array_split(images, min(2, count)), images=count, recipe=recipe).frames.frames for recipe in recipes
    ]
    assert torch.equal(kept[0], kept[1])
    assert count < 9 or not torch.equal(kept[0], kept[2])
    for some in kept:
        assert some.dtype == torch.uint8
        assert sorted(frame.numpy().tobytes() for frame in some) == sorted(frame.tobytes() for frame in images)


def test_kept_frames_are_bounded(model: FoldedVit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.quantize.linears.KEPT_TOKENS", 5 * model.config.tokens)
    images = frames(model.config, 23)
    kept = collect(model, np.array_split(images, 4), images=23, recipe=Recipe()).frames
    assert sorted(kept.numbers) == list(range(0, 23, 5))
    assert all(np.array_equal(frame, images[number]) for frame, number in zip(kept.frames, kept.numbers, strict=True))
    assert sorted(frame.numpy().tobytes() for frame in kept.frames) == sorted(frame.tobytes() for frame in images[::5])


def test_batches_change_no_result(model: FoldedVit) -> None:
    images = frames(model.config, 9)
    one, many = (collect(model, np.array_split(images, parts), images=9, recipe=Recipe()) for parts in (9, 2))
    assert torch.equal(one.frames.frames, many.frames.frames)
    assert one.frames.numbers == many.frames.numbers
    for name, known in one.statistics.items():
        other = many.statistics[name]
        assert torch.equal(known.owners[: known.used], other.owners[: other.used])
        for part in ("highs", "lows"):
            torch.testing.assert_close(getattr(known, part).values, getattr(other, part).values, rtol=1e-4, atol=1e-5)
        for part in ("tokens", "mean", "shares", "output_low", "output_high"):
            torch.testing.assert_close(getattr(known, part), getattr(other, part), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(known.highs.values, other.highs.values, rtol=1e-4, atol=1e-5)


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
    calibration = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    migrated = quantize(model, calibration, Recipe())
    plain = quantize(model, calibration, Recipe(quantize=QuantizeSettings(migration=(), centring=False)))
    # In the last block fc1 sees the class token alone, whose channels differ in place more than in width: centring is enough.
    outliers = (Part(0, "qkv"), Part(0, "fc1"), Part(1, "qkv"))
    assert all(layer.migration in QuantizeSettings().migration for layer in migrated.layers if layer.part in outliers)
    assert all(layer.migration or layer.centred for layer in migrated.layers if layer.part.kind in ("qkv", "fc1"))
    assert all((layer.migration, layer.centred, layer.tail) == (0, False, 0) for layer in plain.layers)
    gains = {better.part: better.sqnr_db - fixed.sqnr_db for better, fixed in zip(migrated.layers, plain.layers, strict=True)}
    # Ranges are widened for images that are not among these, so on these one may lose a little.
    assert min(gains.values()) > -1
    assert all(gains[part] > 10 for part in outliers)
    assert sqnr(migrated.plan, model) > sqnr(plain.plan, model) + 3


def test_migration_leaves_the_float_model_as_it_was(model: FoldedVit) -> None:
    """What is not quantized, of a plan, computes what the model computes."""
    plan, images = int8(model), torch.from_numpy(frames(model.config, 2))
    alone = forward(replace(plan, linears={}).model, images)
    # fc2's migration is in its INT8 entry; the others are in the weights.
    torch.testing.assert_close(alone, forward(model, images), rtol=1e-4, atol=1e-4)


def test_weights_are_within_half_a_step(model: FoldedVit) -> None:
    """Nearest rounding: codes times steps, times what the input is multiplied with, are the migrated float weights."""
    plan = int8(model, Recipe(quantize=QuantizeSettings(rounding="nearest", attention="off")))
    for name, linear in plan.linears.items():
        weight = getattr(plan.model.blocks[name.block], name.kind).weight
        factor = torch.ones(weight.shape[1]) if linear.multiplier is None else linear.multiplier
        error = (linear.weight * linear.weight_scale[:, None] * factor - weight).abs()
        assert (error <= 0.501 * linear.weight_scale[:, None] * factor).all(), name
        assert linear.weight.dtype == torch.int8
        assert linear.weight.abs().max() <= 127


@pytest.mark.parametrize("name", ["plain", "no norm in blocks", "layer scale"])
def test_the_step_is_folded_into_the_migration(name: str) -> None:
    """A transformed GEMM measures its input in steps: one multiplication less. The report tells the step all the same."""
    model = folded(**ZOO[name])
    images = frames(model.config, CALIBRATION)
    calibration = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    result = quantize(model, calibration, Recipe(quantize=QuantizeSettings(attention="off")))
    assert any(layer.migration for layer in result.layers)
    for layer in result.layers:
        linear, known = result.plan.linears[layer.part], calibration.statistics[layer.part]
        chosen = SmoothingCandidate(alpha=layer.migration, tail=layer.tail, centring=layer.centred)
        if chosen == OFF:
            assert linear.input_scale == layer.input_scale == float(np.float32(absmax(known).max() / 127)), layer.part
            assert linear.multiplier is linear.offset is None
            continue
        assert linear.input_scale == 1.0, layer.part
        kind, before, after = layer.part.kind, model.blocks[layer.part.block], result.plan.model.blocks[layer.part.block]
        weight = getattr(before, kind).weight
        wanted, largest = chosen.transform(known.highs.values, known.lows.values, weight.abs().amax(0))
        assert layer.input_scale == pytest.approx(float(largest) / 127, rel=1e-5)
        if kind == "fc2":
            assert linear.multiplier is not None
            scales = 1 / linear.multiplier
            assert (linear.offset is not None) == layer.centred
            if linear.offset is not None:
                torch.testing.assert_close(-linear.offset * scales, wanted.centre, rtol=1e-4, atol=1e-6)
        else:
            # Columns of the weight took what divides the input; of qkv, proj's migration changes the rows of the values alone.
            assert linear.multiplier is linear.offset is None
            rows = len(weight) * (2 if kind == "qkv" else 3) // 3
            scales = getattr(after, kind).weight[:rows].abs().sum(0) / weight[:rows].abs().sum(0)
        torch.testing.assert_close(scales, wanted.scales * layer.input_scale, rtol=1e-4, atol=0)
        if kind in ("qkv", "fc1"):
            norms = [getattr(block, "norm1" if kind == "qkv" else "norm2") for block in (before, after)]
            torch.testing.assert_close(norms[1].weight * scales, norms[0].weight, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(norms[1].bias * scales + wanted.centre, norms[0].bias, rtol=1e-4, atol=1e-5)


def test_attention_is_quantized_where_its_gemms_are(model: FoldedVit) -> None:
    """Steps where qkv and proj are INT8 and the recipe asks for them, of as many products as it names."""
    for settings, wanted in (
        (QuantizeSettings(attention="full"), "full"),
        (QuantizeSettings(attention="scores"), "scores"),
        (QuantizeSettings(attention="full", linears=("proj", "qkv")), "full"),
        (QuantizeSettings(attention="off"), None),
        (QuantizeSettings(attention="full", linears=("qkv",)), None),
        (QuantizeSettings(attention="full", linears=("proj", "fc1", "fc2")), None),
    ):
        plan = int8(model, Recipe(quantize=settings))
        assert set(plan.attention) == {Part(i, "attention") for i in range(2) if wanted}
        for name, steps in plan.attention.items():
            assert steps.products == wanted
            values = (steps.value_step, steps.probability_step)
            assert wanted == "full" or values == (None, None)
            for step in (steps.query_step, steps.key_step, *(values if wanted == "full" else ())):
                assert step is not None
                assert 0 < step < math.inf
                assert step == float(np.float32(step)), name


def test_attention_chosen_block_by_block_is_what_its_report_says(model: FoldedVit) -> None:
    images = frames(model.config, CALIBRATION)
    result = quantize(model, collect(model, [images], images=CALIBRATION, recipe=Recipe()), Recipe())
    assert [report.part for report in result.attention] == [Part(i, "attention") for i in range(2)]
    for report in result.attention:
        steps = result.plan.attention.get(report.part)
        assert report.products == ("off" if steps is None else steps.products)
        assert 0 <= report.noise["scores"] <= report.noise["full"] * 1.1


def test_no_calibration_query_key_or_value_is_clipped(model: FoldedVit) -> None:
    """Steps come from the float model's extremes; the INT8 GEMM's own outputs pass them by its error at most."""
    images = frames(model.config, CALIBRATION)
    plan = int8(model, Recipe(quantize=QuantizeSettings(attention="full")), calibration=images)
    largest: dict[Part, list[float]] = {}

    def attention(name: Part, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        steps = plan.attention[name]
        assert steps.value_step is not None
        pairs = ((query, steps.query_step), (key, steps.key_step), (value, steps.value_step))
        if name.block == 0:  # of the last block only one token's queries are left
            largest[name] = [float(part.abs().max()) / step for part, step in pairs]
        else:
            largest[name] = [127.0, *(float(part.abs().max()) / step for part, step in pairs[1:])]
        return plain_attention(name, query, key, value, bias)

    forward(plan.model, torch.from_numpy(images), fake_quant(plan), attention)
    assert set(largest) == set(plan.attention)
    for name, codes in largest.items():
        assert codes == pytest.approx([127] * 3, rel=0.05), name


def test_no_calibration_input_is_clipped(model: FoldedVit) -> None:
    """Min-max: no input of calibration exceeds the largest code; at the extremes themselves, widened by no tail, it is met."""
    images = frames(model.config, CALIBRATION)
    for tails in ((0.0,), (0.5,)):
        settings = QuantizeSettings(tails=tails, bias="layer", attention="off")
        calibration = collect(model, [images], images=CALIBRATION, recipe=Recipe())
        result = quantize(model, calibration, Recipe(quantize=settings))
        largest = {}

        def linear(
            name: Part, x: Tensor, weights: Linear, plan: QuantPlan = result.plan, largest: dict[Part, float] = largest
        ) -> Tensor:
            quantized = plan.linears[name]
            x_inside = x if quantized.multiplier is None else x * quantized.multiplier
            x_inside = x_inside if quantized.offset is None else x_inside + quantized.offset
            largest[name] = float(x_inside.abs().max()) / quantized.input_scale
            return plain_linear(name, x, weights)

        forward(result.plan.model, torch.from_numpy(images), linear)
        for layer in result.layers:
            assert largest[layer.part] < 127.1, layer.part
            if not layer.tail:
                assert largest[layer.part] == pytest.approx(127, abs=0.1), layer.part


@pytest.mark.parametrize("ranges", ["percentile", "entropy", "mse", "output"])
def test_other_ranges_clip_no_more_than_they_save(model: FoldedVit, ranges: str) -> None:
    """Steps are at most those of min-max, and the model keeps its logits."""
    images = frames(model.config, CALIBRATION)
    calibration = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    steps = {}
    for kind in ("minmax", ranges):
        result = quantize(model, calibration, Recipe(quantize=QuantizeSettings(ranges=kind, percentile=99.9)))
        steps[kind] = {layer.part: layer.input_scale for layer in result.layers}
        assert sqnr(result.plan, model) > (10 if kind == "entropy" else 20), kind
    assert all(step <= steps["minmax"][name] * 1.0001 for name, step in steps[ranges].items())
    assert any(step < steps["minmax"][name] * 0.999 for name, step in steps[ranges].items())


def test_the_mean_error_is_in_the_bias(model: FoldedVit) -> None:
    """On the sampled tokens, each for what it stands for, each output channel is right in the mean; not with ``off``."""
    images = frames(model.config, 4)
    calibration = collect(model, [images], images=4, recipe=Recipe())
    known, means = calibration.statistics[Part(0, "qkv")], dict[str, float]()
    for bias in ("off", "layer"):
        settings = QuantizeSettings(linears=("qkv",), migration=(), centring=False, attention="off", bias=bias)
        plan = quantize(model, calibration, Recipe(quantize=settings)).plan
        linear = model.blocks[0].qkv
        error = fake_quant(plan)(Part(0, "qkv"), known.tokens, linear) - plain_linear(None, known.tokens, linear)
        assert error.abs().max() > 1e-3
        means[bias] = float((error * known.shares).sum(0).abs().max())
    assert means["layer"] < 1e-5 < 1e-4 < means["off"]


def test_biases_are_corrected_in_network_order(model: FoldedVit) -> None:
    """Only the biases differ from what ``layer`` gives, and the report names those that do."""
    calibration = collect(model, [frames(model.config, 128)], images=128, recipe=Recipe())
    layer, network = (
        quantize(model, calibration, Recipe(quantize=QuantizeSettings(bias=bias, attention="off", ranges="entropy")))
        for bias in ("layer", "network")
    )
    assert not any(report.corrected for report in layer.layers)
    assert any(report.corrected for report in network.layers)
    for report in network.layers:
        before, after = layer.plan.linears[report.part], network.plan.linears[report.part]
        assert torch.equal(before.weight, after.weight)
        assert torch.equal(before.bias, after.bias) != report.corrected
    assert sqnr(network.plan, model) > sqnr(layer.plan, model) - 0.5


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


@pytest.mark.parametrize("attention", ["auto", "off", "scores", "full"])
@pytest.mark.parametrize("name", ["plain", "no norm in blocks", "pruned blocks"])
def test_a_plan_survives_its_file(name: str, attention: str) -> None:
    model = folded(**ZOO[name])
    plan, images = int8(model, Recipe(quantize=QuantizeSettings(attention=attention))), frames(model.config, 3)
    loaded = load_plan(dump_plan(plan), model)
    assert loaded.linears.keys() == plan.linears.keys()
    assert loaded.attention == plan.attention
    assert any(linear.offset is not None for linear in plan.linears.values())
    assert torch.equal(logits(loaded, images), logits(plan, images))
    assert dump_plan(loaded) == dump_plan(plan)


# --- what a recipe may ask ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linears", [("fc1",), ("proj", "fc2"), ("fc2", "proj", "qkv"), ()], ids=str)
def test_only_the_named_gemms_become_int8(model: FoldedVit, linears: tuple[str, ...]) -> None:
    plan = int8(model, Recipe(quantize=QuantizeSettings(linears=linears)))
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
    assert sqnr(int8(model, Recipe(quantize=QuantizeSettings(linears=LINEARS[::-1]))), model) > 20


@pytest.mark.parametrize("name", ["plain", "pruned blocks", "mean pooling", "layer scale"])
def test_rounding_with_the_inputs_in_view_is_no_worse(name: str) -> None:
    """Each GEMM keeps the better of two roundings, on the tokens that calibration saw."""
    model = folded(**ZOO[name])
    images = frames(model.config, CALIBRATION)
    calibration = collect(model, [images], images=CALIBRATION, recipe=Recipe())
    # One exponent and one tail, so that both round the same weights.
    settings = QuantizeSettings(migration=(0.75,), tails=(0.25,), rounding="nearest")
    nearest = quantize(model, without_products(calibration), Recipe(quantize=settings)).layers
    gptq = quantize(model, calibration, Recipe(quantize=replace(settings, rounding="gptq"))).layers
    gains = [
        better.sqnr_db - plain.sqnr_db
        for better, plain in zip(gptq, nearest, strict=True)
        if (better.migration, better.centred) == (plain.migration, plain.centred)
    ]
    assert len(gains) >= len(gptq) // 2
    assert min(gains) >= 0
    assert sum(gains) / len(gains) > 1


def test_progress_names_every_gemm(model: FoldedVit) -> None:
    images, seen = frames(model.config, 2), []
    reports = quantize(model, collect(model, [images], images=2, recipe=Recipe()), Recipe(), seen.append).layers
    assert seen == names(model) == [report.part for report in reports]
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


@pytest.mark.parametrize("name", ZOO)
def test_biases_are_held_against_the_float_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What calibration remembers of outputs are their means in the model that the plan holds, however inputs were transformed."""
    model = folded(**ZOO[name])
    images = frames(model.config, 9, seed=3)
    asked: list[tuple[Any, ...]] = []

    def spy(*arguments: Any) -> Any:
        asked.append(arguments)
        return correct_biases(*arguments)

    monkeypatch.setattr("edgevit.quantize.linears.correct_biases", spy)
    quantize(model, collect(model, [images], images=9, recipe=Recipe()), Recipe())
    ((plan, kept, wanted, _device),) = asked
    found = float_means(plan.model, kept)
    assert wanted.keys() == found.keys()
    for part, means in wanted.items():
        torch.testing.assert_close(means, found[part], rtol=1e-3, atol=1e-4 * float(found[part].abs().max()), msg=str(part))
