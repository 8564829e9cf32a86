"""The wire format of protobuf, as far as ONNX files need it: a device has no onnx package.

A message is a sequence of fields (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""


def fields(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Of a message: field number, content (of a field of bytes, else empty) and the whole field's bytes, in order.

    Raises ValueError for what is no message.
    """
    at = 0
    while at < len(content):
        start = at
        key, at = _varint(content, at)
        kind = key & 7
        begin = at
        if kind == BYTES:
            length, begin = _varint(content, at)
            at = begin + length
        elif kind == VARINT:
            _, at = _varint(content, at)
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            msg = f"not an ONNX model: wire type {kind}"
            raise ValueError(msg)
        if at > len(content):
            msg = "not an ONNX model: it ends within a field"
            raise ValueError(msg)
        yield key >> 3, content[begin:at] if kind == BYTES else b"", content[start:at]


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


def message(field: int, content: bytes) -> bytes:
    """A field that holds ``content``: a text, or a message."""
    return _encoded(field << 3 | BYTES) + _encoded(len(content)) + content


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number, not negative."""
    return _encoded(field << 3 | VARINT) + _encoded(value)
