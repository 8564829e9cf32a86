"""What a timm hub folder's ``config.json`` says about the model: honoured, or refused, never passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.errors import CheckpointError

ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "relu": "relu"}
EPS, CLIP_EPS = 1e-6, 1e-5

# Arguments that the keys and shapes of the weights settle, or that are read elsewhere.
_HONOURED = {
    "img_size", "patch_size", "in_chans", "num_classes", "global_pool", "embed_dim", "depth", "num_heads", "mlp_ratio",
    "qkv_bias", "proj_bias", "init_values", "class_token", "no_embed_class", "reg_tokens", "pre_norm", "final_norm", "fc_norm",
    "pos_embed", "qk_norm", "scale_attn_norm", "scale_mlp_norm",
    "pool_include_prefix", "act_layer", "norm_layer", "dynamic_img_size", "dynamic_img_pad", "strict_img_size",
}  # fmt: skip
# Arguments that only training sees.
_TRAINING = {
    "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate", "weight_init",
    "fix_init", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "cache_dir", "checkpoint_path",
    "scriptable", "exportable", "features_only", "device", "dtype",
}  # fmt: skip
# Arguments that make another model of it; these values do not.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "embed_norm_layer": (None, ""), "block_fn": (None, "Block"), "mlp_layer": (None, "Mlp"),
    "attn_layer": (None, "", "Attention"), "embed_layer": (None, "PatchEmbed"), "use_naflex": (None, False),
}  # fmt: skip
_LAYER_NORMS = ("layernorm", "layernormfp32")

# Entry points of timm 1.0 whose models are a plain `VisionTransformer`.
_KNOWN = re.compile(r"(test_)?(vit|deit3?|flexivit|eva_large_patch14|aimv2)_?\w*")
# Those among them that are not: norms after the residual branches, whose keys look like a plain model's; relative and rotary
# positions; hybrids; parallel, differential and normalised attention.
_OTHERS = re.compile(
    r"_rpn_|relpos|_rope_|_18x2_|_xp_|_dlittle|_dwee|_dpwee|_pwee|_r26|_r50|_r_|hybrid|dinov3|_pe_|_pe(core|lang|spatial)"
)
# SigLIP was trained with GELU's tanh form; timm keeps that in these alone.
_TANH = re.compile(r"vit_(base_patch32|giantopt_patch16|so400m_patch16)_siglip_|vit_large_patch16_siglip_(gap_)?512")


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """The parts of ``config.json``; all empty where there is none."""

    architecture: str
    args: Mapping[str, Any]
    """``model_args``: what the architecture was changed by."""
    pretrained: Mapping[str, Any]
    """``pretrained_cfg``: preprocessing, and what is the model's where the arguments are silent."""
    pooling: Any
    """``global_pool``; None if nothing is said."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TimmConfig:
        """Read ``config.json``, also in timm's older form without ``pretrained_cfg``."""
        pretrained = config.get("pretrained_cfg")
        if not isinstance(pretrained, dict):
            pretrained = config if "architecture" in config else {}
        args = config.get("model_args")
        args = args if isinstance(args, dict) else {}
        said = [place["global_pool"] for place in (args, config, pretrained) if place.get("global_pool") is not None]
        architecture = config.get("architecture") or pretrained.get("architecture") or ""
        return cls(architecture=str(architecture), args=args, pretrained=pretrained, pooling=said[0] if said else None)

    @property
    def image_size(self) -> Any:
        """The size that the weights have positions for, a number or a pair; None if nothing is said."""
        size = self.args.get("img_size")
        return size if size is not None else (self.input_size if self.pretrained.get("input_size") else None)

    @property
    def input_size(self) -> Any:
        """The size that timm's own pipeline feeds: the arguments' where the model's is fixed, else the recommended one."""
        size, own = self.pretrained.get("input_size"), self.args.get("img_size")
        if own is not None and (size is None or not self.args.get("dynamic_img_size")):
            return own
        return list(size)[1:] if isinstance(size, list | tuple) and len(size) == 3 else size

    def activation(self) -> str | None:
        """By name in `VitConfig`'s terms, None without a config. The architecture implies it where no argument says it."""
        if not self.architecture:
            return None
        if (stated := self.args.get("act_layer")) is not None:
            return ACTIVATIONS.get(str(stated).lower(), str(stated))
        if "quickgelu" in self.architecture:
            return "quick_gelu"
        return "gelu_tanh" if _TANH.match(self.architecture) else "gelu"

    def norm_eps(self) -> float | None:
        """LayerNorm's epsilon, None without a config: timm's own LayerNorm has 1e-6, its CLIP models ask for 1e-5."""
        if not self.architecture:
            return None
        return CLIP_EPS if "clip" in self.architecture and self.args.get("norm_layer") is None else EPS

    def check(self, origin: object) -> list[str]:
        """Notes on what may be other than it seems. Raises CheckpointError for what edgevit cannot follow."""
        if _OTHERS.search(self.architecture):
            msg = f"{origin}: config.json says {self.architecture!r}, no plain ViT (other norms, positions or attention)."
            raise CheckpointError(msg)
        norm = str(self.args.get("norm_layer") or "layernorm").replace("_", "").lower()
        if norm not in _LAYER_NORMS:
            msg = f"{origin}: config.json asks for the norm {norm!r}; edgevit knows LayerNorm."
            raise CheckpointError(msg)
        for key, value in self.args.items():
            plain = _PLAIN.get(key)
            if plain is not None and value not in plain:
                msg = f"{origin}: config.json sets {key} to {value!r}, which makes another model than a plain ViT of it."
                raise CheckpointError(msg)
            if plain is None and key not in _HONOURED | _TRAINING:
                msg = f"{origin}: config.json sets {key!r} (to {value!r}), unknown to edgevit, so the results might differ."
                raise CheckpointError(msg)
        if self.architecture and not _KNOWN.fullmatch(self.architecture):
            return [f"architecture: {self.architecture!r} is not known here; read by its keys as a plain ViT"]
        return []
