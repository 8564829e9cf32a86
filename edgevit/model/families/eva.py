"""timm's Eva: EVA-02, DINOv3, ``vit_*_rope_*`` and Perception Encoder, with rotary positions; EVA without."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.families.assemble import (
    TIMM_POOL,
    State,
    finish_blocks,
    is_gated,
    pair_halves,
    put_block,
    put_norm,
    put_patches,
    put_pool,
    put_tokens,
)
from edgevit.model.families.eva_rotary import Turning, turning_of
from edgevit.model.families.heads import Head, put_head
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource, as_int, as_size
from edgevit.model.families.timm import block_keys, put_final_norm
from edgevit.model.families.timm_config import CLIP_EPS, EPS, TimmConfig
from edgevit.vitconfig import VitConfig

POOLINGS = {"token": "class", "avg": "mean", "map": "attention"}  # attention over all tokens, unlike VisionTransformer's
NAMES = re.compile(r"^eva02_|^eva_giant|_rope_|dinov3|lingbot|sapiens2|^vit_pe_")
"""Entry points of timm's eva.py."""
POST_NORM = re.compile(r"eva02_enormous|sapiens2")
LARGER_EPS = re.compile(r"dinov3|lingbot|_pe_")


def recognises(source: WeightSource) -> bool:
    """Whether it has timm's names for the patch embedding, and an Eva's own for the rest, or is said to be one."""
    keys = source.keys
    if "patch_embed.proj.weight" not in keys or any("relative_position_bias" in key for key in keys.all):  # a BEiT
        return False
    own = ("gamma_1", "attn.q_bias", "attn.q_proj.weight")
    named = NAMES.search(TimmConfig.of(source.config).architecture) is not None
    return named or any(f"blocks.0.{name}" in keys for name in own) or "rope.freqs" in keys


def read(source: WeightSource) -> Imported:
    """Read any of them; what its rotary positions are is told by ``config.json``, or by the keys where those leave no choice."""
    keys, state, settings = source.keys, State(), TimmConfig.of(source.config)
    _refuse_others(source, settings)
    width, channels, patch = put_patches(state, keys, "patch_embed.proj")
    tokens = {name: keys.find(name, 1, None, width) for name in ("cls_token", "reg_token")}
    prefix = [token for token in tokens.values() if token is not None]
    positions = keys.find("pos_embed", 1, None, width)
    stated = as_size(settings.image_size, keys.origin)
    patches = put_tokens(state, prefix, positions, _embedded(settings, prefix, positions, stated, patch))
    entry = "norm_pre.weight" in keys
    if entry:
        put_norm(state, "embedding_norm", keys, "norm_pre", width)
    turning = turning_of(source, settings)
    names = block_keys(keys, ("gamma_1", "gamma_2"))
    sizes = [put_block(state, i, keys, f"blocks.{i}.", names, width) for i in range(keys.count("blocks."))]
    head, pooling, pool = _put_head(state, source, settings, width)
    heads = source.choose_heads(sizes[0][0] if sizes else width, _heads(source, settings, turning))
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    head_dim, gated = sizes[0][0] // heads, is_gated(state, keys.origin)
    if turning is not None:
        _put_rotary(state, keys, turning, len(sizes), heads, head_dim)
    config = VitConfig(
        image_size=source.choose_image_size(patch, patches, stated),
        patch_size=patch,
        width=width,
        head_dim=head_dim,
        blocks=blocks,
        classes=head.classes,
        channels=channels,
        class_token=tokens["cls_token"] is not None,
        registers=0 if (registers := tokens["reg_token"]) is None else registers.shape[1],
        position_embedding=positions is not None,
        qkv_bias=qkv_bias,
        layer_scale=names.scale1 is not None,
        activation=source.choose_activation("silu" if gated else "gelu"),
        embedding_norm=entry,
        rotary=None if turning is None else turning.rotary,
        gated=gated,
        query_norm=names.query_norm is not None,
        attention_norm=names.attention_norm is not None,
        mlp_norm=names.mlp_norm is not None,
        pool_heads=_pool_heads(settings, heads) if pool else 0,
        pool_hidden=pool,
        final_norm=put_final_norm(state, keys, width),
        norm_eps=CLIP_EPS if LARGER_EPS.search(settings.architecture) or (turning is not None and turning.centred) else EPS,
        pooling=(pooling,),
        projected=head.projected,
        unit_features=head.unit,
    )
    any_size = bool(settings.args.get("dynamic_img_size")) or (turning is not None and turning.centred)
    return Imported(family="timm Eva", config=config, state=state, pipeline="timm", any_size=any_size, text=head.text)


