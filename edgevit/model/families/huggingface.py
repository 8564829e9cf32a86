"""Image classifiers of Hugging Face transformers: ViT, DeiT, DINOv2, DINOv2 with registers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.model.families.assemble import (
    BlockKeys,
    State,
    finish_blocks,
    is_gated,
    linear,
    put,
    put_averaged_head,
    put_block,
    put_norm,
    put_patches,
    put_tokens,
    require_head,
)
from edgevit.model.families.keys import Keys
from edgevit.model.families.source import Imported, WeightSource
from edgevit.vitconfig import VitConfig

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
# What config.json's model_type may be, and the image processor that transformers gives such a model.
MODEL_TYPES = {
    "vit": "ViTImageProcessor",
    "vit_msn": "ViTImageProcessor",
    "deit": "DeiTImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov2_with_registers": "BitImageProcessor",
}
# layer_norm_eps where config.json does not give it: the defaults of ViTConfig and DeiTConfig, of Dinov2Config and ViTMSNConfig.
VIT_EPS, DINOV2_EPS = 1e-12, 1e-6

_PATCHES = "embeddings.patch_embeddings.projection"


def recognises(source: WeightSource) -> bool:
    """Whether it has transformers' name for the patch embedding."""
    return any(key.endswith(f"{_PATCHES}.weight") for key in source.keys.all)


def read(source: WeightSource) -> Imported:
    """Read any of the family; names of transformers 4 and 5 are both known."""
    keys, config, state = source.keys, source.config, State()
    _require_known_type(source)
    keys.ignore(r"(^|\.)(mask_token$|pooler\.)")
    base = next(key for key in keys.all if key.endswith(f"{_PATCHES}.weight")).removesuffix(f"{_PATCHES}.weight")
    width, channels, patch = put_patches(state, keys, base + _PATCHES)
    prefix, registers, distilled = _prefix(keys, base, width)
    positions = keys.take(f"{base}embeddings.position_embeddings", 1, None, width)
    # Registers get no position: transformers inserts them after the positions were added.
    patches = put_tokens(state, prefix, positions, embedded=1 + distilled)
    blocks = blocks_prefix(keys, base)
    names = block_keys(keys, f"{blocks}0.")
    sizes = [put_block(state, i, keys, f"{blocks}{i}.", names, width) for i in range(keys.count(blocks))]
    put_norm(state, "norm", keys, f"{base}layernorm", width)
    classes, pooling = _put_head(state, keys, width)
    heads = source.choose_heads(sizes[0][0] if sizes else width, config.get("num_attention_heads"))
    block_widths, qkv_bias = finish_blocks(state, sizes, heads, keys.origin)
    dinov2, gated = names.scale1 is not None, is_gated(state, keys.origin)
    _require_agreement(source, width=width, blocks=len(sizes), hidden=sizes[0][1], qkv_bias=qkv_bias, patch=patch, dinov2=dinov2)
    default = "BitImageProcessor" if dinov2 else "DeiTImageProcessor" if distilled else "ViTImageProcessor"
    return Imported(
        family=_family(distilled, dinov2),
        state=state,
        pipeline=MODEL_TYPES.get(str(config.get("model_type")), default),
        any_size=dinov2,
        config=VitConfig(
            # DINOv2 takes any table of positions for a square, and interpolates it, whatever config.json says.
            image_size=source.choose_image_size(patch, patches, config.get("image_size"), square=dinov2),
            patch_size=patch,
            width=width,
            head_dim=sizes[0][0] // heads,
            blocks=block_widths,
            classes=classes,
            channels=channels,
            distillation_token=distilled,
            registers=registers,
            qkv_bias=qkv_bias,
            layer_scale=dinov2,
            activation=source.choose_activation("silu" if gated else stated_activation(source, config)),
            gated=gated,
            norm_eps=_eps(source, dinov2),
            pooling=pooling,
            # DINOv2 with registers alone interpolates with antialiasing.
            resample="bicubic_antialias" if registers else "bicubic",
        ),
    )


def _prefix(keys: Keys, base: str, width: int) -> tuple[list[Any], int, bool]:
    tokens = [keys.take(f"{base}embeddings.cls_token", 1, 1, width)]
    distillation = keys.find(f"{base}embeddings.distillation_token", 1, 1, width)
    registers = keys.find(f"{base}embeddings.register_tokens", 1, None, width)
    tokens += [token for token in (distillation, registers) if token is not None]
    return tokens, 0 if registers is None else registers.shape[1], distillation is not None


