"""A graph and its tensors put together as bytes: whole models in protobuf's own objects would lie in memory five times over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgevit.files.protobuf import fields, header
from edgevit.onnxfile import GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW


@dataclass(frozen=True, eq=False)
class Constant:
    """One initializer, whose values are made contiguous, and cast, when they are written: until then it views a weight."""

    name: str
    element_type: int
    """ONNX's number."""
    shape: tuple[int, ...]
    size: int
    """Bytes."""
    values: Callable[[], NDArray[Any]]
    """``size`` bytes in row-major order, little-endian, of whatever dtype."""

    @property
    def head(self) -> bytes:
        """What stands in front of the values in a TensorProto, whose last field they are."""
        proto = onnx.TensorProto(dims=self.shape, data_type=self.element_type, name=self.name)
        return bytes(proto.SerializeToString(deterministic=True)) + header(TENSOR_RAW, self.size)


def with_tensors(model: onnx.ModelProto, constants: Iterable[Constant]) -> bytes:
    """``model`` with ``constants`` as initializers of its graph, serialized as `onnx` does.

    Fields stand in the order of their numbers, so the bytes are those of one message. The graph must have no initializers.
    """
    whole = list(fields(model.SerializeToString(deterministic=True)))
    graph = list(fields(next(field.content for field in whole if field.number == MODEL_GRAPH)))
    before, behind = ([field.whole for field in graph if (field.number > GRAPH_INITIALIZER) is last] for last in (False, True))
    tensors = [(constant, constant.head) for constant in constants]
    starts = [header(GRAPH_INITIALIZER, len(head) + constant.size) + head for constant, head in tensors]
    length = sum(map(len, (*before, *starts, *behind))) + sum(constant.size for constant, _ in tensors)
    written = BytesIO()  # which grows in place, and gives its content away without a copy
    written.writelines(field.whole for field in whole if field.number < MODEL_GRAPH)
    written.write(header(MODEL_GRAPH, length))
    written.writelines(before)
    for (constant, _), start in zip(tensors, starts, strict=True):
        written.write(start)
        written.write(np.ascontiguousarray(constant.values()).data)
    written.writelines(behind)
    written.writelines(field.whole for field in whole if field.number > MODEL_GRAPH)
    return written.getvalue()
