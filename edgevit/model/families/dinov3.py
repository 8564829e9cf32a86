"""DINOv3 with the names of its original code (facebookresearch/dinov3) or of Hugging Face transformers, and a linear head.

Neither has a classifier of its own: the head is a linear one, on the class token or on that and the mean of the patches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
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
from edgevit.model.families.huggingface import ACTIVATIONS, blocks_prefix, stated_activation
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource
from edgevit.model.rotary import axial
from edgevit.vitconfig import Rotary, VitConfig

PATCHES = "embeddings.patch_embeddings"  # of transformers
EPS, THETA = 1e-5, 100.0
KNOWN = {**ACTIVATIONS, "silu": "silu", "swish": "silu"}
TRAINING = r"(^|\.)(mask_token$|local_cls_norm\.|cls_norm\.|rope_embed\.)"


def recognises(source: WeightSource) -> bool:
    """Whether it has the original's storage tokens or rotary periods, or transformers' name for DINOv3's patch embedding."""
    if any(key.endswith(f"{PATCHES}.weight") for key in source.keys.all):
        return True
    own = ("storage_tokens", "rope_embed.periods")
    return "patch_embed.proj.weight" in source.keys and any(key in source.keys for key in own)


def read(source: WeightSource) -> Imported:
    """Read a backbone with its head."""
    keys, state, config = source.keys, State(), source.config
    theirs = any(key.endswith(f"{PATCHES}.weight") for key in keys.all)
    base = _base(keys) if theirs else ""
    tokens, patches = (f"{base}embeddings.", base + PATCHES) if theirs else ("", "patch_embed.proj")
    width, channels, patch = put_patches(state, keys, patches)
    prefix = [keys.take(f"{tokens}cls_token", 1, 1, width)]
    registers = keys.find(f"{tokens}{'register_tokens' if theirs else 'storage_tokens'}", 1, None, width)
    prefix += [] if registers is None else [registers]
    put_tokens(state, prefix, None, embedded=0)
    periods = keys.find("rope_embed.periods", None)
    keys.ignore(TRAINING)
    blocks = blocks_prefix(keys, base) if theirs else "blocks."
    names = _their_block(keys, f"{blocks}0.") if theirs else _own_block(keys)
    sizes = [_put_block(state, i, keys, f"{blocks}{i}.", names, width) for i in range(keys.count(blocks))]
    put_norm(state, "norm", keys, keys.first(f"{base}norm", f"{base}layernorm", "norm"), width)
    classes, pooling = _put_head(state, keys, width)
    heads = source.choose_heads(width, config.get("num_attention_heads"))
    block_widths, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    frequencies = _frequencies(width // heads, periods, float(config.get("rope_theta", THETA)))
    state |= {f"blocks.{i}.rotary": frequencies.clone() for i in range(len(sizes))}
    gated = is_gated(state, keys.origin)
    vit = VitConfig(
        image_size=source.choose_image_size(patch, None, config.get("image_size")),
        patch_size=patch,
        width=width,
        head_dim=width // heads,
        blocks=block_widths,
        classes=classes,
        channels=channels,
        registers=0 if registers is None else registers.shape[1],
        position_embedding=False,
        qkv_bias=qkv_bias,
        layer_scale=names.scale1 is not None,
        activation=source.choose_activation(stated_activation(source, config, KNOWN) or ("silu" if gated else "gelu")),
        rotary=Rotary(coordinates="centred"),
        gated=gated,
        norm_eps=float(config.get("layer_norm_eps", EPS)),
        pooling=pooling,
    )
    return Imported(family="DINOv3", config=vit, state=state, pipeline="dinov3")


def _base(keys: Keys) -> str:
    return next(key for key in keys.all if key.endswith(f"{PATCHES}.weight")).removesuffix(f"{PATCHES}.weight")


def _own_block(keys: Keys) -> BlockKeys:
    scaled, split = "blocks.0.ls1.gamma" in keys, "blocks.0.mlp.w1.weight" in keys
    return BlockKeys(
        qkv=("attn.qkv",),
        proj="attn.proj",
        norm1="norm1",
        norm2="norm2",
        gate="mlp.w1" if split else None,
        fc1="mlp.w2" if split else "mlp.fc1",
        fc2="mlp.w3" if split else "mlp.fc2",
        scale1="ls1.gamma" if scaled else None,
        scale2="ls2.gamma" if scaled else None,
    )


def _their_block(keys: Keys, block: str) -> BlockKeys:
    scaled, gated = f"{block}layer_scale1.lambda1" in keys, f"{block}mlp.gate_proj.weight" in keys
    return BlockKeys(
        qkv=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        proj="attention.o_proj",
        norm1="norm1",
        norm2="norm2",
        gate="mlp.gate_proj" if gated else None,
        fc1="mlp.up_proj",
        fc2="mlp.down_proj",
        scale1="layer_scale1.lambda1" if scaled else None,
        scale2="layer_scale2.lambda1" if scaled else None,
    )


def _put_block(state: State, index: int, keys: Keys, prefix: str, names: BlockKeys, width: int) -> tuple[int, int]:
    """Store one block; the bias of keys counts for nothing where ``bias_mask`` masks it, which is NaN there, or zero."""
    mask = keys.find(f"{prefix}attn.qkv.bias_mask", None)
    widths = put_block(state, index, keys, prefix, names, width)
    bias = state.get(f"blocks.{index}.qkv.bias")
    if mask is not None and bias is not None:
        if bool(mask.isnan().any()):  # as it is before weights are loaded into it: the keys' third is what it masks
            mask = torch.ones_like(bias)
            mask[len(bias) // 3 : 2 * len(bias) // 3] = 0
        state[f"blocks.{index}.qkv.bias"] = bias * mask
    return widths


def _frequencies(head_dim: int, periods: Tensor | None, theta: float) -> Tensor:
    """Radians [1, 2, head_dim / 2] per unit of row and column: rows turn the first quarter of channels, columns the second."""
    quarter = head_dim // 4
    if periods is None:
        periods = theta ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    return axial(2 * math.pi / periods.double())


def _put_head(state: State, keys: Keys, width: int) -> tuple[int, tuple[str, ...]]:
    weight, bias = linear(keys, require_head(keys, width, "linear_head", "classifier", "head"), None, None)
    if weight.shape[1] not in (width, 2 * width):
        msg = (
            f"{keys.origin}: the head takes {weight.shape[1]} features; it is known on the class token ({width}), or on that"
            f" and the mean of the patches ({2 * width})."
        )
        raise CheckpointError(msg)
    put(state, "head", weight, bias)
    return len(weight), ("class",) if weight.shape[1] == width else ("class", "mean")