def blocks_prefix(keys: Keys, base: str) -> str:
    """What comes before a block's number; transformers 5 saves ViT-MSN's blocks without the model's own name."""
    for name in (base, ""):
        pattern = re.compile(re.escape(name) + r"(?:encoder\.|model\.)?layers?\.(?=\d+\.)")
        if found := next((m[0] for key in keys.all if (m := pattern.match(key))), None):
            return found
    return f"{base}encoder.layer."


def block_keys(keys: Keys, block: str) -> BlockKeys:
    """What versions of transformers call the parts of a block, whose keys begin with ``block``."""

    def first(*names: str) -> str:
        return keys.first(*(block + name for name in names)).removeprefix(block)

    scaled = f"{block}layer_scale1.lambda1" in keys
    return BlockKeys(
        qkv=(
            first("attention.attention.query", "attention.q_proj"),
            first("attention.attention.key", "attention.k_proj"),
            first("attention.attention.value", "attention.v_proj"),
        ),
        proj=first("attention.output.dense", "attention.o_proj"),
        fc1=first("intermediate.dense", "mlp.fc1", "mlp.weights_in"),
        fc2=first("output.dense", "mlp.fc2", "mlp.weights_out"),
        packed=f"{block}mlp.weights_in.weight" in keys,
        norm1=first("layernorm_before", "norm1"),
        norm2=first("layernorm_after", "norm2"),
        scale1="layer_scale1.lambda1" if scaled else None,
        scale2="layer_scale2.lambda1" if scaled else None,
    )


def _put_head(state: State, keys: Keys, width: int) -> tuple[int, tuple[str, ...]]:
    name = require_head(keys, width, "classifier", "cls_classifier")
    if name == "cls_classifier":
        first = linear(keys, name, None, width)
        put_averaged_head(state, first, linear(keys, "distillation_classifier", len(first[0]), width))
        return len(first[0]), ("class", "distillation")
    # DINOv2's head sees the class token beside the mean of the patches.
    pooling = ("class", "mean") if keys.shape(f"{name}.weight")[1:] == (2 * width,) else ("class",)
    weight, bias = linear(keys, name, None, len(pooling) * width)
    put(state, "head", weight, bias)
    return len(weight), pooling


def _family(distilled: bool, dinov2: bool) -> str:
    if dinov2:
        return "huggingface DINOv2"
    return "huggingface DeiT" if distilled else "huggingface ViT"


def stated_activation(source: WeightSource, config: Mapping[str, Any], known: Mapping[str, str] = ACTIVATIONS) -> str | None:
    """What ``config`` says, by name in `VitConfig`'s terms; None if it says nothing, or the user does.

    Raises CheckpointError for one that is not ``known``.
    """
    name = config.get("hidden_act")
    if name is None or source.activation is not None:
        return None
    if name not in known:
        msg = f"{source.keys.origin}: config.json asks for the activation {name!r}; edgevit knows {', '.join(known)}."
        raise CheckpointError(msg)
    return known[name]


def _eps(source: WeightSource, dinov2: bool) -> float:
    if source.config.get("layer_norm_eps") is not None:
        return float(source.config["layer_norm_eps"])
    eps = DINOV2_EPS if dinov2 or source.config.get("model_type") == "vit_msn" else VIT_EPS
    source.notes.append(f"norm_eps: assumed {eps:g}, the default of transformers")
    return eps


def _require_known_type(source: WeightSource) -> None:
    kind = source.config.get("model_type")
    if kind is not None and kind not in MODEL_TYPES:
        msg = f"{source.keys.origin}: config.json says model_type {kind!r}; edgevit knows {', '.join(MODEL_TYPES)}."
        raise CheckpointError(msg)


def _require_agreement(
    source: WeightSource, *, width: int, blocks: int, hidden: int, qkv_bias: bool, patch: int, dinov2: bool
) -> None:  # fmt: skip
    """Raise CheckpointError where config.json describes another model than the weights: transformers would go by config.json."""
    config = source.config
    stated = {"hidden_size": width, "num_hidden_layers": blocks, "qkv_bias": qkv_bias, "patch_size": patch}
    if not dinov2:
        stated["intermediate_size"] = hidden
    for key, held in stated.items():
        said = config.get(key)
        if said is not None and said not in (held, [held, held]):
            msg = (
                f"{source.keys.origin}: config.json says {key} {said!r}, the weights say {held!r}. Is it of other weights? "
                "Put the right one beside these."
            )
            raise CheckpointError(msg)
