"""An ONNX graph cut short: the same file with another end, made on its bytes, as a device has no onnx package.

A protobuf message is a sequence of fields. Those of the model and the graph are copied as they are, but for the graph's
outputs: instead of them comes one, a tensor inside, cast to float32 (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator

# Field numbers of onnx.proto (onnx/onnx, IR version 3 on).
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_OUTPUT = 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TYPE = 1, 3, 20
_INT = 2  # AttributeProto.INT
_FLOAT = 1  # TensorProto.FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
END = "edgevit_cut"
"""What the new output is called."""


def cut(model: bytes, tensor: str) -> bytes:
    """``model``, ONNX, ending at ``tensor``: its one output is that, as float32. Raises ValueError for no model."""
    graph = b"".join(content for field, content, _ in _fields(model) if field == _MODEL_GRAPH)
    if not graph:
        msg = "not an ONNX model: it has no graph"
        raise ValueError(msg)
    kept = b"".join(whole for field, _, whole in _fields(graph) if field != _GRAPH_OUTPUT)
    ended = kept + _message(_GRAPH_NODE, _cast(tensor)) + _message(_GRAPH_OUTPUT, _value_info(END))
    others = b"".join(whole for field, _, whole in _fields(model) if field != _MODEL_GRAPH)
    return others + _message(_MODEL_GRAPH, ended)


def _cast(tensor: str) -> bytes:
    to = _message(_ATTRIBUTE_NAME, b"to") + _number(_ATTRIBUTE_INT, _FLOAT) + _number(_ATTRIBUTE_TYPE, _INT)
    texts = ((_NODE_INPUT, tensor), (_NODE_OUTPUT, END), (_NODE_NAME, END), (_NODE_OP, "Cast"))
    return b"".join(_message(field, text.encode()) for field, text in texts) + _message(_NODE_ATTRIBUTE, to)


def _value_info(name: str) -> bytes:
    """ValueInfoProto: a name and a float32 tensor of whatever shape (name = 1, type = 2, tensor_type = 1, elem_type = 1)."""
    return _message(1, name.encode()) + _message(2, _message(1, _number(1, _FLOAT)))


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Field number, content (of a field of bytes, else empty) and the whole field's bytes, in order."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        begin = at
        if kind == _BYTES:
            length, begin = _varint(message, at)
            at = begin + length
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            msg = f"not an ONNX model: wire type {kind}"
            raise ValueError(msg)
        if at > len(message):
            msg = "not an ONNX model: it ends within a field"
            raise ValueError(msg)
        yield key >> 3, message[begin:at] if kind == _BYTES else b"", message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for i in range(10):
        if at + i >= len(message):
            break
        value |= (message[at + i] & 0x7F) << (7 * i)
        if message[at + i] < 0x80:
            return value, at + i + 1
    msg = "not an ONNX model: a number does not end"
    raise ValueError(msg)


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _message(field: int, content: bytes) -> bytes:
    return _encoded(field << 3 | _BYTES) + _encoded(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _encoded(field << 3 | _VARINT) + _encoded(value)
