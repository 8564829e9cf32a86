"""An ONNX graph cut short: the same file with another end, made on its bytes, as a device has no onnx package.

The fields of the model and the graph are copied as they are, but for the graph's outputs: instead of them comes one, a tensor
inside, cast to float32.
"""

from __future__ import annotations

from edgevit.engine.protobuf import fields, message, number

# Field numbers of onnx.proto (onnx/onnx, IR version 3 on).
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_OUTPUT = 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TYPE = 1, 3, 20
_INT = 2  # AttributeProto.INT
_FLOAT = 1  # TensorProto.FLOAT
END = "edgevit_cut"
"""What the new output is called."""


def cut(model: bytes, tensor: str) -> bytes:
    """``model``, ONNX, ending at ``tensor``: its one output is that, as float32. Raises ValueError for no model."""
    graph = b"".join(content for field, content, _ in fields(model) if field == _MODEL_GRAPH)
    if not graph:
        msg = "not an ONNX model: it has no graph"
        raise ValueError(msg)
    kept = b"".join(whole for field, _, whole in fields(graph) if field != _GRAPH_OUTPUT)
    ended = kept + message(_GRAPH_NODE, _cast(tensor)) + message(_GRAPH_OUTPUT, _value_info(END))
    others = b"".join(whole for field, _, whole in fields(model) if field != _MODEL_GRAPH)
    return others + message(_MODEL_GRAPH, ended)


def _cast(tensor: str) -> bytes:
    to = message(_ATTRIBUTE_NAME, b"to") + number(_ATTRIBUTE_INT, _FLOAT) + number(_ATTRIBUTE_TYPE, _INT)
    texts = ((_NODE_INPUT, tensor), (_NODE_OUTPUT, END), (_NODE_NAME, END), (_NODE_OP, "Cast"))
    return b"".join(message(field, text.encode()) for field, text in texts) + message(_NODE_ATTRIBUTE, to)


def _value_info(name: str) -> bytes:
    """ValueInfoProto: a name and a float32 tensor of whatever shape (name = 1, type = 2, tensor_type = 1, elem_type = 1)."""
    return message(1, name.encode()) + message(2, message(1, number(1, _FLOAT)))