def _refuse_others(source: WeightSource, settings: TimmConfig) -> None:
    keys, wanted = source.keys, settings.args
    if POST_NORM.search(settings.architecture) or wanted.get("use_post_norm") or wanted.get("num_kv_heads"):
        what = "norms behind the residual branches, or keys that several heads share"
        msg = f"{keys.origin}: config.json says {settings.architecture!r}, a ViT with {what}. edgevit knows neither."
        raise CheckpointError(msg)
    if any(key.endswith("attn.gate.weight") for key in keys.all):
        msg = f"{keys.origin}: the key 'blocks.0.attn.gate.weight' says this is a ViT with gated attention, unknown to edgevit."
        raise CheckpointError(msg)


def _embedded(
    settings: TimmConfig, prefix: list[Tensor], positions: Tensor | None, stated: tuple[int, int] | None, patch: int
) -> int:  # fmt: skip
    """How many prefix tokens ``pos_embed`` covers: all, or none, in a ``_rope_ape_`` and with ``no_embed_class``."""
    count = sum(token.shape[1] for token in prefix)
    if positions is None or not count:
        return 0
    if stated is not None and (stated[0] // patch) * (stated[1] // patch) == positions.shape[1]:
        return 0
    return 0 if settings.args.get("no_embed_class", "_ape_" in settings.architecture) else count


def _put_head(state: State, source: WeightSource, settings: TimmConfig, width: int) -> tuple[Head, str, int]:
    """The head, pooling, and hidden neurons of attention pooling (0: none)."""
    keys = source.keys
    pool = put_pool(state, keys, TIMM_POOL, width) if TIMM_POOL.probe in keys else 0
    stated = settings.pooling
    if stated is None:
        averaged = "fc_norm.weight" in keys.all or "reg_token" in keys.all or "cls_token" not in keys.all
        stated = "map" if pool else "avg" if averaged else "token"
        source.notes.append(f"pooling: assumed {stated!r} from the keys")
    if stated not in POOLINGS or (stated == "map") != bool(pool):
        msg = f"{keys.origin}: config.json asks for the pooling {stated!r}; edgevit knows 'token', 'avg' over patches and 'map'."
        raise CheckpointError(msg)
    return put_head(state, source, width, "head"), POOLINGS[stated], pool


def _heads(source: WeightSource, settings: TimmConfig, turning: Turning | None) -> Any:
    """What config.json says, or what learnt frequencies show."""
    if (told := settings.args.get("num_heads")) is not None:
        return as_int(told, "the number of heads", source.keys.origin)
    return turning.frequencies.shape[2] if turning is not None and turning.frequencies is not None else None


def _pool_heads(settings: TimmConfig, heads: int) -> int:
    told = settings.args.get("attn_pool_num_heads")
    return int(told) if told is not None else 8 if "_pe_" in settings.architecture else heads


def _put_rotary(state: State, keys: Keys, turning: Turning, blocks: int, heads: int, head_dim: int) -> None:
    """Store every block's frequencies [1 or heads, 2, head_dim / 2], and bring queries and keys to the order of `Rotation`."""
    if turning.frequencies is not None:
        wanted = (2, blocks, heads, head_dim // 2)
        if turning.frequencies.shape != wanted:
            msg = f"{keys.origin}: 'rope.freqs' has shape {list(turning.frequencies.shape)}, expected {list(wanted)}."
            raise CheckpointError(msg)
        for block in range(blocks):
            first, second = turning.frequencies[:, block]
            rows, columns = (second, first) if turning.columns_first else (first, second)
            state[f"blocks.{block}.rotary"] = torch.stack([rows, columns], 1).clone()
    else:
        shared = turning.axial(head_dim)
        for block in range(blocks):
            state[f"blocks.{block}.rotary"] = shared.clone()
    if not turning.halves:
        pair_halves(state, heads, head_dim)
