"""The shape that cuts leave of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgevit.pruning.sublayers import Cut
from edgevit.vitconfig import BlockConfig, VitConfig


def cut_config(block: BlockConfig, kind: str, cut: Cut) -> BlockConfig:
    """``block`` with what ``cut`` leaves of a sublayer."""
    left, is_map = len(cut.kept), cut.left == "map"
    if kind == "attention":
        return replace(block, heads=left, attention_map=is_map)
    return replace(block, hidden=left, mlp_map=is_map)


def cut_vit_config(config: VitConfig, cuts: Sequence[Cut]) -> VitConfig:
    """``config`` with all sublayers cut, in network order."""
    blocks = []
    for index, block in enumerate(config.blocks):
        blocks.append(cut_config(cut_config(block, "attention", cuts[2 * index]), "mlp", cuts[2 * index + 1]))
    return replace(config, blocks=tuple(blocks))
