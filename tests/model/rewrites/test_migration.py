"""Moving centres and scales between layers changes ranges and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgevit.model.folded import FoldedVit, Linear, forward, plain_linear
from edgevit.model.quantplan import QuantizedLinear
from edgevit.model.rewrites.migration import Transform, migrate, migrate_outputs, migrate_values
from edgevit.model.rounding import quantize_weight
from edgevit.numberformat import INT8
from edgevit.part import Part
from edgevit.recipe import LINEARS
from tests.zoo import ZOO, as_double, folded, frames

CONFIGS = ("plain", "distilled", "layer scale", "pruned blocks", "no qkv bias", "mean pooling")


@pytest.fixture(params=CONFIGS, ids=str)
def model(request: pytest.FixtureRequest) -> FoldedVit:
    """A folded ViT in float64, where a change of function would show beside rounding."""
    return as_double(folded(**ZOO[request.param]))


def scales_for(width: int, seed: int = 0) -> Tensor:
    """Factors from 1e-2 to 1e2, float64."""
    return 10 ** (4 * torch.rand(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 2)


def transform_for(width: int, seed: int = 0) -> Transform:
    """Scales of `scales_for` and centres about as large as inputs are, float64."""
    generator = torch.Generator().manual_seed(seed + 100)
    return Transform(centre=torch.randn(width, generator=generator, dtype=torch.float64), scales=scales_for(width, seed))


def single(transform: Transform) -> Transform:
    """``transform`` in float32."""
    return Transform(centre=transform.centre.float(), scales=transform.scales.float())


def inputs_of(model: FoldedVit, part: Part, images: Tensor) -> Tensor:
    """What reaches GEMM ``part``."""
    seen = {}

    def linear(key: Part, x: Tensor, weights: Linear) -> Tensor:
        seen[key] = x
        return plain_linear(key, x, weights)

    forward(model, images, linear)
    return seen[part]


@pytest.mark.parametrize("kind", ["qkv", "proj", "fc1"])
def test_migration_keeps_the_function_and_transforms_the_input(model: FoldedVit, kind: str) -> None:
    images = torch.from_numpy(frames(model.config, 2))
    expected = forward(model, images)
    before = [inputs_of(model, Part(i, kind), images) for i in range(len(model.blocks))]
    for i in range(len(model.blocks)):
        transform = transform_for(before[i].shape[-1], seed=i)
        model.blocks[i] = migrate(model.blocks[i], kind, transform)
        after = inputs_of(model, Part(i, kind), images)
        torch.testing.assert_close(after * transform.scales + transform.centre, before[i], rtol=1e-9, atol=1e-9)
    assert expected.dtype == torch.float64
    assert (forward(model, images) - expected).abs().max() < 1e-10


def test_migrations_add_up(model: FoldedVit) -> None:
    """All of them in one block, in whichever order: proj's goes through qkv, which has its own."""
    images = torch.from_numpy(frames(model.config, 2))
    expected = forward(model, images)
    for order in (("qkv", "proj", "fc1", "fc2"), ("fc1", "proj", "qkv")):
        for kind in order:
            for i, block in enumerate(model.blocks):
                model.blocks[i] = migrate(block, kind, transform_for(getattr(block, kind).weight.shape[1], seed=len(kind)))
    assert (forward(model, images) - expected).abs().max() < 1e-10


def test_fc2_stays_and_transforms_its_input(model: FoldedVit) -> None:
    """Nothing passes GELU, so the block is as it was; the GEMM's own multiplier and offset are the transform."""
    block = model.blocks[0]
    x = inputs_of(model, Part(0, "fc2"), torch.from_numpy(frames(model.config, 1)))
    transform = transform_for(x.shape[-1])
    assert migrate(block, "fc2", transform) is block
    multiplier, offset = 1 / transform.scales, -transform.centre / transform.scales
    inside = x * multiplier + offset
    torch.testing.assert_close(inside, transform(x), rtol=1e-10, atol=1e-10)
    assert (plain_linear(None, inside, transform.inverse(block.fc2)) - plain_linear(None, x, block.fc2)).abs().max() < 1e-10


