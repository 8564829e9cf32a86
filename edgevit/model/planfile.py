"""A `QuantPlan` as bytes (safetensors), so that a build can keep it and go on later.

Of GEMMs there are the biases and what scales their weights; the weights themselves are those of the model that was quantized.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from edgevit.model.folded import Factors, FoldedBlock, FoldedVit, Linear, Norm
from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear, QuantPlan
from edgevit.numberformat import FORMATS, NumberFormat
from edgevit.part import LINEARS, Part

OPTIONAL = ("multiplier", "offset")
AXES = ("rows", "columns")
STEPS = ("query_step", "key_step", "value_step", "probability_step")


def dump_plan(plan: QuantPlan) -> bytes:
    """Everything that quantization changed: the blocks' norms, biases and factors, and the quantized GEMMs."""
    state: dict[str, Tensor] = {}
    for i, block in enumerate(plan.model.blocks):
        for kind in LINEARS:
            linear: Linear = getattr(block, kind)
            state[f"blocks.{i}.{kind}.bias"] = linear.bias
            for number, factors in enumerate(linear.factors):
                state[f"blocks.{i}.{kind}.{'rows' if factors.rows else 'columns'}.{number}"] = factors.values
        norms: dict[str, Norm | None] = {"norm1": block.norm1, "norm2": block.norm2}
        for kind, norm in norms.items():
            if norm is not None:
                state |= {f"blocks.{i}.{kind}.weight": norm.weight, f"blocks.{i}.{kind}.bias": norm.bias}
    for part, quantized in plan.linears.items():
        name = f"{quantized.format.name}.{part}"
        state |= {
            f"{name}.weight": quantized.weight,
            f"{name}.weight_scale": quantized.weight_scale,
            f"{name}.input_scale": torch.tensor(quantized.input_scale, dtype=torch.float32),
            f"{name}.bias": quantized.bias,
        }
        state |= {f"{name}.{key}": value for key in OPTIONAL if (value := getattr(quantized, key)) is not None}
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
    for kind in ("norm1", "norm2"):
        if f"{name}.{kind}.weight" in state:
            parts[kind] = replace(getattr(block, kind), weight=state[f"{name}.{kind}.weight"], bias=state[f"{name}.{kind}.bias"])
    for kind in LINEARS:
        bias, factors = state[f"{name}.{kind}.bias"], _factors(f"{name}.{kind}", state)
        parts[kind] = replace(getattr(block, kind), bias=bias, factors=factors)
    return replace(block, **parts)


def _factors(name: str, state: dict[str, Tensor]) -> tuple[Factors, ...]:
    found = list[Factors]()
    while key := next((f"{name}.{axis}.{len(found)}" for axis in AXES if f"{name}.{axis}.{len(found)}" in state), None):
        found.append(Factors(state[key], rows=".rows." in key))
    return tuple(found)


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
