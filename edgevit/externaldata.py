"""ONNX models whose weights lie in a file beside them (external data): engines map that file, and no message ends at 2 GiB.

Models are taken apart and put together at their bytes, as a device has no onnx package. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgevit.files.protobuf import WireField, fields, header, message, varint
from edgevit.onnxfile import GRAPH_INITIALIZER, TENSOR_EXTERNAL, TENSOR_LOCATION, TENSOR_RAW, Content, with_graph

MESSAGE_LIMIT = 2**31 - 1
"""Bytes of a protobuf message that other readers than edgevit's take."""
ALIGNED = 64
"""Bytes: a tensor begins at a multiple, so that kernels may read it where it is mapped."""
SMALLEST = 1024
"""Bytes of a tensor that is worth it."""
_EXTERNAL = 1  # a tensor's data_location


@dataclass(frozen=True)
class Parted:
    """A model whose large tensors refer to a file of weights, and what belongs into that."""

    graph: bytes
    """ONNX."""
    weights: tuple[Content, ...]
    """The file's content in order, padding included: views of the model that was parted."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(map(len, self.weights))


def parted(model: Content, location: str) -> Parted:
    """``model``, ONNX, with its weights in a file called ``location`` beside it; nothing large is copied.

    Raises ValueError for what is no model.
    """
    weights, end = list[Content](), 0

    def without_content(initializer: WireField) -> Iterator[Content]:
        nonlocal end
        items = list(fields(initializer.content))
        raw = next((item.content for item in items if item.number == TENSOR_RAW), memoryview(b""))
        if len(raw) < SMALLEST:
            yield initializer.whole
            return
        start = -(-end // ALIGNED) * ALIGNED
        weights.extend([bytes(start - end), raw])
        end = start + len(raw)
        kept = b"".join(item.whole for item in items if item.number != TENSOR_RAW)
        refers = {"location": location, "offset": str(start), "length": str(len(raw))}
        entries = b"".join(message(TENSOR_EXTERNAL, _entry(*item)) for item in refers.items())
        yield message(GRAPH_INITIALIZER, kept + entries + varint(TENSOR_LOCATION, _EXTERNAL))

    return Parted(with_graph(model, {GRAPH_INITIALIZER: without_content}), tuple(weights))


def joined(graph: Content, location: str, weights: Content) -> bytes:
    """Inverse of `parted`: the model with the content of the file called ``location`` in it.

    Raises ValueError for a tensor that refers to another file, or to what the file has not.
    """
    view = memoryview(weights)

    def with_content(initializer: WireField) -> Iterator[Content]:
        items = list(fields(initializer.content))
        refers = dict(_pair(item.content) for item in items if item.number == TENSOR_EXTERNAL)
        if not refers:
            yield initializer.whole
            return
        raw = _referred(view, refers, location)
        kept = b"".join(item.whole for item in items if item.number not in (TENSOR_EXTERNAL, TENSOR_LOCATION))
        begin = kept + header(TENSOR_RAW, len(raw))
        yield header(GRAPH_INITIALIZER, len(begin) + len(raw)) + begin
        yield raw

    return with_graph(graph, {GRAPH_INITIALIZER: with_content})


def _referred(weights: memoryview, refers: dict[str, str], location: str) -> memoryview:
    if refers.get("location") != location:
        msg = f"it takes weights from {refers.get('location')!r}, where {location!r} is what belongs to it"
        raise ValueError(msg)
    start, length = (int(refers.get(key, "")) for key in ("offset", "length"))
    if not 0 <= start <= start + length <= len(weights):
        msg = f"{location} has {len(weights)} bytes, and a tensor wants {length} from {start} on"
        raise ValueError(msg)
    return weights[start : start + length]


def _entry(key: str, value: str) -> bytes:
    """StringStringEntryProto: key = 1, value = 2."""
    return message(1, key.encode()) + message(2, value.encode())


def _pair(entry: Content) -> tuple[str, str]:
    found = {item.number: bytes(item.content).decode("utf-8", "replace") for item in fields(entry)}
    return found.get(1, ""), found.get(2, "")