@pytest.mark.parametrize("kind", LINEARS)
def test_a_transformed_input_and_its_inverse_give_the_product(model: FoldedVit, kind: str) -> None:
    """((x - c) / s) (W s)^T + b + W c = x W^T + b, also for a transform of its own per image."""
    linear = getattr(model.blocks[0], kind)
    x = inputs_of(model, Part(0, kind), torch.from_numpy(frames(model.config, 2)))
    transform = transform_for(x.shape[-1])
    before = plain_linear(None, x, linear)
    assert (plain_linear(None, transform(x), transform.inverse(linear)) - before).abs().max() < 1e-10
    other = transform_for(x.shape[-1], seed=1)
    each = Transform(
        **{key: torch.stack([getattr(transform, key), getattr(other, key)])[:, None] for key in ("centre", "scales")}
    )
    assert torch.equal(each(x), torch.stack([transform(x[0]), other(x[1])]))


@pytest.mark.parametrize("kind", LINEARS)
def test_the_block_itself_is_left_alone(kind: str) -> None:
    block = folded().blocks[0]
    before = {part: getattr(block, part).weight.clone() for part in (*LINEARS, "norm1", "norm2")}
    migrate(block, kind, single(transform_for(getattr(block, kind).weight.shape[1])))
    assert all(torch.equal(getattr(block, part).weight, weight) for part, weight in before.items())


def test_values_migrated_after_quantizing_are_values_quantized_after_migrating() -> None:
    """qkv is quantized before proj's transform is known; its per-channel steps and its bias take it, its codes stay."""
    block = folded().blocks[0]
    # Powers of two divide without rounding, so the codes agree to the last one.
    scales = 2.0 ** torch.randint(-4, 5, (block.proj.weight.shape[1],), generator=torch.Generator().manual_seed(0))
    transform = Transform(centre=single(transform_for(len(scales))).centre, scales=scales)
    weight, step = quantize_weight(block.qkv.weight, INT8)
    first = QuantizedLinear(weight=weight, weight_scale=step, input_scale=0.1, bias=block.qkv.bias)
    after = migrate_values(first, transform)
    migrated = migrate(block, "proj", transform).qkv
    weight, step = quantize_weight(migrated.weight, INT8)
    assert torch.equal(after.weight, weight)
    torch.testing.assert_close(after.weight_scale, step, rtol=1e-6, atol=0)
    torch.testing.assert_close(after.bias, migrated.bias, rtol=1e-6, atol=0)
    assert after.input_scale == first.input_scale


def test_migrated_values_are_exact(model: FoldedVit) -> None:
    """In float64, a quantized qkv whose values are transformed gives the values it gave, transformed, and their extremes."""
    block = model.blocks[0]
    weight, step = quantize_weight(block.qkv.weight.float(), INT8)
    first = QuantizedLinear(weight=weight, weight_scale=step.double(), input_scale=0.25, bias=block.qkv.bias)
    transform = transform_for(block.proj.weight.shape[1])

    def output(linear: QuantizedLinear) -> Tensor:
        x = torch.randint(-128, 128, (20, linear.weight.shape[1]), generator=torch.Generator().manual_seed(5)).double()
        return x @ linear.weight.double().T * (linear.weight_scale * linear.input_scale) + linear.bias

    before, after = output(first), output(migrate_values(first, transform))
    inner = len(transform.scales)
    wanted = torch.cat([before[:, : 2 * inner], transform(before[:, 2 * inner :])], 1)
    torch.testing.assert_close(after, wanted, rtol=1e-12, atol=1e-10)
    low, high = migrate_outputs((before.amin(0), before.amax(0)), transform)
    torch.testing.assert_close(low, wanted.amin(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(high, wanted.amax(0), rtol=1e-12, atol=1e-12)
