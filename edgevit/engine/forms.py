"""What a device may make of a bundle's TensorRT graph: forms to choose from by time, and more careful ones where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgevit.engine.onnx_nodes import nodes_of
from edgevit.engine.rewrite import float_attention, float_block, in_fp32, int8_attention


@dataclass(frozen=True, kw_only=True)
class GraphForm:
    """One way to write a bundle's graph."""

    name: str
    """For people."""
    model: bytes
    """ONNX."""


def equal_forms(model: bytes) -> list[GraphForm]:
    """Those of ``model``, ONNX, that are equally right, the one it was built in first: which is fastest, only the device tells.

    Where there is INT8 attention, FP16's is a second: older TensorRT versions may fuse that only. What is no ONNX model is left
    to TensorRT to refuse.
    """
    try:
        found = int8_attention(model)
    except (ValueError, IndexError):
        found = ()
    if not found:
        return [GraphForm(name="as built", model=model)]
    return [GraphForm(name="INT8 attention", model=model), GraphForm(name="FP16 attention", model=float_attention(model))]


def careful_forms(model: bytes, place: str | None) -> Iterator[GraphForm]:
    """More and more careful ones of ``model``, ONNX in FP16 or INT8, for a device that computes it wrongly, slower each.

    ``place`` is where it first goes wrong, such as ``blocks.3``. Attention is in FP16 in all: INT8's is given up first
    (`equal_forms`). Each does what the one before does, too.
    """
    made, names = float_attention(model), ["FP16 attention"] if int8_attention(model) else []
    for op, name in (("Softmax", "softmax in FP32"), ("LayerNormalization", "norms in FP32")):
        made = in_fp32(made, op)
        names.append(name)
        yield GraphForm(name=", ".join(names), model=made)
    if place and place.startswith("blocks."):
        less = float_block(made, place)
        if len(nodes_of(less)) < len(nodes_of(made)):
            yield GraphForm(name=", ".join([*names, f"{place} in FP16"]), model=less)
