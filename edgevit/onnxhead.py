"""Another head in a graph that edgevit wrote, at its bytes: a device has no onnx package. Everything else stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgevit.files.protobuf import WireField, fields, message, varint
from edgevit.onnxfile import (
    FLOAT,
    GRAPH_INITIALIZER,
    GRAPH_OUTPUT,
    HEAD_BIAS,
    HEAD_WEIGHT,
    OUTPUT,
    TENSOR_RAW,
    Content,
    with_graph,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DIMS, _TYPE, _NAME = 1, 2, 8  # of TensorProto
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1  # of ValueInfoProto and what is in it


def with_head(model: Content, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """``model``, ONNX, with a head of ``weight`` [classes, features] and ``bias`` [classes]; its output has as many classes.

    Raises ValueError if its own is not float32 over as many features.
    """
    classes, features = weight.shape
    wanted = {HEAD_WEIGHT: ((features, classes), weight.T), HEAD_BIAS: ((classes,), bias)}
    found = set[str]()

    def initializer(field: WireField) -> Iterator[Content]:
        items = list(fields(field.content))
        name = next((bytes(item.content).decode("utf-8", "replace") for item in items if item.number == _NAME), "")
        if name not in wanted:
            yield field.whole
            return
        shape, values = wanted[name]
        kind = next((item.value for item in items if item.number == _TYPE), 0)
        own = tuple(item.value for item in items if item.number == _DIMS)
        if kind != FLOAT or len(own) != len(shape) or (name == HEAD_WEIGHT and own[0] != features):
            msg = f"{name} is {list(own)} of type {kind}; expected float32 over {features} features"
            raise ValueError(msg)
        found.add(name)
        dims = b"".join(varint(_DIMS, size) for size in shape)
        raw = values.astype("<f4").tobytes()  # row-major, also of what is transposed
        yield message(GRAPH_INITIALIZER, dims + varint(_TYPE, FLOAT) + message(_NAME, name.encode()) + message(TENSOR_RAW, raw))

    def output(field: WireField) -> Iterator[Content]:
        if not any(item.number == _VALUE_NAME and item.content == OUTPUT.encode() for item in fields(field.content)):
            yield field.whole  # features, which stay
            return
        shape = message(_DIM, message(2, b"N")) if not _batch(field) else message(_DIM, varint(_DIM_VALUE, _batch(field)))
        shape += message(_DIM, varint(_DIM_VALUE, classes))
        tensor = varint(1, FLOAT) + message(_SHAPE, shape)
        yield message(GRAPH_OUTPUT, message(_VALUE_NAME, OUTPUT.encode()) + message(_VALUE_TYPE, message(_TENSOR_TYPE, tensor)))

    changed = with_graph(model, {GRAPH_INITIALIZER: initializer, GRAPH_OUTPUT: output})
    if found != set(wanted):
        msg = f"it holds no {', '.join(sorted(set(wanted) - found))}"
        raise ValueError(msg)
    return changed


def _batch(output: WireField) -> int:
    """Images that the graph is made for; 0 if any number."""
    content: Content = output.content
    for number in (_VALUE_TYPE, _TENSOR_TYPE, _SHAPE, _DIM):
        content = next((item.content for item in fields(content) if item.number == number), memoryview(b""))
    return next((item.value for item in fields(content) if item.number == _DIM_VALUE), 0)
