"""Image towers of transformers: of CLIP, MetaCLIP 2 and SigLIP, with classes given as text, or with a classifier.

``CLIPForImageClassification`` and ``SiglipForImageClassification`` average patches: CLIP's those before its last norm, which it
does not use then; SigLIP's those behind it, without attention pooling. Beside texts, CLIP has a projection of the class token,
and SigLIP attention pooling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.model.families.assemble import (
    BlockKeys,
    PoolKeys,
    State,
    finish_blocks,
    linear,
    put,
    put_block,
    put_norm,
    put_patches,
    put_pool,
    put_tokens,
)
from edgevit.model.families.heads import Head, put_texts
from edgevit.model.families.huggingface import ACTIVATIONS, stated_activation
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig

TOWER = "vision_model."
PATCHES = f"{TOWER}embeddings.patch_embedding"
BLOCKS = f"{TOWER}encoder.layers."
CLASSIFIER, PROJECTION = "classifier", "visual_projection"
OTHER_TOWER = r"^(text_model|text_projection|text_embeddings)\."
NAMES = BlockKeys(
    norm1="layer_norm1", qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), proj="self_attn.out_proj",
    norm2="layer_norm2", fc1="mlp.fc1", fc2="mlp.fc2",
)  # fmt: skip
POOL = PoolKeys(
    probe=f"{TOWER}head.probe", qkv=(f"{TOWER}head.attention.in_proj",), proj=f"{TOWER}head.attention.out_proj",
    norm=f"{TOWER}head.layernorm", fc1=f"{TOWER}head.mlp.fc1", fc2=f"{TOWER}head.mlp.fc2",
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


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What follows the last block."""

    head: Head
    pooling: str
    final_norm: str
    pool_hidden: int = 0


def recognises(source: WeightSource) -> bool:
    """Whether it has an image tower's patch embedding."""
    return f"{PATCHES}.weight" in source.keys or f"{PATCHES.removeprefix(TOWER)}.weight" in source.keys


def read(source: WeightSource) -> Imported:
    """Read a tower with its classifier, or with classes given as text."""
    keys, state, config = source.keys, State(), _settings(source)
    if f"{PATCHES}.weight" not in keys:  # a tower by itself, as transformers 5 saves it
        keys.rename(r"^(?=(embeddings|encoder|pre_layrnorm|post_layernorm|head)\.)", TOWER)
    if len(keys.shape(f"{PATCHES}.weight")) == 2:
        msg = f"{keys.origin}: {PATCHES + '.weight'!r} takes patches of any grid (NaFlex); edgevit builds for one image size."
        raise CheckpointError(msg)
    keys.ignore(rf"{OTHER_TOWER}|^vision_model\.embeddings\.position_ids$")
    width, channels, patch = put_patches(state, keys, PATCHES)
    clip = f"{TOWER}pre_layrnorm.weight" in keys  # sic
    tokens = [keys.take(f"{TOWER}embeddings.class_embedding", width)[None, None]] if clip else []
    positions = keys.take(f"{TOWER}embeddings.position_embedding.weight", None, width)[None]
    patches = put_tokens(state, tokens, positions, embedded=len(tokens))
    if clip:
        put_norm(state, "embedding_norm", keys, f"{TOWER}pre_layrnorm", width)
    sizes = [put_block(state, i, keys, f"{BLOCKS}{i}.", NAMES, width) for i in range(keys.count(BLOCKS))]
    ending = (_of_clip if clip else _of_siglip)(state, source, width)
    defaults = CLIP if clip else SIGLIP
    heads = source.choose_heads(width, config.get("num_attention_heads"))
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    vit = VitConfig(
        image_size=source.choose_image_size(patch, patches, config.get("image_size")),
        patch_size=patch,
        width=width,
        head_dim=width // heads,
        blocks=blocks,
        classes=ending.head.classes,
        channels=channels,
        class_token=clip,
        qkv_bias=qkv_bias,
        activation=source.choose_activation(stated_activation(source, config), ACTIVATIONS[defaults.activation]),
        embedding_norm=clip,
        pool_heads=heads if ending.pool_hidden else 0,
        pool_hidden=ending.pool_hidden,
        projected=ending.head.projected,
        unit_features=ending.head.unit,
        final_norm=ending.final_norm,
        norm_eps=float(config.get("layer_norm_eps", defaults.eps)),
        pooling=(ending.pooling,),
        resample="bicubic",
    )
    return Imported(
        family=defaults.family, config=vit, state=state, pipeline=defaults.processor, any_size=False, text=ending.head.text
    )  # fmt: skip


def _settings(source: WeightSource) -> Mapping[str, Any]:
    """What config.json says of the image tower, whose config it is itself where there is no other."""
    config = source.config.get("vision_config")
    if isinstance(config, dict):
        return config
    return source.config if str(source.config.get("model_type", "")).endswith("vision_model") else {}


def _of_clip(state: State, source: WeightSource, width: int) -> Ending:
    keys = source.keys
    if f"{CLASSIFIER}.weight" in keys:
        keys.ignore(r"^vision_model\.post_layernorm\.")
        return Ending(head=_classifier(state, source, width), pooling="mean", final_norm="none")
    put_norm(state, "norm", keys, f"{TOWER}post_layernorm", width)
    if (source.texts is not None or keys.headless) and f"{PROJECTION}.weight" not in keys:
        msg = (
            f"{keys.origin}: an image tower without {PROJECTION + '.weight'!r}, the projection into the space of texts. Save it "
            "as CLIPModel or CLIPVisionModelWithProjection."
        )
        raise CheckpointError(msg)
    projected = 0
    if source.texts is not None or keys.headless:
        weight, bias = linear(keys, PROJECTION, None, width)
        put(state, "projection", weight, bias)
        projected = len(weight)
    head = put_texts(state, source, projected or width, projected=projected)
    return Ending(head=head, pooling="class", final_norm="before_pooling")


def _of_siglip(state: State, source: WeightSource, width: int) -> Ending:
    keys = source.keys
    put_norm(state, "norm", keys, f"{TOWER}post_layernorm", width)
    if f"{CLASSIFIER}.weight" in keys:
        keys.ignore(r"^vision_model\.head\.")  # the classifier reads tokens, not what is pooled
        return Ending(head=_classifier(state, source, width), pooling="mean", final_norm="before_pooling")
    head = put_texts(state, source, width, projected=0, sigmoid=True)
    hidden = put_pool(state, keys, POOL, width)
    return Ending(head=head, pooling="attention", final_norm="before_pooling", pool_hidden=hidden)


def _classifier(state: State, source: WeightSource, width: int) -> Head:
    if source.texts is not None:
        msg = f"{source.keys.origin}: has a classifier of its own, so its classes cannot be given as text. Leave --classes out."
        raise CheckpointError(msg)
    weight, bias = linear(source.keys, CLASSIFIER, None, width)
    put(state, "head", weight, bias)
    return Head(classes=len(weight))
