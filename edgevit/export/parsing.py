"""An ONNX graph from a file, to be walked: what does not hold what ours do is an error of the file, whatever it trips over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types
from onnx import shape_inference

from edgevit.errors import EngineError

# What a damaged graph makes of code that knows our own: a name that is missing, an attribute of another kind, no such node.
_TRIPS = (
    KeyError, IndexError, TypeError, AttributeError, StopIteration, ValueError, OverflowError, RuntimeError, DecodeError,
    shape_inference.InferenceError, onnx.checker.ValidationError,
)  # fmt: skip


def parsed(model: bytes) -> onnx.ModelProto:
    """The message in ``model``. Raises EngineError if there is none."""
    try:
        return onnx.load_from_string(model)
    except (DecodeError, ValueError) as error:
        msg = f"not a readable ONNX model: {error}. Copy it again, or build it again."
        raise EngineError(msg) from error


@contextmanager
def walking() -> Iterator[None]:
    """What goes wrong inside, where a graph is walked, is an EngineError: edgevit did not write that graph."""
    try:
        yield
    except _TRIPS as error:
        reason = f"it misses {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        msg = f"this graph is not one that edgevit writes: {reason.splitlines()[0]}. Copy it again, or build it again."
        raise EngineError(msg) from error
