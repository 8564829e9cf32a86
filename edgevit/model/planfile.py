"""A `QuantPlan` as bytes (safetensors), so that a build can keep it and go on later."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, Norm
from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear, QuantPlan
from edgevit.part import LINEARS, Part

OPTIONAL = ("multiplier", "offset")


def dump_plan(plan: QuantPlan) -> bytes:
    """Everything that quantization changed: the blocks' norms and GEMMs, and the INT8 GEMMs."""
    state: dict[str, Tensor] = {}
    for i, block in enumerate(plan.model.blocks):
        for kind in (*LINEARS, "norm1", "norm2"):
            layer: Linear | Norm | None = getattr(block, kind)
            if layer is not None:
                state |= {f"blocks.{i}.{kind}.weight": layer.weight, f"blocks.{i}.{kind}.bias": layer.bias}
    for part, linear in plan.linears.items():
        state |= {
            f"int8.{part}.weight": linear.weight,
            f"int8.{part}.weight_scale": linear.weight_scale,
            f"int8.{part}.input_scale": torch.tensor(linear.input_scale, dtype=torch.float32),
            f"int8.{part}.bias": linear.bias,
        }
        state |= {f"int8.{part}.{key}": value for key in OPTIONAL if (value := getattr(linear, key)) is not None}
    for part, steps in plan.attention.items():
        state[f"steps.{part}"] = torch.tensor([step for step in astuple(steps) if step is not None], dtype=torch.float32)
    return save({key: value.contiguous() for key, value in state.items()})


def load_plan(data: bytes, model: FoldedVit) -> QuantPlan:
    """Inverse of `dump_plan`; ``model`` is the folded ViT that was quantized."""
    state = load(data)
    blocks = [_block(block, f"blocks.{i}", state) for i, block in enumerate(model.blocks)]
    parts = [Part(i, kind) for i in range(len(blocks)) for kind in Part.KINDS]
    linears = {part: _quantized(f"int8.{part}", state) for part in parts if f"int8.{part}.weight" in state}
    attention = {part: _attention(state[f"steps.{part}"].tolist()) for part in parts if f"steps.{part}" in state}
    return QuantPlan(model=replace(model, blocks=blocks), linears=linears, attention=attention)


def _block(block: FoldedBlock, name: str, state: dict[str, Tensor]) -> FoldedBlock:
    parts: dict[str, Any] = {}
    for kind in (*LINEARS, "norm1", "norm2"):
        if f"{name}.{kind}.weight" in state:
            weights = {"weight": state[f"{name}.{kind}.weight"], "bias": state[f"{name}.{kind}.bias"]}
            parts[kind] = replace(getattr(block, kind), **weights)
    return replace(block, **parts)


def _quantized(name: str, state: dict[str, Tensor]) -> QuantizedLinear:
    return QuantizedLinear(
        weight=state[f"{name}.weight"],
        weight_scale=state[f"{name}.weight_scale"],
        input_scale=float(state[f"{name}.input_scale"]),
        bias=state[f"{name}.bias"],
        **{key: state.get(f"{name}.{key}") for key in OPTIONAL},
    )


def _attention(steps: list[float]) -> QuantizedAttention:
    query, key, *rest = steps
    value, probability = rest or (None, None)
    return QuantizedAttention(query_step=query, key_step=key, value_step=value, probability_step=probability)
