"""Moving scale between layers changes ranges and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgevit.compress.migrate import can_migrate, migrate, migrate_values, migration_scales
from edgevit.model.folded import LINEARS, FoldedVit, Linear, forward, plain_linear
from edgevit.model.quantplan import QuantizedLinear, quantize_weight
from tests.zoo import ZOO, as_double, folded, frames

CONFIGS = ("plain", "distilled", "layer scale", "pruned blocks", "no qkv bias", "mean pooling")


@pytest.fixture(params=CONFIGS, ids=str)
def model(request: pytest.FixtureRequest) -> FoldedVit:
    """A folded ViT in float64, where a change of function would show beside rounding."""
    return as_double(folded(**ZOO[request.param]))


def scales_for(width: int, seed: int = 0) -> Tensor:
    """Factors from 1e-2 to 1e2, float64."""
    return 10 ** (4 * torch.rand(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 2)


def inputs_of(model: FoldedVit, name: str, images: Tensor) -> Tensor:
    """What reaches GEMM ``name``."""
    seen = {}

    def linear(key: str, x: Tensor, weights: Linear) -> Tensor:
        seen[key] = x
        return plain_linear(key, x, weights)

    forward(model, images, linear)
    return seen[name]


@pytest.mark.parametrize("kind", ["qkv", "proj", "fc1"])
def test_migration_keeps_the_function_and_divides_the_input(model: FoldedVit, kind: str) -> None:
    images = torch.from_numpy(frames(model.config, 2))
    expected = forward(model, images)
    before = [inputs_of(model, f"blocks.{i}.{kind}", images) for i in range(len(model.blocks))]
    for i in range(len(model.blocks)):
        scales = scales_for(before[i].shape[-1], seed=i)
        model.blocks[i] = migrate(model.blocks[i], kind, scales)
        after = inputs_of(model, f"blocks.{i}.{kind}", images)
        torch.testing.assert_close(after * scales, before[i], rtol=1e-9, atol=1e-9)
    assert expected.dtype == torch.float64
    assert (forward(model, images) - expected).abs().max() < 1e-10


def test_migrations_add_up(model: FoldedVit) -> None:
    """All of them in one block, in whichever order: proj's goes through qkv, which has its own."""
    images = torch.from_numpy(frames(model.config, 2))
    expected = forward(model, images)
    for order in (("qkv", "proj", "fc1", "fc2"), ("fc1", "proj", "qkv")):
        for kind in order:
            for i, block in enumerate(model.blocks):
                model.blocks[i] = migrate(block, kind, scales_for(getattr(block, kind).weight.shape[1], seed=len(kind)))
    assert (forward(model, images) - expected).abs().max() < 1e-10


def test_fc2_stays_and_multiplies_its_input(model: FoldedVit) -> None:
    """No factor passes GELU, so the block is as it was and the GEMM has (x / s) (W s)^T = x W^T."""
    block = model.blocks[0]
    assert migrate(block, "fc2", scales_for(block.fc2.weight.shape[1])) is block
    x = inputs_of(model, "blocks.0.fc2", torch.from_numpy(frames(model.config, 1)))
    scales = scales_for(x.shape[-1])
    migrated = plain_linear("", x * (1 / scales), Linear(block.fc2.weight * scales, block.fc2.bias))
    assert (migrated - plain_linear("", x, block.fc2)).abs().max() < 1e-10


@pytest.mark.parametrize("kind", LINEARS)
def test_the_block_itself_is_left_alone(kind: str) -> None:
    block = folded().blocks[0]
    before = {part: getattr(block, part).weight.clone() for part in (*LINEARS, "norm1", "norm2")}
    migrate(block, kind, scales_for(getattr(block, kind).weight.shape[1]).float())
    assert all(torch.equal(getattr(block, part).weight, weight) for part, weight in before.items())


def test_without_a_norm_only_proj_and_fc2_migrate() -> None:
    tutorial, usual = folded(**ZOO["no norm in blocks"]).blocks[0], folded().blocks[0]
    assert [kind for kind in LINEARS if can_migrate(tutorial, kind)] == ["proj", "fc2"]
    assert [kind for kind in LINEARS if can_migrate(usual, kind)] == list(LINEARS)


def test_values_migrated_after_quantizing_are_values_quantized_after_migrating() -> None:
    """qkv is quantized before proj's scales are known; its per-channel steps take them, its codes stay."""
    block = folded().blocks[0]
    # Powers of two divide without rounding, so the codes agree to the last one.
    scales = 2.0 ** torch.randint(-4, 5, (block.proj.weight.shape[1],), generator=torch.Generator().manual_seed(0))
    weight, step = quantize_weight(block.qkv.weight)
    first = QuantizedLinear(weight=weight, weight_scale=step, input_scale=0.1, bias=block.qkv.bias)
    after = migrate_values(first, scales)
    migrated = migrate(block, "proj", scales).qkv
    weight, step = quantize_weight(migrated.weight)
    assert torch.equal(after.weight, weight)
    torch.testing.assert_close(after.weight_scale, step, rtol=1e-6, atol=0)
    torch.testing.assert_close(after.bias, migrated.bias, rtol=1e-6, atol=0)
    assert after.input_scale == first.input_scale


# --- scales --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_scales_even_the_channels(alpha: float) -> None:
    """Channels of large input and small weight are divided; the geometric mean is 1, so the step hardly moves."""
    inputs, weight = torch.tensor([1.0, 4.0, 1.0, 1.0]), torch.eye(4) * torch.tensor([1.0, 1.0, 4.0, 1.0])
    scales = migration_scales(inputs, weight, alpha)
    assert scales[1] > scales[0] > scales[2]
    assert scales[0] == scales[3]
    assert scales.log().mean().abs() < 1e-6
    assert scales[1] / scales[0] == pytest.approx(4**alpha)


def test_dead_channels_keep_their_scale() -> None:
    """A channel that is always zero, or that no output reads, neither divides by zero nor moves the others."""
    inputs, weight = torch.tensor([0.0, 2.0, 3.0, 5.0]), torch.rand(6, 4) + 0.1
    weight[:, 2] = 0
    scales = migration_scales(inputs, weight, 0.5)
    assert torch.equal(scales[[0, 2]], torch.ones(2))
    torch.testing.assert_close(scales[[1, 3]], migration_scales(inputs[[1, 3]], weight[:, [1, 3]], 0.5))
    assert torch.equal(migration_scales(torch.zeros(4), weight, 0.5), torch.ones(4))


def test_scales_are_bounded() -> None:
    """1e30 against 1e-30: the factors stay where float32 weights and biases survive them."""
    scales = migration_scales(torch.tensor([1e30, 1.0, 1e-30]), torch.ones(2, 3), 1.0)
    assert scales.tolist() == pytest.approx([1e2, 1, 1e-2])
