"""From folded blocks back to a trainable `Vit`: what pruning changes, it changes in folded weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgevit.model.folded import FoldedBlock
from edgevit.model.vit import Vit
from edgevit.part import LINEARS
from edgevit.vitconfig import BlockConfig


def unfold(model: Vit, blocks: Sequence[FoldedBlock]) -> Vit:
    """``model`` with other blocks, in eval mode; ``model`` is left alone, and embedding and head are copied.

    LayerScale stays in proj and fc2, the values' bias in proj's bias: that is exact, and the result has no LayerScale.
    """
    widths = tuple(
        BlockConfig(
            heads=block.heads,
            hidden=block.hidden,
            attention_map=not block.heads and block.proj.inputs > 0,
            mlp_map=not block.fc1.outputs and block.fc2.inputs > 0,
            merged=old.merged,
        )
        for old, block in zip(model.config.blocks, blocks, strict=True)
    )
    config = replace(model.config, blocks=widths, layer_scale=False)
    state = {key: value.detach().clone() for key, value in model.state_dict().items() if not key.startswith("blocks.")}
    for index, block in enumerate(blocks):
        state |= {f"blocks.{index}.{key}": value for key, value in _state(block, config.head_dim).items()}
    result = Vit(config)
    wanted = result.state_dict()
    result.load_state_dict({key: value for key, value in state.items() if key in wanted})
    return result.eval()


def _state(block: FoldedBlock, head_dim: int) -> dict[str, Tensor]:
    """All that a block may have, by the names in `edgevit.model.vit.Block`."""
    norms = ("norm1", "norm2", "query_norm", "key_norm", "attention_norm", "mlp_norm")
    parts = {kind: getattr(block, kind) for kind in (*norms, *LINEARS)}
    state = {f"{kind}.{item}": getattr(part, item).clone() for kind, part in parts.items() if part for item in ("weight", "bias")}
    if block.rotation is not None:
        state["rotary"] = block.rotation.frequencies.clone()
    if block.score_bias is not None:
        state["score_bias"] = block.score_bias.clone()
    queries, named = (slice(None), "query_norm") if block.query_norm else (slice(0, block.heads * head_dim), "qkv")
    for item in ("weight", "bias"):  # the attention scale
        state[f"{named}.{item}"][queries] = (state[f"{named}.{item}"][queries].double() * head_dim**0.5).to(torch.float32)
    return state
