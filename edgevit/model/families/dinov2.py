"""DINOv2 with the names of its original code (facebookresearch/dinov2), and a linear head."""

from __future__ import annotations

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
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig


def recognises(source: WeightSource) -> bool:
    """Whether it has DINOv2's mask or register tokens, or its head, which timm's copies lack."""
    own = any(key in source.keys for key in ("mask_token", "register_tokens", "linear_head.weight"))
    return own and "patch_embed.proj.weight" in source.keys


def read(source: WeightSource) -> Imported:
    """Read a backbone with its head, whose input is the class token or that and the mean of the patches."""
    keys, state = source.keys, State()
    keys.ignore(r"^mask_token$")
    # With block_chunks > 0 a block is called blocks.<chunk>.<block>.
    keys.rename(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")
    width, channels, patch = put_patches(state, keys, "patch_embed.proj")
    prefix = [keys.take("cls_token", 1, 1, width)]
    registers = keys.find("register_tokens", 1, None, width)
    if registers is not None:
        prefix.append(registers)
    # The registers come between class token and patches, after the positions were added.
    patches = put_tokens(state, prefix, keys.take("pos_embed", 1, None, width), embedded=1)
    names = _block_keys(keys)
    sizes = [put_block(state, i, keys, f"blocks.{i}.", names, width) for i in range(keys.count("blocks."))]
    put_norm(state, "norm", keys, "norm", width)
    classes, pooling = _put_head(state, keys, width)
    heads = source.choose_heads(width)
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    gated = is_gated(state, keys.origin)
    config = VitConfig(
        image_size=source.choose_image_size(patch, patches, square=True),
        patch_size=patch,
        width=width,
        head_dim=width // heads,
        blocks=blocks,
        classes=classes,
        channels=channels,
        registers=0 if registers is None else registers.shape[1],
        qkv_bias=qkv_bias,
        layer_scale=True,
        activation=source.choose_activation("silu" if gated else "gelu"),
        gated=gated,
        pooling=pooling,
        resample="bicubic_offset" if registers is None else "bicubic_antialias",
    )
    return Imported(family="dinov2", config=config, state=state, pipeline="dinov2")


def _block_keys(keys: Keys) -> BlockKeys:
    """Of a block; the giant's MLP is a gated one."""
    gated = "blocks.0.mlp.w12.weight" in keys
    return BlockKeys(
        norm1="norm1", qkv=("attn.qkv",), proj="attn.proj", scale1="ls1.gamma", norm2="norm2", scale2="ls2.gamma", packed=gated,
        fc1="mlp.w12" if gated else "mlp.fc1", fc2="mlp.w3" if gated else "mlp.fc2",
    )  # fmt: skip


def _put_head(state: State, keys: Keys, width: int) -> tuple[int, tuple[str, ...]]:
    name = require_head(keys, width, "linear_head", "head", "classifier")
    weight, bias = linear(keys, name, None, None)
    if weight.shape[1] not in (width, 2 * width):
        msg = (
            f"{keys.origin}: {name + '.weight'!r} takes {weight.shape[1]} features; edgevit knows heads on the class token "
            f"({width}) or on that and the mean of the patches ({2 * width}), not on several blocks (layers=4)."
        )
        raise CheckpointError(msg)
    put(state, "head", weight, bias)
    return len(weight), ("class",) if weight.shape[1] == width else ("class", "mean")
