"""Folded weights against the module that they come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgevit.export.graph import write_graph
from edgevit.model.folded import forward
from edgevit.model.rewrites.folding import fold
from edgevit.pruning.sublayers import Cut, cut_model
from edgevit.quantize.fp16 import fit, peaks, with_half_scales
from edgevit.recipe import Recipe
from tests.zoo import ZOO, contract, frames, int8, normalised, vit


@pytest.mark.parametrize("name", ZOO)
def test_a_folded_model_gives_the_modules_logits(name: str) -> None:
    """uint8 frames in one, normalised images in the other."""
    model = vit(**ZOO[name])
    settings, images = contract(model.config), frames(model.config, 2)
    with torch.inference_mode():
        wanted = model(normalised(images, settings))
    torch.testing.assert_close(forward(fold(model, settings), torch.from_numpy(images)), wanted, rtol=1e-4, atol=1e-4)


def test_scales_and_the_values_bias_are_where_they_are_said_to_be() -> None:
    """head_dim is 8: queries are divided by its root. What the values' bias adds to proj's output is in proj's bias."""
    model = vit(layer_scale=True)
    (block, _), old = fold(model, contract(model.config)).blocks, model.blocks[0]
    query, key, value = block.qkv.weight.chunk(3)
    old_query, old_key, old_value = old.qkv.weight.detach().chunk(3)
    torch.testing.assert_close(query, old_query / 8**0.5)
    assert torch.equal(key, old_key)
    assert torch.equal(value, old_value)
    assert not block.qkv.bias[64:].any()
    torch.testing.assert_close(block.proj.weight, old.proj.weight * old.scale1[:, None])
    added = old.proj.weight @ old.qkv.bias[64:]
    torch.testing.assert_close(block.proj.bias, (old.proj.bias + added).detach() * old.scale1.detach())
    torch.testing.assert_close(block.fc2.bias, (old.fc2.bias * old.scale2).detach())


def test_no_block_forbids_what_its_weights_admit() -> None:
    """Nothing lies between qkv and the scores of the ViTs that there are."""
    model = vit()
    assert all(not block.forbidden for block in fold(model, contract(model.config)).blocks)


def test_the_model_is_left_alone() -> None:
    model = vit(layer_scale=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fold(model, contract(model.config))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["plain", "layer scale", "pruned blocks", "merging"])
def test_what_is_shared_is_never_written_into(name: str) -> None:
    """Weights that folding leaves as they are belong to the model: calibrating, quantizing and fitting to FP16 read them."""
    model = vit(**ZOO[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold(model, contract(model.config))
    shared = {value.data_ptr() for value in model.state_dict().values()}
    assert {block.fc1.weight.data_ptr() for block in folded.blocks if block.fc1.weight.numel()} <= shared
    images = frames(model.config, 8)
    plan = int8(folded, Recipe(), images)
    with_half_scales(plan)
    fit(folded, peaks(folded, [images]))
    write_graph(plan)
    cut_model(folded, [Cut.gone("map")] * 2 * len(folded.blocks))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_contract_of_another_size_is_refused() -> None:
    model = vit()
    other = replace(contract(model.config), size=(16, 32), resize=(16, 32))
    with pytest.raises(ValueError, match=r"\(16, 32\).*\(16, 16\)"):
        fold(model, other)
