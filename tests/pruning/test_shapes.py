"""Widths after cuts, by hand and against the cut weights themselves."""

from __future__ import annotations

import torch

from edgevit.pruning.shapes import cut_config, cut_vit_config
from edgevit.pruning.sublayers import Cut, cut_model
from edgevit.vitconfig import BlockConfig
from tests.zoo import folded

WHOLE = BlockConfig(heads=4, hidden=48)


def test_each_way_to_cut_a_sublayer() -> None:
    some = Cut.part(torch.tensor([0, 3]))
    assert cut_config(WHOLE, "attention", some) == BlockConfig(heads=2, hidden=48)
    assert cut_config(WHOLE, "mlp", some) == BlockConfig(heads=4, hidden=2)
    assert cut_config(WHOLE, "attention", Cut.gone("map")) == BlockConfig(heads=0, hidden=48, attention_map=True)
    assert cut_config(WHOLE, "mlp", Cut.gone("bias")) == BlockConfig(heads=4, hidden=0)


def test_a_config_is_that_of_the_cut_weights() -> None:
    """Cuts come in network order: attention, MLP, the next block's attention, ..."""
    model = folded()
    cuts = [Cut.part(torch.tensor([1])), Cut.gone("map"), Cut.gone("bias"), Cut.part(torch.arange(16))]
    config = cut_vit_config(model.config, cuts)
    assert config.blocks == (BlockConfig(heads=1, hidden=0, mlp_map=True), BlockConfig(heads=0, hidden=16))
    for widths, block in zip(config.blocks, cut_model(model, cuts).blocks, strict=True):
        assert (widths.heads, widths.hidden) == (block.heads, len(block.fc1.weight))
        assert widths.attention_map == (not block.heads and block.proj.weight.shape[1] > 0)
        assert widths.mlp_map == (not len(block.fc1.weight) and block.fc2.weight.shape[1] > 0)
