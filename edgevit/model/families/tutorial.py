"""The plain ViT of many tutorials: no class token, no positions, no LayerNorm, ReLU, mean over patches."""

from __future__ import annotations

from edgevit.model.families.assemble import BlockKeys, State, finish_blocks, linear, put, put_block, put_patches, require_head
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig

_CONV = "conv.weight"
_ATTENTION, _MLP = "attention_layers.", "feed_forward_layers."


def recognises(source: WeightSource) -> bool:
    """Whether it has the tutorial's names for patch embedding and attention."""
    return f"{_ATTENTION}0.query.weight" in source.keys and any(_is_conv(key) for key in source.keys.all)


def read(source: WeightSource) -> Imported:
    """Read it; each head has attention width / heads channels, which may differ from width / heads."""
    keys, state = source.keys, State()
    conv = next(key for key in keys.all if _is_conv(key))
    width, channels, patch = put_patches(state, keys, conv.removesuffix(".weight"))
    sizes = [put_block(state, i, keys, "", _block_keys(i), width) for i in range(keys.count(_ATTENTION))]
    weight, bias = linear(keys, require_head(keys, width, "output_layer"), None, width)
    put(state, "head", weight, bias)
    heads = source.choose_heads(sizes[0][0])
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    config = VitConfig(
        image_size=source.choose_image_size(patch, None),
        patch_size=patch,
        width=width,
        head_dim=sizes[0][0] // heads,
        blocks=blocks,
        classes=len(weight),
        channels=channels,
        class_token=False,
        position_embedding=False,
        qkv_bias=qkv_bias,
        activation=source.choose_activation("relu"),
        block_norm=False,
        final_norm="none",
        pooling=("mean",),
    )
    return Imported(family="tutorial", config=config, state=state)


def _is_conv(key: str) -> bool:
    return key == _CONV or key.endswith(f".{_CONV}")


def _block_keys(index: int) -> BlockKeys:
    attention, mlp = f"{_ATTENTION}{index}.", f"{_MLP}{index}."
    return BlockKeys(
        qkv=(f"{attention}query", f"{attention}key", f"{attention}value"),
        proj=f"{attention}fc",
        fc1=f"{mlp}0",
        fc2=f"{mlp}3",
    )
