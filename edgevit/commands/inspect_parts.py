"""A bundle's graph, part by part of each block, with times where an engine tells them: `edgevit inspect --layers`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.bundle import MODEL, Bundle
from edgevit.engine.of_bundle import compiled_here, engines_in_order
from edgevit.engine.profiling import layer_times
from edgevit.engines import traits_of
from edgevit.errors import needs_extra
from edgevit.measure.parts import PARTS, part_times

if TYPE_CHECKING:
    from edgevit.export.layers import GraphLayer

RUNS = 10  # inferences under the profiler


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of one block."""

    block: int | None
    """None before the first block and after the last."""
    part: str
    """One of `edgevit.measure.parts.PARTS`."""
    precision: str
    """Of its products, such as ``int8`` or ``int8+fp32``; empty where it has none."""
    input_scale: float | None
    """Step of its first product's input; None in floating point."""
    weight_scale: tuple[float, float] | None
    """Smallest and largest step of its weights."""
    macs: int
    """Multiply-accumulates of one image."""
    weight_bytes: int
    milliseconds: float | None
    """Median over `RUNS` inferences of a black image; None where nothing was timed."""


def parts_of(bundle: Bundle, engine: str | None, *, threads: int | None) -> list[Part]:
    """Every part of every block of ``bundle``, in network order.

    Timed on ``engine``, or on the bundle's own if that runs here. Raises MissingPackageError without onnx.
    """
    with needs_extra("build"):
        from edgevit.export.layers import graph_layers
    model = bundle.read(MODEL)
    groups: dict[tuple[int | None, str], list[GraphLayer]] = {}
    for layer in graph_layers(model):
        head, _, rest = layer.name.partition("/")
        block = int(head.removeprefix("blocks.")) if head.startswith("blocks.") else None
        groups.setdefault((block, rest.partition("/")[0] if block is not None else head), []).append(layer)
    times: dict[tuple[int | None, str], float] = {}
    name = engine or engines_in_order(bundle.manifest.engine)[0]
    own = compiled_here(bundle) if name == bundle.manifest.engine else None
    if engine or own or not traits_of(name).ahead_of_time:
        black = np.zeros((1, *bundle.manifest.preprocessing.size, 3), np.uint8)
        found = part_times(layer_times(name, model, black, threads=threads, runs=RUNS, compiled=own))
        times = {(item.block, item.part): item.milliseconds for item in found}
    return [_part(key, groups.get(key, []), times.get(key)) for key in sorted({*groups, *times}, key=_order)]


def _part(key: tuple[int | None, str], layers: list[GraphLayer], milliseconds: float | None) -> Part:
    steps = [layer.weight_scale for layer in layers if layer.weight_scale is not None]
    return Part(
        block=key[0],
        part=key[1],
        precision="+".join(dict.fromkeys(layer.precision for layer in layers)),
        input_scale=next((layer.input_scale for layer in layers if layer.input_scale is not None), None),
        weight_scale=(min(low for low, _ in steps), max(high for _, high in steps)) if steps else None,
        macs=sum(layer.macs for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        milliseconds=milliseconds,
    )


def _order(key: tuple[int | None, str]) -> tuple[int, int, int]:
    block, part = key
    return 2 if part == "head" else 0 if block is None else 1, block or 0, PARTS.index(part)
