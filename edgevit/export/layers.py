"""The GEMMs of a written graph, as it has them: precision, scales, multiply-accumulates, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from edgevit.export.nodes import element_type
from edgevit.export.parsing import parsed, walking
from edgevit.numberformat import FORMATS, FP32


@dataclass(frozen=True, kw_only=True)
class GraphLayer:
    """One matrix product."""

    name: str
    """``blocks.3/fc1``, or ``blocks.3/attention/scores`` and ``.../mix`` for the two of attention."""
    precision: str
    """``int8``, ``fp32`` or ``fp16``."""
    input_scale: float | None
    """Step of its first input; None in floating point."""
    weight_scale: tuple[float, float] | None
    """Smallest and largest step of its weights, over output channels; None in floating point and without weights."""
    macs: int
    """Multiply-accumulates of one image."""
    weight_bytes: int
    """0 where both inputs are computed."""


def graph_layers(model: bytes) -> list[GraphLayer]:
    """Every matrix product of an ONNX graph that edgevit wrote, in network order, for one image.

    Raises EngineError for a graph that edgevit did not write.
    """
    with walking():
        return _layers(parsed(model))


def _layers(proto: onnx.ModelProto) -> list[GraphLayer]:
    for item in proto.graph.input:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    for item in proto.graph.output:
        item.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(proto, data_prop=True).graph
    constants = {item.name: item for item in graph.initializer}
    shapes = {item.name: _shape(item) for item in (*graph.value_info, *graph.output, *graph.input)}
    makers = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        (_, first_scale), (second, second_scale) = (_source(name, makers, constants) for name in node.input)
        weight = constants.get(second)
        depth = weight.dims[0] if weight is not None else shapes.get(node.input[0], (0,))[-1]
        quantized = first_scale is not None and second_scale is not None
        found.append(
            GraphLayer(
                name=node.name.removesuffix("/MatMul"),
                precision=_stored(node.input[1], makers, constants) if quantized else _dtype(weight, graph),
                input_scale=float(first_scale.max()) if quantized and first_scale is not None else None,
                weight_scale=(float(second_scale.min()), float(second_scale.max()))
                if quantized and second_scale is not None and weight is not None
                else None,
                macs=prod(shapes.get(node.output[0], (0,))) * depth,
                weight_bytes=0 if weight is None else len(numpy_helper.to_array(weight).tobytes()),
            )
        )
    return found


def _source(
    name: str, makers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]
) -> tuple[str, np.ndarray | None]:
    """The tensor behind a DequantizeLinear on ``name`` with its steps, through a transposition; ``name`` itself without one."""
    node = makers.get(name)
    if node is not None and node.op_type == "Transpose":
        return _source(node.input[0], makers, constants)
    if node is None or node.op_type != "DequantizeLinear":
        return name, None
    return node.input[0], numpy_helper.to_array(constants[node.input[1]]).astype(np.float32)


def _dtype(weight: onnx.TensorProto | None, graph: onnx.GraphProto) -> str:
    """Of a product in floating point: its weight's, without one that of the graph's first node, which casts the frames."""
    kind: int = (
        weight.data_type if weight is not None else next(node for node in graph.node if node.op_type == "Cast").attribute[0].i
    )
    return _named(kind)


def _stored(name: str, makers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> str:
    """The format of the codes behind `_source`: that of their zero point."""
    node = makers[name]
    return (
        _stored(node.input[0], makers, constants) if node.op_type == "Transpose" else _named(constants[node.input[2]].data_type)
    )


def _named(kind: int) -> str:
    """The format that ONNX's element type ``kind`` stores."""
    return next((item.name for item in FORMATS.values() if element_type(item) == kind), FP32.name)


def _shape(item: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The sizes; a free one counts as 1."""
    return tuple(dim.dim_value or 1 for dim in item.type.tensor_type.shape.dim)
