"""What the rotary positions of timm's Eva models are: by the name of the architecture, its arguments, or its keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model.families.source import WeightSource, as_size
from edgevit.model.families.timm_config import TimmConfig
from edgevit.model.rotary import axial
from edgevit.vitconfig import Rotary

# Arguments of timm's entry points, by what their names have in common, asked in this order.
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"dinov3|lingbot", {"rope_type": "dinov3", "rope_temperature": 100.0, "rope_rotate_half": True}),
    (r"_rope_mixed_", {"rope_type": "mixed", "rope_grid_indexing": "xy"}),
    (r"_rope_reg\d", {"ref_feat_shape": 16}),
    (r"_rope_", {"rope_temperature": 100.0, "rope_grid_indexing": "xy"}),
    (r"eva02_", {"ref_feat_shape": 16}),
    (r"_pe_core_base", {"ref_feat_shape": 14, "rope_grid_indexing": "xy", "rope_grid_offset": 1.0}),
    (r"_pe_core_(tiny|small|large)", {"ref_feat_shape": 24, "rope_grid_indexing": "xy", "rope_grid_offset": 1.0}),
    (r"_pe_\w+_gigantic", {"ref_feat_shape": 32, "rope_grid_indexing": "xy"}),
    (r"_pe_", {"ref_feat_shape": 32, "rope_grid_indexing": "xy", "rope_grid_offset": 1.0}),
)
# Where no name is told: what keys show, and the name whose arguments those are.
SHOWN: tuple[tuple[str, str], ...] = (
    (r"^rope\.freqs$", "vit_small_patch16_rope_mixed_224"),
    (r"^blocks\.0\.attn\.q_proj\.weight$|^blocks\.0\.mlp\.norm\.weight$", "eva02_base_patch14_224"),
)


@dataclass(frozen=True, kw_only=True)
class Turning:
    """How queries and keys are turned."""

    rotary: Rotary
    temperature: float
    columns_first: bool
    """Whether the first of the two frequencies, or the first quarter of channels, is that of columns (``xy``)."""
    halves: bool
    """Whether pairs are channels half a head apart; else they are neighbours."""
    frequencies: Tensor | None
    """Learnt ones [2, blocks, heads, head_dim / 2]."""

    @property
    def centred(self) -> bool:
        """Whether coordinates are DINOv3's."""
        return self.rotary.coordinates == "centred"

    def axial(self, head_dim: int) -> Tensor:
        """Frequencies float32 [1, 2, head_dim / 2]: a quarter of the channels' pairs for each direction."""
        quarter = head_dim // 4
        bands = self.temperature ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
        return axial(2 * math.pi * bands if self.centred else bands, columns_first=self.columns_first)


def turning_of(source: WeightSource, settings: TimmConfig) -> Turning | None:
    """What an Eva's weights and settings say; None without rotary positions. Raises CheckpointError if nothing tells."""
    name = settings.architecture or _shown(source)
    told: Mapping[str, Any] = next((kind for pattern, kind in KINDS if re.search(pattern, name)), {})
    args = {**told, **{key: value for key, value in settings.args.items() if key.startswith("rope_") or key == "ref_feat_shape"}}
    if not settings.args.get("use_rot_pos_emb", bool(told)):
        return None
    kind, origin = args.get("rope_type", "cat"), source.keys.origin
    if kind not in ("cat", "mixed", "dinov3"):
        msg = f"{origin}: config.json asks for rotary positions of the type {kind!r}; edgevit knows cat, mixed and dinov3."
        raise CheckpointError(msg)
    learnt = source.keys.find("rope.freqs", 2, None, None, None) if kind == "mixed" else None
    rotary = Rotary(
        coordinates="centred" if kind == "dinov3" else "index",
        offset=float(args.get("rope_grid_offset", 0.0)) if kind != "mixed" else 0.0,
        reference=as_size(args.get("ref_feat_shape"), origin) if kind == "cat" else None,
        by_head=kind == "mixed",
    )
    return Turning(
        rotary=rotary,
        temperature=float(args.get("rope_temperature", 10000.0)),
        columns_first=args.get("rope_grid_indexing", "ij") == "xy",
        halves=bool(args.get("rope_rotate_half", False)),
        frequencies=learnt,
    )


def _shown(source: WeightSource) -> str:
    """The name of a model with such keys, where ``config.json`` tells none."""
    keys = source.keys
    for pattern, name in SHOWN:
        if any(re.search(pattern, key) for key in keys.all):
            return _noted(source, name)
    fused = keys.shape("blocks.0.mlp.fc1.weight")[0] if "blocks.0.mlp.fc1.weight" in keys else 0
    if fused and fused == 2 * keys.shape("blocks.0.mlp.fc2.weight")[1]:
        return _noted(source, "eva02_tiny_patch14_224")
    if "pos_embed" not in keys.all and any(key == "reg_token" for key in keys.all):
        return _noted(source, "vit_small_patch16_dinov3" if "cls_token" in keys.all else "vit_medium_patch16_rope_reg1_gap_256")
    if "pos_embed" not in keys.all:
        return _noted(source, "vit_small_patch16_rope_224")
    msg = (
        f"{keys.origin}: the keys do not tell whether this timm Eva model has rotary positions. Give the hub folder, whose "
        "config.json names the architecture."
    )
    raise CheckpointError(msg)


def _noted(source: WeightSource, name: str) -> str:
    source.notes.append(f"rotary positions: assumed those of {name} from the keys; a hub folder's config.json tells")
    return name
