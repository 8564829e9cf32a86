"""An ONNX graph cut short: the same file with another end, made on its bytes, as a device has no onnx package."""

from __future__ import annotations

from edgevit.engine.onnx_nodes import cast, graph_of, with_graph
from edgevit.files.protobuf import fields, message, varint
from edgevit.onnxfile import FLOAT, GRAPH_NODE, GRAPH_OUTPUT

END = "edgevit_cut"
"""What the new output is called."""


def cut(model: bytes, tensor: str) -> bytes:
    """``model``, ONNX, ending at ``tensor``: its one output is that, as float32. Raises ValueError for no model."""
    kept = b"".join(part.whole for part in fields(graph_of(model)) if part.number != GRAPH_OUTPUT)
    end = message(GRAPH_NODE, cast(tensor, END, FLOAT).content)
    return with_graph(model, kept + end + message(GRAPH_OUTPUT, _value_info(END)))


def _value_info(name: str) -> bytes:
    """ValueInfoProto: a name and a float32 tensor of whatever shape (name = 1, type = 2, tensor_type = 1, elem_type = 1)."""
    return message(1, name.encode()) + message(2, message(1, varint(1, FLOAT)))
