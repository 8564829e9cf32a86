"""Image classifiers of transformers on an image tower: ``CLIPForImageClassification``, ``SiglipForImageClassification``.

Both average patches: CLIP's those before its last norm, which it does not use then; SigLIP's those behind it, without attention
pooling.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import CheckpointError
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
from edgevit.model.families.huggingface import ACTIVATIONS, stated_activation
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig

TOWER = "vision_model."
PATCHES = f"{TOWER}embeddings.patch_embedding"
BLOCKS = f"{TOWER}encoder.layers."
NAMES = BlockKeys(
    norm1="layer_norm1", qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), proj="self_attn.out_proj",
    norm2="layer_norm2", fc1="mlp.fc1", fc2="mlp.fc2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Of transformers' config of the tower, where config.json is silent."""

    family: str
    activation: str
    eps: float
    processor: str


CLIP = Defaults(family="huggingface CLIP", activation="quick_gelu", eps=1e-5, processor="CLIPImageProcessor")
SIGLIP = Defaults(family="huggingface SigLIP", activation="gelu_pytorch_tanh", eps=1e-6, processor="SiglipImageProcessor")


def recognises(source: WeightSource) -> bool:
    """Whether it has an image tower's patch embedding and a classifier."""
    return f"{PATCHES}.weight" in source.keys and "classifier.weight" in source.keys


def read(source: WeightSource) -> Imported:
    """Read a tower with its classifier."""
    keys, state = source.keys, State()
    config = source.config.get("vision_config")
    config = config if isinstance(config, dict) else {}
    if len(keys.shape(f"{PATCHES}.weight")) == 2:
        msg = f"{keys.origin}: {PATCHES + '.weight'!r} takes patches of any grid (NaFlex); edgevit builds for one image size."
        raise CheckpointError(msg)
    width, channels, patch = put_patches(state, keys, PATCHES)
    entry = f"{TOWER}pre_layrnorm.weight" in keys  # sic
    tokens = [keys.take(f"{TOWER}embeddings.class_embedding", width)[None, None]] if entry else []
    positions = keys.take(f"{TOWER}embeddings.position_embedding.weight", None, width)[None]
    patches = put_tokens(state, tokens, positions, embedded=len(tokens))
    if entry:
        put_norm(state, "embedding_norm", keys, f"{TOWER}pre_layrnorm", width)
        keys.ignore(r"^vision_model\.post_layernorm\.")
    else:
        put_norm(state, "norm", keys, f"{TOWER}post_layernorm", width)
    keys.ignore(r"^vision_model\.(head\.|embeddings\.position_ids$)")  # the classifier reads tokens, not what is pooled
    sizes = [put_block(state, i, keys, f"{BLOCKS}{i}.", NAMES, width) for i in range(keys.count(BLOCKS))]
    weight, bias = linear(keys, require_head(keys, "classifier"), None, width)
    put(state, "head", weight, bias)
    defaults = CLIP if entry else SIGLIP
    heads = source.choose_heads(width, config.get("num_attention_heads"))
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    vit = VitConfig(
        image_size=source.choose_image_size(patch, patches, config.get("image_size")),
        patch_size=patch,
        width=width,
        head_dim=width // heads,
        blocks=blocks,
        classes=len(weight),
        channels=channels,
        class_token=entry,
        qkv_bias=qkv_bias,
        activation=source.choose_activation(stated_activation(source, config), ACTIVATIONS[defaults.activation]),
        embedding_norm=entry,
        final_norm="none" if entry else "before_pooling",
        norm_eps=float(config.get("layer_norm_eps", defaults.eps)),
        pooling=("mean",),
        resample="bicubic",
    )
    return Imported(family=defaults.family, config=vit, state=state, pipeline=defaults.processor, any_size=False)
