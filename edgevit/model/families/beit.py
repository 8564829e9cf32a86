"""BEiT and BEiT v2, of timm and of Hugging Face transformers: relative position bias in every block, shared or its own.

The bias of a pair of tokens is looked up in a table by how far apart their patches are; three more rows are those from the class
token to a patch, from a patch to it, and of it to itself (arXiv 2106.08254). Here it is written out for one grid.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.families import huggingface
from edgevit.model.families.assemble import (
    BlockKeys,
    State,
    finish_blocks,
    is_gated,
    linear,
    put,
    put_block,
    put_norm,
    put_patches,
    put_tokens,
    require_head,
)
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource, as_size
from edgevit.model.families.timm import block_keys, put_final_norm
from edgevit.model.families.timm_config import TimmConfig
from edgevit.vitconfig import VitConfig

TABLE = "relative_position_bias_table"
CLASS_ROWS = 3
THEIRS = "embeddings.patch_embeddings.projection"
EPS = {"timm": 1e-6, "transformers": 1e-12}
POOLINGS = {"avg": "mean", "token": "class"}


def recognises(source: WeightSource) -> bool:
    """Whether it has a table of relative positions and a BEiT's names beside it."""
    keys = source.keys.all
    found = any(key.endswith(TABLE) for key in keys)
    return found and any(re.search(r"(^|\.)(blocks\.0\.attn\.qkv\.weight|beit\.embeddings\.cls_token)$", key) for key in keys)


def read(source: WeightSource) -> Imported:
    """Read a classifier of either library. Raises CheckpointError for another size than its tables are made for."""
    keys, state = source.keys, State()
    theirs = any(key.endswith(f"{THEIRS}.weight") for key in keys.all)
    base = "beit." if theirs else ""
    tokens = f"{base}embeddings." if theirs else ""
    width, channels, patch = put_patches(state, keys, base + THEIRS if theirs else "patch_embed.proj")
    prefix = [keys.take(f"{tokens}cls_token", 1, 1, width)]
    positions = keys.find(f"{tokens}position_embeddings" if theirs else "pos_embed", 1, None, width)
    put_tokens(state, prefix, positions, embedded=1 if positions is not None else 0)
    keys.ignore(r"(^|\.)(mask_token|relative_position_index)$")
    blocks = huggingface.blocks_prefix(keys, base) if theirs else "blocks."
    names = _their_block(keys, f"{blocks}0.") if theirs else block_keys(keys, ("gamma_1", "gamma_2"))
    shared = _shared(keys, base)
    count, sizes, tables = keys.count(blocks), list[tuple[int, int]](), list[Tensor]()
    for index in range(count):
        own = next((key for key in keys.left(f"{blocks}{index}.") if key.endswith(TABLE)), None)
        if own is None and shared is None:
            msg = f"{keys.origin}: block {index} has no {TABLE!r}, and there is none for all."
            raise CheckpointError(msg)
        like = tables[0].shape if tables else (None, None)
        tables.append(shared if own is None else keys.take(own, *like))  # type: ignore[arg-type]  # one of both is there
        sizes.append(put_block(state, index, keys, f"{blocks}{index}.", names, width))
    heads = tables[0].shape[1] if tables else 1
    block_widths, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    size = _image_size(source, patch, len(tables[0]) - CLASS_ROWS)
    grid = size[0] // patch, size[1] // patch
    for index, table in enumerate(tables):
        state[f"blocks.{index}.score_bias"] = written_out(table, grid)
    norm = _put_their_norm(state, keys, base, width) if theirs else put_final_norm(state, keys, width)
    weight, bias = linear(keys, require_head(keys, width, "classifier" if theirs else "head"), None, width)
    put(state, "head", weight, bias)
    gated = is_gated(state, keys.origin)
    stated = huggingface.stated_activation(source, source.config) if theirs else "gelu"
    vit = VitConfig(
        image_size=size,
        patch_size=patch,
        width=width,
        head_dim=sizes[0][0] // heads,
        blocks=block_widths,
        classes=len(weight),
        channels=channels,
        position_embedding=positions is not None,
        qkv_bias=qkv_bias,
        layer_scale=names.scale1 is not None,
        activation=source.choose_activation("silu" if gated else stated),
        score_bias=True,
        gated=gated,
        mlp_norm=names.mlp_norm is not None,
        final_norm=norm,
        norm_eps=float(source.config.get("layer_norm_eps", EPS["transformers" if theirs else "timm"])),
        pooling=(_pooling(source, theirs=theirs, norm=norm),),
    )
    return Imported(family="BEiT", config=vit, state=state, pipeline="BeitImageProcessor" if theirs else "timm", any_size=False)


def written_out(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Biases float32 [heads, 1 + patches, 1 + patches] of all pairs, of ``table`` [(2 rows - 1) (2 columns - 1) + 3, heads]."""
    rows, columns = grid
    row, column = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    apart = (row[:, None] - row + rows - 1) * (2 * columns - 1) + column[:, None] - column + columns - 1
    places = torch.full((1 + rows * columns,) * 2, len(table) - 1)
    places[0, 1:], places[1:, 0], places[1:, 1:] = len(table) - 3, len(table) - 2, apart
    return table[places].permute(2, 0, 1).float().contiguous()


def _image_size(source: WeightSource, patch: int, distances: int) -> tuple[int, int]:
    """(height, width) with as many distances of patches as the table has, by the settings, the user, or a square."""
    settings = TimmConfig.of(source.config)
    stated = as_size(settings.image_size or source.config.get("image_size"), source.keys.origin)
    side = (math.isqrt(max(0, distances)) + 1) // 2 * patch
    for size in (stated, source.image_size, (side, side)):
        if size is not None and (2 * (size[0] // patch) - 1) * (2 * (size[1] // patch) - 1) == distances:
            return size[0] // patch * patch, size[1] // patch * patch
    msg = f"{source.keys.origin}: {distances} relative positions are those of no square grid. Pass --image-size HEIGHTxWIDTH."
    raise CheckpointError(msg)


def _shared(keys: Keys, base: str) -> Tensor | None:
    """The table of all blocks, where there is one."""
    names = (
        "rel_pos_bias.",
        f"{base}encoder.relative_position_bias.",
        f"{base}relative_position_bias.",
        "relative_position_bias.",
    )
    return next((table for name in names if (table := keys.find(name + TABLE, None, None)) is not None), None)


def _their_block(keys: Keys, block: str) -> BlockKeys:
    first, second = (name if block + name in keys else None for name in ("lambda_1", "lambda_2"))
    return replace(huggingface.block_keys(keys, block), scale1=first, scale2=second)


def _put_their_norm(state: State, keys: Keys, base: str, width: int) -> str:
    """Store the norm behind the mean of the patches, or that of all tokens; returns where it stands."""
    for source, target, place in ((f"{base}pooler.layernorm", "pooled_norm", "after_pooling"),
                                  (f"{base}layernorm", "norm", "before_pooling")):  # fmt: skip
        if f"{source}.weight" in keys:
            put_norm(state, target, keys, source, width)
            return place
    return "none"


def _pooling(source: WeightSource, *, theirs: bool, norm: str) -> str:
    if theirs:
        return "mean" if source.config.get("use_mean_pooling", norm == "after_pooling") else "class"
    stated = TimmConfig.of(source.config).pooling or ("avg" if norm == "after_pooling" else "token")
    if stated not in POOLINGS:
        msg = (
            f"{source.keys.origin}: config.json asks for the pooling {stated!r}; edgevit knows {', '.join(map(repr, POOLINGS))}."
        )
        raise CheckpointError(msg)
    return POOLINGS[stated]
