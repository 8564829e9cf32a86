"""``torchvision.models.vit_*``."""

from __future__ import annotations

from edgevit.model.families.assemble import (
    BlockKeys,
    State,
    finish_blocks,
    linear,
    put,
    put_block,
    put_norm,
    put_patches,
    put_tokens,
    require_head,
)
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig

_BLOCKS = "encoder.layers.encoder_layer_"


def recognises(source: WeightSource) -> bool:
    """Whether it has torchvision's names for the patch embedding and the class token."""
    return "conv_proj.weight" in source.keys and "class_token" in source.keys


def read(source: WeightSource) -> Imported:
    """Read weights of torchvision 0.12 or newer."""
    keys, state = source.keys, State()
    width, channels, patch = put_patches(state, keys, "conv_proj")
    prefix = [keys.take("class_token", 1, 1, width)]
    patches = put_tokens(state, prefix, keys.take("encoder.pos_embedding", 1, None, width), embedded=1)
    names = BlockKeys(
        norm1="ln_1",
        qkv=("self_attention.in_proj",),
        proj="self_attention.out_proj",
        norm2="ln_2",
        fc1=_mlp(source, "mlp.0", "mlp.linear_1"),
        fc2=_mlp(source, "mlp.3", "mlp.linear_2"),
    )
    sizes = [put_block(state, i, keys, f"{_BLOCKS}{i}.", names, width) for i in range(keys.count(_BLOCKS))]
    put_norm(state, "norm", keys, "encoder.ln", width)
    weight, bias = linear(keys, require_head(keys, width, "heads.head"), None, width)
    put(state, "head", weight, bias)
    heads = source.choose_heads(width)
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    config = VitConfig(
        image_size=source.choose_image_size(patch, patches),
        patch_size=patch,
        width=width,
        head_dim=width // heads,
        blocks=blocks,
        classes=len(weight),
        channels=channels,
        qkv_bias=qkv_bias,
        activation=source.choose_activation("gelu"),
        resample="bicubic_corners",
    )
    return Imported(family="torchvision", config=config, state=state, pipeline="torchvision")


def _mlp(source: WeightSource, new: str, old: str) -> str:
    """The name of an MLP layer; torchvision before 0.13 had others."""
    return source.keys.first(f"{_BLOCKS}0.{new}", f"{_BLOCKS}0.{old}").removeprefix(f"{_BLOCKS}0.")
