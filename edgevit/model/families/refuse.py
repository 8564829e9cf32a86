"""Models that are no plain ViT, told by the key that gives them away, so that nobody gets silently wrong results."""

from __future__ import annotations

import re
from typing import NoReturn

from edgevit.errors import CheckpointError
from edgevit.model.families.keys import Keys

PLAIN = "edgevit imports ViTs of timm, Hugging Face, OpenCLIP, torchvision and DINOv2 (docs/checkpoints.md)."

# Pattern over keys, and what a model with such a key is. Asked in this order.
TELLTALES = (
    (r"lora_[AB]|lora_(down|up)", "a LoRA adapter; merge it into its model first (merge_and_unload) and save that"),
    (
        r"^(visual|vision_model|text_model|logit_scale|image_encoder)\b|resblocks\.",
        "a CLIP of another kind than edgevit imports, a text tower or a SAM model",
    ),
    (r"^(prompt_encoder|mask_decoder)\.|\.(prompt_encoder|mask_decoder)\.", "a SAM model"),
    (r"^(decoder_|decoder\.)", "a masked autoencoder or another encoder-decoder, not a classifier"),
    (r"^swin|^layers\.\d+\.blocks\.\d+\.|(downsample|window).*reduction", "a Swin Transformer"),
    (
        r"relative_position_bias_table|relative_position_bias\.|\.q_bias$|\.gamma_[12]$|lambda_[12]$",
        "a BEiT, with relative position bias",
    ),
    (r"inner_attn_ln|\brope|rope_embed|storage_tokens", "an EVA-02, DINOv3 or another ViT with rotary positions"),
    (r"mlp\.(w1_g|w1|gate_proj|up_proj)\b", "a ViT with gated MLPs (SwiGLU)"),
    (
        r"patch_embed\.(backbone|conv|net)\b|patch_embed\.norm\.bias$",
        "a hybrid, whose patch embedding is more than one convolution",
    ),
    (r"conv_dw|dwconv|stages\.\d+\.blocks", "a ConvNeXt, MaxViT or another hierarchical network"),
    (r"^layer\d\.\d+\.conv\d|^features\.\d|^conv1\.weight$", "a convolutional network such as ResNet"),
)


def refuse_known(keys: Keys) -> None:
    """Raise CheckpointError if a key gives away another kind of model."""
    for pattern, kind in TELLTALES:
        key = next((key for key in keys.all if re.search(pattern, key)), None)
        if key is not None:
            msg = f"{keys.origin}: the key {key!r} says this is {kind}. {PLAIN}"
            raise CheckpointError(msg)


def refuse_unknown(keys: Keys) -> NoReturn:
    """Raise CheckpointError: no family recognises these keys."""
    msg = f"{keys.origin}: not a ViT that edgevit knows; first keys: {', '.join(keys.all[:4])}. {PLAIN}"
    raise CheckpointError(msg)
