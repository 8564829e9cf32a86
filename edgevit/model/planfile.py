"""A `QuantPlan` as bytes (safetensors), so that a build can keep it and go on later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, Norm
from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear, QuantPlan
from edgevit.numberformat import FORMATS, NumberFormat
from edgevit.part import LINEARS, Part

OPTIONAL = ("multiplier", "offset")
STEPS = ("query_step", "key_step", "value_step", "probability_step")


def dump_plan(plan: QuantPlan) -> bytes:
    """Everything that quantization changed: the blocks' norms and GEMMs, and the quantized GEMMs."""
    state: dict[str, Tensor] = {}
    for i, block in enumerate(plan.model.blocks):
        for kind in (*LINEARS, "norm1", "norm2"):
            layer: Linear | Norm | None = getattr(block, kind)
            if layer is not None:
                state |= {f"blocks.{i}.{kind}.weight": layer.weight, f"blocks.{i}.{kind}.bias": layer.bias}
    for part, linear in plan.linears.items():
        name = f"{linear.format.name}.{part}"
        state |= {
            f"{name}.weight": linear.weight,
            f"{name}.weight_scale": linear.weight_scale,
            f"{name}.input_scale": torch.tensor(linear.input_scale, dtype=torch.float32),
            f"{name}.bias": linear.bias,
        }
        state |= {f"{name}.{key}": value for key in OPTIONAL if (value := getattr(linear, key)) is not None}
    for part, steps in plan.attention.items():
        state[f"{steps.format.name}.{part}"] = torch.tensor(
            [step for key in STEPS if (step := getattr(steps, key)) is not None], dtype=torch.float32
        )
    return save({key: value.contiguous() for key, value in state.items()})


def load_plan(data: bytes, model: FoldedVit) -> QuantPlan:
    """Inverse of `dump_plan`; ``model`` is the folded ViT that was quantized."""
    state = load(data)
    blocks = [_block(block, f"blocks.{i}", state) for i, block in enumerate(model.blocks)]
    places = [(Part(i, kind), to) for i in range(len(blocks)) for kind in Part.KINDS for to in FORMATS.values()]
    linears = {part: _quantized(part, to, state) for part, to in places if f"{to.name}.{part}.weight" in state}
    attention = {part: _attention(part, to, state) for part, to in places if f"{to.name}.{part}" in state}
    return QuantPlan(model=replace(model, blocks=blocks), linears=linears, attention=attention)


def _block(block: FoldedBlock, name: str, state: dict[str, Tensor]) -> FoldedBlock:
    parts: dict[str, Any] = {}
    for kind in (*LINEARS, "norm1", "norm2"):
        if f"{name}.{kind}.weight" in state:
            weights = {"weight": state[f"{name}.{kind}.weight"], "bias": state[f"{name}.{kind}.bias"]}
            parts[kind] = replace(getattr(block, kind), **weights)
    return replace(block, **parts)


def _quantized(part: Part, to: NumberFormat, state: dict[str, Tensor]) -> QuantizedLinear:
    name = f"{to.name}.{part}"
    return QuantizedLinear(
        weight=state[f"{name}.weight"],
        weight_scale=state[f"{name}.weight_scale"],
        input_scale=float(state[f"{name}.input_scale"]),
        bias=state[f"{name}.bias"],
        format=to,
        **{key: state.get(f"{name}.{key}") for key in OPTIONAL},
    )


def _attention(part: Part, to: NumberFormat, state: dict[str, Tensor]) -> QuantizedAttention:
    steps = state[f"{to.name}.{part}"].tolist()
    return QuantizedAttention(format=to, **dict(zip(STEPS, steps, strict=False)))
