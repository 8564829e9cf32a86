"""Layers of a compiled model grouped by what they are of a ViT: block, and part of the block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.engine.profiling import LayerTime

PARTS = ("embed", "norm", "qkv", "attention", "proj", "fc1", "activation", "fc2", "residual", "merge", "head", "other")
"""In the order a frame meets them."""
_NAMED = re.compile(r"(?:blocks\.(\d+)/)?(embed|norm|qkv|attention|proj|fc1|act|fc2|residual|kept|merge|head|logits)")
_KINDS = {"MVN": "norm", "LayerNormalization": "norm", "BiasGelu": "activation", "Gelu": "activation"}
_PARTS = {"act": "activation", "kept": "residual", "logits": "head"}


@dataclass(frozen=True, kw_only=True)
class PartTime:
    """All layers of one part of one block."""

    block: int | None
    """None before the first block and after the last."""
    part: str
    """One of `PARTS`."""
    milliseconds: float


def part_times(layers: Sequence[LayerTime]) -> list[PartTime]:
    """``layers``, in the order they run, summed by block and part, in that order.

    Engines rename what they fuse. A layer of unknown name belongs to the part that its kind gives away, else to the part
    of the named layer before it; LayerNorms belong to the block of the next named layer.
    """
    found: dict[tuple[int | None, str], float] = {}
    places = [_place(layer.name) for layer in layers]
    for i, layer in enumerate(layers):
        before = next((place for place in reversed(places[: i + 1]) if place), None)
        after = next((place for place in places[i:] if place), None)
        kind = None if places[i] else _KINDS.get(layer.kind)
        near = after if kind == "norm" else before
        block, part = near or (None, "other")
        key = (block, kind or part)
        found[key] = found.get(key, 0.0) + layer.milliseconds
    return [PartTime(block=block, part=part, milliseconds=time) for (block, part), time in sorted(found.items(), key=_order)]


def by_part(times: Sequence[PartTime]) -> dict[str, float]:
    """Milliseconds of each part over all blocks, in the order of `PARTS`."""
    return {part: total for part in PARTS if (total := sum(time.milliseconds for time in times if time.part == part))}


def _place(name: str) -> tuple[int | None, str] | None:
    match = _NAMED.match(name)
    if match is None:
        return None
    block, part = match[1], match[2]
    if name.startswith("head"):
        part = "head"
    return (None if block is None else int(block)), _PARTS.get(part, part)


def _order(item: tuple[tuple[int | None, str], float]) -> tuple[int, int, int]:
    (block, part), _ = item
    stage = 2 if part == "head" else 0 if block is None else 1
    return stage, block or 0, PARTS.index(part)
