"""CLIP's image tower as OpenAI and OpenCLIP save it: ``visual.*`` beside the text tower; and OpenCLIP's towers of timm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.model.families.assemble import (
    BlockKeys,
    State,
    finish_blocks,
    put,
    put_block,
    put_norm,
    put_patches,
    put_tokens,
)
from edgevit.model.families.heads import put_texts
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig

TOWER, BLOCKS, TRUNK = "visual.", "visual.transformer.resblocks.", "visual.trunk."
OTHER_TOWER = (
    r"^(transformer|token_embedding|ln_final|text)\.|^(positional_embedding|text_projection|attn_mask)$"
    r"|^(input_resolution|context_length|vocab_size)$"
)
OPENAIS_OWN = "context_length"
"""A number that OpenAI's archives hold, and OpenCLIP's files do not."""
EPS = 1e-5
HONOURED = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "ls_init_value", "patch_dropout",
            "output_tokens"}  # fmt: skip
PLAIN = {"pool_type": "tok", "pos_embed_type": "learnable", "block_type": "default"}
NAMES = BlockKeys(norm1="ln_1", qkv=("attn.in_proj",), proj="attn.out_proj", norm2="ln_2", fc1="mlp.c_fc", fc2="mlp.c_proj")


def recognises(source: WeightSource) -> bool:
    """Whether it has the names of an image tower's patch embedding, its own or timm's."""
    return f"{TOWER}conv1.weight" in source.keys or f"{TRUNK}patch_embed.proj.weight" in source.keys


def read(source: WeightSource) -> Imported:
    """Read the tower with classes given as text."""
    keys, state = source.keys, State()
    keys.ignore(OTHER_TOWER)
    if f"{TRUNK}patch_embed.proj.weight" in keys:
        return _of_timm(source)
    if f"{TOWER}layer1.0.conv1.weight" in keys or f"{BLOCKS}0.ln_1.weight" not in keys:
        msg = f"{keys.origin}: the image tower of this CLIP is a ResNet, not a ViT."
        raise CheckpointError(msg)
    if pooled := keys.left(f"{TOWER}attn_pool."):
        msg = f"{keys.origin}: the key {pooled[0]!r} says this is a CoCa, whose pooling has many queries, unknown to edgevit."
        raise CheckpointError(msg)
    settings = _settings(source)
    width, channels, patch = put_patches(state, keys, f"{TOWER}conv1")
    token = keys.take(f"{TOWER}class_embedding", width)[None, None]
    patches = put_tokens(state, [token], keys.take(f"{TOWER}positional_embedding", None, width)[None], embedded=1)
    put_norm(state, "embedding_norm", keys, f"{TOWER}ln_pre", width)
    put_norm(state, "norm", keys, f"{TOWER}ln_post", width)
    scaled = f"{BLOCKS}0.ls_1.gamma" in keys
    names = replace(NAMES, scale1="ls_1.gamma", scale2="ls_2.gamma") if scaled else NAMES
    sizes = [put_block(state, i, keys, f"{BLOCKS}{i}.", names, width) for i in range(keys.count(BLOCKS))]
    projection = keys.take(f"{TOWER}proj", width, None).T.contiguous()  # stored [in, out]
    put(state, "projection", projection, None)
    head = put_texts(state, source, len(projection), projected=len(projection))
    stated = settings.get("head_width")
    heads = source.choose_heads(width, width // stated if stated else None)
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    config = VitConfig(
        image_size=source.choose_image_size(patch, patches, settings.get("image_size")),
        patch_size=patch,
        width=width,
        head_dim=width // heads,
        blocks=blocks,
        classes=head.classes,
        channels=channels,
        qkv_bias=qkv_bias,
        layer_scale=scaled,
        activation=_activation(source),
        embedding_norm=True,
        projected=head.projected,
        unit_features=True,
        norm_eps=EPS,
        pooling=("class",),
        resample="bicubic_antialias",
    )
    return Imported(
        family="OpenCLIP", config=config, state=state, pipeline="CLIPImageProcessor", any_size=False, text=head.text
    )  # fmt: skip


def _settings(source: WeightSource) -> Mapping[str, Any]:
    """What open_clip_config.json says of the image tower. Raises CheckpointError for one that is no plain ViT."""
    model = source.config.get("model_cfg")
    found = model.get("vision_cfg") if isinstance(model, dict) else None
    found = found if isinstance(found, dict) else {}
    for key, value in found.items():
        if key not in HONOURED and value and value != PLAIN.get(key):
            msg = f"{source.keys.origin}: open_clip_config.json sets {key} to {value!r}, unknown to edgevit."
            raise CheckpointError(msg)
    return found


def _activation(source: WeightSource) -> str:
    """Weights do not show it, and a wrong one gives classes that look right: it is told, or asked for."""
    if source.activation is not None:
        return source.choose_activation(None)
    model = source.config.get("model_cfg")
    if isinstance(model, dict):
        return "quick_gelu" if model.get("quick_gelu") else "gelu"
    if OPENAIS_OWN in source.keys.all:
        return source.choose_activation("quick_gelu")
    msg = (
        f"{source.keys.origin}: these weights do not tell their activation. Give the folder with open_clip_config.json, or pass "
        "--activation quick_gelu (OpenAI's, DFN's and MetaCLIP's weights) or --activation gelu (LAION's, DataComp's)."
    )
    raise CheckpointError(msg)


def _of_timm(source: WeightSource) -> Imported:
    """A tower of timm's inside OpenCLIP: its trunk is read as timm's own, the projection behind it as its head."""
    from edgevit.model.families import eva, timm

    keys, model = source.keys, source.config.get("model_cfg")
    settings = model.get("vision_cfg") if isinstance(model, dict) else None
    settings = settings if isinstance(settings, dict) else {}
    if behind := [key for key in keys.left("visual.head.") if not re.fullmatch(r"visual\.head\.proj\.(weight|bias)", key)]:
        msg = f"{keys.origin}: {behind[0]!r} is a projection of several layers, unknown to edgevit."
        raise CheckpointError(msg)
    inner = {re.sub(r"^visual\.trunk\.|^visual\.(?=head\.)", "", key).replace("head.proj.", "head."): key
             for key in keys.left("")}  # fmt: skip
    trunk = Keys({name: keys.take(key, *keys.shape(key)) for name, key in inner.items()}, keys.origin, headless=keys.headless)
    config: dict[str, Any] = {"architecture": settings.get("timm_model_name", ""), "pretrained_cfg": {}, "model_args": {}}
    if settings.get("timm_pool") in ("token", "avg", "map"):
        config["global_pool"] = settings["timm_pool"]
    if settings.get("image_size"):
        config["model_args"] = {"img_size": settings["image_size"]}
    whole = replace(source, keys=trunk, config=config, tower=True)
    family = eva if eva.recognises(whole) else timm
    imported = family.read(whole)
    trunk.require_empty(imported.family)
    return replace(imported, family=f"OpenCLIP, {imported.family}", any_size=False)
