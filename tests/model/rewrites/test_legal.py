"""What a block's structure admits, and that nobody rewrites what a block forbids."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgevit.errors import ConfigError
from edgevit.model.folded import FoldedBlock, FoldedVit, forward
from edgevit.model.quantplan import QuantPlan, simulate
from edgevit.model.rewrites.kinds import BETWEEN_FORBIDS, MIGRATE, Rewrite
from edgevit.model.rewrites.legal import legal_rewrites
from edgevit.model.rewrites.migration import Transform, migrate
from edgevit.model.rewrites.scores import without_key_bias
from edgevit.part import LINEARS, Part
from edgevit.quantize.fp16 import fit, peaks, with_half_scales, without_key_biases
from edgevit.quantize.linears import collect, quantize
from edgevit.recipe import QuantizeSettings, Recipe
from tests.zoo import ZOO, folded, frames

SCORES = {Rewrite.CENTRE_KEYS, Rewrite.EVEN_SCORES, Rewrite.DROP_KEY_BIAS}


def forbidding(rewrites: frozenset[Rewrite]) -> FoldedVit:
    """A model whose first block forbids ``rewrites``; its second is as ever."""
    model = folded()
    return replace(model, blocks=[replace(model.blocks[0], forbidden=rewrites), model.blocks[1]])


def test_a_plain_block_admits_everything() -> None:
    assert all(legal_rewrites(block) == frozenset(Rewrite) for block in folded().blocks)


def test_without_a_norm_only_what_has_somewhere_to_go_is_left() -> None:
    (block, _) = folded(**ZOO["no norm in blocks"]).blocks
    assert legal_rewrites(block) == {Rewrite.MIGRATE_PROJ, Rewrite.MIGRATE_FC2} | SCORES


def test_what_pruning_leaves_admits_what_it_has() -> None:
    """A map reads a norm, a bias reads nothing, and where there are no heads there are no scores."""
    mapped, no_mlp, nothing, whole = folded(**ZOO["maps and biases"]).blocks
    assert legal_rewrites(mapped) == frozenset(Rewrite) - SCORES - {Rewrite.MIGRATE_QKV}
    assert legal_rewrites(no_mlp) == frozenset(Rewrite) - {Rewrite.MIGRATE_FC1}
    assert legal_rewrites(nothing) == {Rewrite.DIVIDE_STREAM}
    assert legal_rewrites(whole) == frozenset(Rewrite)


def test_what_is_forbidden_stays_forbidden_through_other_rewrites() -> None:
    block = forbidding(frozenset({Rewrite.EVEN_SCORES})).blocks[0]
    ones = torch.ones(block.qkv.weight.shape[1])
    assert Rewrite.EVEN_SCORES not in legal_rewrites(migrate(block, "qkv", Transform(centre=0 * ones, scales=2 * ones)))


@pytest.mark.parametrize("kind", LINEARS)
def test_an_illegal_rewrite_is_refused(kind: str) -> None:
    block = forbidding(frozenset(Rewrite)).blocks[0]
    ones = torch.ones(getattr(block, kind).weight.shape[1])
    with pytest.raises(ValueError, match=f"migration in front of {kind}"):
        migrate(block, kind, Transform(centre=0 * ones, scales=2 * ones))
    with pytest.raises(ValueError, match="bias of keys"):
        without_key_bias(block)


# --- every caller ----------------------------------------------------------------------------------------------------------


def quantized(model: FoldedVit, attention: str = "full") -> QuantPlan:
    recipe, images = Recipe(quantize=QuantizeSettings(attention=attention, bias="off")), frames(model.config, 16)
    return quantize(model, collect(model, [images], images=16, recipe=recipe), recipe).plan


def delivering(block: FoldedBlock, kind: str) -> Tensor:
    """What a migration in front of GEMM ``kind`` changes, and no other does: the norm in front, or proj itself."""
    if kind == "proj":
        return block.proj.weight
    norm = block.norm1 if kind == "qkv" else block.norm2
    assert norm is not None
    return norm.weight


@pytest.mark.parametrize("kind", LINEARS)
def test_calibration_migrates_nothing_that_is_forbidden(kind: str) -> None:
    """Its input is not measured in steps, as one that is transformed would be, and what delivers it stays."""
    model = forbidding(frozenset({MIGRATE[kind]}))
    plan = quantized(model, "off")
    entry = plan.linears[Part(0, kind)]
    assert entry.multiplier is entry.offset is None
    assert entry.input_scale != 1.0
    assert kind == "fc2" or torch.equal(delivering(plan.model.blocks[0], kind), delivering(model.blocks[0], kind))


@pytest.mark.parametrize("kind", ["qkv", "fc1", "fc2"])
def test_without_the_ban_it_would_have_migrated(kind: str) -> None:
    plan, model = quantized(folded(), "off"), folded()
    assert plan.linears[Part(0, kind)].input_scale == 1.0
    assert (plan.linears[Part(0, kind)].multiplier is not None) == (kind == "fc2")
    assert kind == "fc2" or not torch.equal(delivering(plan.model.blocks[0], kind), delivering(model.blocks[0], kind))


def test_attention_is_not_rescaled_where_a_rotation_stands() -> None:
    """Queries and keys keep scales and biases; steps cover them as they are."""
    both = [quantized(model).linears[Part(0, "qkv")] for model in (forbidding(BETWEEN_FORBIDS), folded())]
    off = quantized(forbidding(BETWEEN_FORBIDS), "off").linears[Part(0, "qkv")]
    assert torch.equal(both[0].weight_scale, off.weight_scale)
    assert torch.equal(both[0].bias, off.bias)
    inner = len(off.bias) // 3
    assert not torch.equal(both[1].bias[: 2 * inner], off.bias[: 2 * inner])


def test_int8_still_works_where_everything_is_forbidden() -> None:
    model = forbidding(frozenset(Rewrite))
    images = torch.from_numpy(frames(model.config, 8, seed=3))
    wanted, found = forward(model, images), simulate(quantized(model), images)
    assert float(wanted.square().sum() / (found - wanted).square().sum()) > 10


def test_scales_for_fp16_borrow_nothing_that_is_forbidden() -> None:
    """An input step of 1 would lend its power of two to the weights."""
    plan = quantized(folded(), "off")
    forbidden = [replace(block, forbidden=frozenset(MIGRATE.values())) for block in plan.model.blocks]
    kept, lent = (
        with_half_scales(replace(plan, model=replace(plan.model, blocks=forbidden))).linears,
        with_half_scales(plan).linears,
    )
    for part, entry in plan.linears.items():
        assert kept[part].input_scale == pytest.approx(entry.input_scale, rel=1e-3)
        assert lent[part].input_scale < 0.6 * entry.input_scale


def test_fp16_keeps_the_key_biases_of_a_rotated_block() -> None:
    model = forbidding(BETWEEN_FORBIDS)
    found = peaks(model, [frames(model.config, 4)])
    assert [name for name in found if name.endswith("without key bias")] == ["blocks.1.attention without key bias"]
    first, second = without_key_biases(model, found).blocks
    assert first is model.blocks[0]
    assert not torch.equal(second.qkv.bias, model.blocks[1].qkv.bias)


def test_fp16_refuses_a_stream_that_it_may_not_divide() -> None:
    found = {"stream": 1e6}
    assert fit(folded(), found).shift > 0
    with pytest.raises(ConfigError, match="stream reaches"):
        fit(forbidding(frozenset({Rewrite.DIVIDE_STREAM})), found)
