"""timm's VisionTransformer: ``vit_*``, ``deit_*``, ``deit3_*``, with registers, DINOv2 and CLIP weights."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.families.assemble import (
    TIMM_POOL,
    BlockKeys,
    State,
    finish_blocks,
    is_gated,
    linear,
    put_averaged_head,
    put_block,
    put_norm,
    put_patches,
    put_pool,
    put_tokens,
    require_head,
)
from edgevit.model.families.heads import Head, put_head
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource, as_size
from edgevit.model.families.timm_config import ACTIVATIONS, CLIP_EPS, EPS, TimmConfig
from edgevit.vitconfig import VitConfig

POOLINGS = {"token": "class", "avg": "mean", "map": "patch_attention"}
_POOLING_ALL = ("test_vit3",)
"""Architectures whose attention pooling attends to prefix tokens, too."""
_SWIGLU = re.compile(r"giant_patch14_(reg4_)?dinov2|aimv2_")
_AIMV2_HEAD = 128


def recognises(source: WeightSource) -> bool:
    """Whether it has timm's names for the patch embedding and a block."""
    return "patch_embed.proj.weight" in source.keys and "blocks.0.attn.proj.weight" in source.keys


def read(source: WeightSource) -> Imported:
    """Read any plain ViT of timm; ``config.json`` of a timm hub folder settles what the keys leave open."""
    keys, state, settings = source.keys, State(), TimmConfig.of(source.config)
    source.notes.extend(settings.check(keys.origin))
    width, channels, patch = put_patches(state, keys, "patch_embed.proj")
    tokens = {name: keys.find(name, 1, None, width) for name in ("cls_token", "dist_token", "reg_token")}
    prefix = [token for token in tokens.values() if token is not None]
    positions = keys.find("pos_embed", 1, None, width)
    stated = as_size(settings.image_size, keys.origin)
    patches = put_tokens(state, prefix, positions, _embedded_tokens(source, settings, prefix, positions, patch))
    aimv2 = "patch_embed.norm.weight" in keys and "patch_embed.norm.bias" not in keys and "blocks.0.mlp.fc1_g.weight" in keys
    if aimv2:
        put_norm(state, "patch_norm", keys, "patch_embed.norm", width, rms=True)
    clip = "norm_pre.weight" in keys
    if clip:
        put_norm(state, "embedding_norm", keys, "norm_pre", width)
    if clip and not settings.architecture and (TIMM_POOL.probe in keys or not {"norm.weight", "fc_norm.weight"} & set(keys.all)):
        msg = (
            f"{keys.origin}: its keys may be those of a Perception Encoder, whose rotary positions none of them shows. Give the "
            "hub folder, whose config.json names the architecture."
        )
        raise CheckpointError(msg)
    names = replace(block_keys(keys, ("ls1.gamma", "ls2.gamma")), rms=aimv2)
    sizes = [put_block(state, i, keys, f"blocks.{i}.", names, width) for i in range(keys.count("blocks."))]
    pool = put_pool(state, keys, TIMM_POOL, width) if TIMM_POOL.probe in keys else 0
    head, pooling = _put_head(state, source, settings, width, classified=tokens["cls_token"] is not None)
    stated_heads = settings.args.get("num_heads", max(1, width // _AIMV2_HEAD) if aimv2 else None)
    heads = source.choose_heads(sizes[0][0] if sizes else width, stated_heads)
    blocks, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    gated = is_gated(state, keys.origin)
    if gated and settings.architecture and not _SWIGLU.search(settings.architecture):
        msg = (
            f"{keys.origin}: 'blocks.0.mlp.fc1' is a gated MLP, and of {settings.architecture!r} edgevit does not know its gate."
        )
        raise CheckpointError(msg)
    config = VitConfig(
        image_size=source.choose_image_size(patch, patches, stated),
        patch_size=patch,
        width=width,
        head_dim=sizes[0][0] // heads,
        blocks=blocks,
        classes=head.classes,
        channels=channels,
        class_token=tokens["cls_token"] is not None,
        distillation_token=tokens["dist_token"] is not None,
        registers=0 if (registers := tokens["reg_token"]) is None else registers.shape[1],
        position_embedding=positions is not None,
        qkv_bias=qkv_bias,
        layer_scale=names.scale1 is not None,
        activation=source.choose_activation("silu" if gated else _activation(source, settings)),
        gated=gated,
        query_norm=names.query_norm is not None,
        attention_norm=names.attention_norm is not None,
        mlp_norm=names.mlp_norm is not None,
        pool_heads=heads if pool else 0,
        pool_hidden=pool,
        embedding_norm=clip,
        rms_norm=aimv2,
        patch_norm=aimv2,
        final_norm=put_final_norm(state, keys, width, rms=aimv2),
        norm_eps=CLIP_EPS if aimv2 else _eps(source, settings, clip),
        pooling=pooling,
        projected=head.projected,
        unit_features=head.unit,
    )
    # Other models of timm refuse any size but their own, or are made for the size that is asked for.
    dynamic = bool(settings.args.get("dynamic_img_size"))
    return Imported(family="timm", config=config, state=state, pipeline="timm", any_size=dynamic, text=head.text)


def _embedded_tokens(
    source: WeightSource, settings: TimmConfig, prefix: list[Tensor], positions: Tensor | None, patch: int
) -> int:  # fmt: skip
    """How many prefix tokens ``pos_embed`` covers: all, or none (``no_embed_class``)."""
    count = sum(token.shape[1] for token in prefix)
    if positions is None or not count:
        return 0
    rows = positions.shape[1]
    for size in (as_size(settings.image_size, source.keys.origin), source.image_size):
        patches = (size[0] // patch) * (size[1] // patch) if size else None
        if patches is not None and rows in (patches, patches + count):
            return rows - patches
    if (told := settings.args.get("no_embed_class")) is not None:
        return 0 if told else count
    if math.isqrt(rows) ** 2 != rows:
        return count
    source.notes.append(
        f"positions: {rows} rows are a square, so taken for patches alone, without the {count} prefix tokens; "
        "if it was trained on another shape, pass --image-size HEIGHTxWIDTH"
    )
    return 0


def block_keys(keys: Keys, scales: tuple[str, str]) -> BlockKeys:
    """What timm calls the parts of a block, those that there are in the first; ``scales`` are the names of LayerScale."""

    def there(name: str, suffix: str = ".weight") -> str | None:
        return name if f"blocks.0.{name}{suffix}" in keys else None

    return BlockKeys(
        norm1="norm1",
        qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj") if there("attn.q_proj") else ("attn.qkv",),
        biases=("attn.q_bias", None, "attn.v_bias") if there("attn.q_bias", "") else (),
        proj="attn.proj",
        query_norm=there("attn.q_norm"),
        key_norm=there("attn.k_norm"),
        attention_norm=there("attn.norm"),
        norm2="norm2",
        gate=there("mlp.fc1_g"),
        packed=True,
        fc1="mlp.fc1_x" if there("mlp.fc1_x") else "mlp.fc1",
        mlp_norm=there("mlp.norm"),
        fc2="mlp.fc2",
        scale1=there(scales[0], ""),
        scale2=there(scales[1], ""),
    )


def _put_head(
    state: State, source: WeightSource, settings: TimmConfig, width: int, *, classified: bool
) -> tuple[Head, tuple[str, ...]]:
    keys = source.keys
    if "head_dist.weight" in keys:
        first = linear(keys, require_head(keys, width, "head"), None, width)
        put_averaged_head(state, first, linear(keys, "head_dist", len(first[0]), width))
        return Head(classes=len(first[0])), ("class", "distillation")
    return put_head(state, source, width, "head"), (_pooling(source, settings, classified),)


def _pooling(source: WeightSource, settings: TimmConfig, classified: bool) -> str:
    stated, pooled = settings.pooling, TIMM_POOL.probe in source.keys.all
    if stated is None:
        stated = "map" if pooled else "token" if classified and "fc_norm.weight" not in source.keys else "avg"
        if not settings.architecture:  # whose default the keys show
            source.notes.append(f"pooling: assumed {stated!r} from the keys, as timm has it by default")
    if stated not in POOLINGS or (stated == "map") != pooled:
        msg = f"{source.keys.origin}: config.json asks for the pooling {stated!r}; edgevit knows 'token', 'avg' and 'map'."
        raise CheckpointError(msg)
    if not settings.args.get("pool_include_prefix", settings.architecture in _POOLING_ALL):
        return POOLINGS[stated]
    if stated == "avg":
        msg = (
            f"{source.keys.origin}: config.json asks for a mean over prefix tokens, too (pool_include_prefix), not over patches."
        )
        raise CheckpointError(msg)
    return "attention" if stated == "map" else POOLINGS[stated]


def put_final_norm(state: State, keys: Keys, width: int, *, rms: bool = False) -> str:
    """Store the norm in front of pooling or behind it; returns where it stands."""
    for source, target, place in (("fc_norm", "pooled_norm", "after_pooling"), ("norm", "norm", "before_pooling")):
        if f"{source}.weight" in keys:
            put_norm(state, target, keys, source, width, rms=rms)
            return place
    return "none"


def _activation(source: WeightSource, settings: TimmConfig) -> str | None:
    """The activation that ``config.json`` tells, by itself or by the architecture's name; None if there is none."""
    name = settings.activation()
    if source.activation is not None or name is None:
        return None
    if name not in ACTIVATIONS.values():
        msg = f"{source.keys.origin}: config.json asks for the activation {name!r}; edgevit knows {', '.join(ACTIVATIONS)}."
        raise CheckpointError(msg)
    return name


def _eps(source: WeightSource, settings: TimmConfig, clip: bool) -> float:
    """Models with a LayerNorm in front of the blocks come from CLIP, and with its epsilon, where nothing else is said."""
    stated = settings.norm_eps()
    if stated is not None:
        return stated
    eps = CLIP_EPS if clip else EPS
    source.notes.append(f"norm_eps: assumed {eps:g}, as timm has it{' in its CLIP models' if clip else ''}")
    return eps
