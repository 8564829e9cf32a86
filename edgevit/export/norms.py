"""Norms over the last axis: LayerNormalization is one node; RMSNorm has none in the opsets that devices read."""

from __future__ import annotations

from edgevit.export.nodes import Nodes, element_type
from edgevit.model.folded import Norm
from edgevit.numberformat import FP32

RMS = "RMSNormalization"
"""What RMSNorm's result ends in: the name that the node has where opset 23 is read."""


def write_norm(nodes: Nodes, x: str, norm: Norm, name: str) -> str:
    """``x`` [..., width] behind ``norm``."""
    if norm.centred:
        weight, bias = nodes.constant(f"{name}/weight", norm.weight), nodes.constant(f"{name}/bias", norm.bias)
        return nodes.node("LayerNormalization", name, x, weight, bias, axis=-1, epsilon=norm.eps)
    # In FP32: FP16 ends at the square of 256.
    half = nodes.format != FP32
    wide = nodes.node("Cast", f"{name}/wide", x, to=element_type(FP32)) if half else x
    square = nodes.node("ReduceMean", name, nodes.node("Mul", f"{name}/square", wide, wide),
                        nodes.constant("index/axes_last", [-1]), keepdims=1)  # fmt: skip
    root = nodes.node("Sqrt", name, nodes.node("Add", f"{name}/eps", square, nodes.constant(f"{name}/eps", norm.eps, FP32)))
    x = nodes.node("Div", name, wide, root)
    if half:
        x = nodes.node("Cast", name, x, to=element_type(nodes.format))
    biased = bool(norm.bias.any())
    weight = nodes.constant(f"{name}/weight", norm.weight)
    if not biased:
        return nodes.node_with("Mul", name, (f"{name}/{RMS}",), x, weight)[0]
    scaled = nodes.node("Mul", name, x, weight)
    return nodes.node_with("Add", name, (f"{name}/{RMS}",), scaled, nodes.constant(f"{name}/bias", norm.bias))[0]
