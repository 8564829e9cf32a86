"""A graph and its tensors put together as bytes: whole models in protobuf's own objects would lie in memory five times over."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from edgevit.files.protobuf import fields, header, message
from edgevit.onnxfile import GRAPH_INITIALIZER, MODEL_GRAPH


def with_tensors(model: onnx.ModelProto, tensors: dict[str, onnx.TensorProto]) -> bytes:
    """``model`` with ``tensors`` as initializers of its graph, serialized as `onnx` does; ``tensors`` is used up.

    Fields stand in the order of their numbers, so the bytes are those of one message. The graph must have no initializers.
    """
    whole = list(fields(model.SerializeToString(deterministic=True)))
    graph = list(fields(next(field.content for field in whole if field.number == MODEL_GRAPH)))
    parts = [bytes(field.whole) for field in graph if field.number < GRAPH_INITIALIZER]
    parts += _serialized(tensors)
    parts += [bytes(field.whole) for field in graph if field.number > GRAPH_INITIALIZER]
    parts = [
        *(bytes(field.whole) for field in whole if field.number < MODEL_GRAPH),
        header(MODEL_GRAPH, sum(map(len, parts))),
        *parts,
        *(bytes(field.whole) for field in whole if field.number > MODEL_GRAPH),
    ]
    return b"".join(parts)


def _serialized(tensors: dict[str, onnx.TensorProto]) -> Iterator[bytes]:
    """Each of ``tensors`` as a field of the graph, and gone from there."""
    for name in list(tensors):
        yield message(GRAPH_INITIALIZER, tensors.pop(name).SerializeToString(deterministic=True))
