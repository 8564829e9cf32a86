"""An ONNX graph cut short: the same file with another end, made on its bytes, as a device has no onnx package.

The fields of the model and the graph are copied as they are, but for the graph's outputs: instead of them comes one, a tensor
inside, cast to float32.
"""

from __future__ import annotations

from edgevit.onnxfile import (
    ATTRIBUTE_INT,
    ATTRIBUTE_NAME,
    ATTRIBUTE_TYPE,
    FLOAT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    INT,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_NAME,
    NODE_OP,
    NODE_OUTPUT,
)  # fmt: skip
from edgevit.protobuf import fields, message, varint

END = "edgevit_cut"
"""What the new output is called."""


def cut(model: bytes, tensor: str) -> bytes:
    """``model``, ONNX, ending at ``tensor``: its one output is that, as float32. Raises ValueError for no model."""
    parts = list(fields(model))
    graph = b"".join(part.content for part in parts if part.number == MODEL_GRAPH)
    if not graph:
        msg = "not an ONNX model: it has no graph"
        raise ValueError(msg)
    kept = b"".join(part.whole for part in fields(graph) if part.number != GRAPH_OUTPUT)
    ended = kept + message(GRAPH_NODE, _cast(tensor)) + message(GRAPH_OUTPUT, _value_info(END))
    others = b"".join(part.whole for part in parts if part.number != MODEL_GRAPH)
    return others + message(MODEL_GRAPH, ended)


def _cast(tensor: str) -> bytes:
    to = message(ATTRIBUTE_NAME, b"to") + varint(ATTRIBUTE_INT, FLOAT) + varint(ATTRIBUTE_TYPE, INT)
    texts = ((NODE_INPUT, tensor), (NODE_OUTPUT, END), (NODE_NAME, END), (NODE_OP, "Cast"))
    return b"".join(message(field, text.encode()) for field, text in texts) + message(NODE_ATTRIBUTE, to)


def _value_info(name: str) -> bytes:
    """ValueInfoProto: a name and a float32 tensor of whatever shape (name = 1, type = 2, tensor_type = 1, elem_type = 1)."""
    return message(1, name.encode()) + message(2, message(1, varint(1, FLOAT)))
