"""A node of a graph with its attributes as Python values; parameters that moved from attributes to inputs are found at both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.model.onnxin.values import Array, MisfitError, Value

if TYPE_CHECKING:
    import onnx

    Tensor = Callable[[onnx.TensorProto], Array]


@dataclass(eq=False)
class Node:
    """One node as it is walked."""

    proto: onnx.NodeProto
    inputs: Sequence[Value | None]
    """None where an optional one is left out."""
    tensor: Tensor
    """How a tensor in an attribute becomes an array."""
    opset: int
    images: int
    """The batch."""

    @property
    def op(self) -> str:
        """The operator."""
        return str(self.proto.op_type)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it makes."""
        return tuple(self.proto.output)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Numbers, texts, lists of numbers, arrays."""
        from onnx import AttributeProto, helper

        found: dict[str, Any] = {}
        for attribute in self.proto.attribute:
            if attribute.type == AttributeProto.TENSOR:
                found[attribute.name] = self.tensor(attribute.t)
            elif attribute.type != AttributeProto.GRAPH:
                value = helper.get_attribute_value(attribute)
                found[attribute.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute ``name``."""
        return self.attributes.get(name, default)

    def there(self, index: int) -> bool:
        """Whether input ``index`` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def constant(self, index: int) -> Array:
        """Input ``index``. Raises MisfitError if it depends on the image, or is not there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if isinstance(value, np.ndarray):
            return value
        msg = f"{self.op} whose input {index} depends on the image"
        raise MisfitError(msg)

    def integers(self, name: str, index: int, default: list[int] | None = None) -> list[int] | None:
        """Whole numbers: the attribute ``name``, or input ``index``."""
        value = self.get(name)
        if value is None and self.there(index):
            value = self.constant(index)
        if value is None:
            return default
        return [int(item) for item in np.asarray(value).reshape(-1)]
