"""The fields of a protobuf message, read and written at the bytes: a device has no onnx package, nor protobuf itself.

A message is a sequence of fields, each a number, a wire type and a content
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


class WireField(NamedTuple):
    """One field of a message. A graph has ten thousand, and a start waits for all of them: no dataclass, which takes longer."""

    number: int
    value: int
    """Of a varint; 0 of others."""
    content: memoryview
    """Of a field of bytes: a text, or a message; empty of others."""
    whole: memoryview
    """The field as it stands in the message, its number included."""


def fields(message: bytes | memoryview) -> Iterator[WireField]:
    """The fields of ``message`` in order; nothing is copied. Raises ValueError for what is no message."""
    view = memoryview(message)
    at, end = 0, len(view)
    while at < end:
        start = at
        key, at = _varint(view, at)
        kind, value, begin = key & 7, 0, at
        if kind == BYTES:
            length, begin = _varint(view, at)
            at = begin + length
        elif kind == VARINT:
            value, at = _varint(view, at)
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            msg = f"not a protobuf message: wire type {kind}"
            raise ValueError(msg)
        if at > end:
            msg = "not a protobuf message: it ends within a field"
            raise ValueError(msg)
        yield WireField(number=key >> 3, value=value, content=view[begin:at] if kind == BYTES else view[:0], whole=view[start:at])


def message(number: int, content: bytes) -> bytes:
    """A field of bytes: a text, or a message."""
    return header(number, len(content)) + content


def header(number: int, length: int) -> bytes:
    """What stands in front of a field of ``length`` bytes."""
    return _encoded(number << 3 | BYTES) + _encoded(length)


def varint(number: int, value: int) -> bytes:
    """A field of a whole number of at least 0."""
    return _encoded(number << 3 | VARINT) + _encoded(value)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    if at < len(view) and view[at] < 0x80:  # most have one byte
        return view[at], at + 1
    value = 0
    for i in range(10):
        if at + i >= len(view):
            break
        value |= (view[at + i] & 0x7F) << (7 * i)
        if view[at + i] < 0x80:
            return value, at + i + 1
    msg = "not a protobuf message: a number does not end"
    raise ValueError(msg)


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
