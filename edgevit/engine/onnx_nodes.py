"""The nodes of an ONNX graph, read and written on the file's bytes: a device has no onnx package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from edgevit.engine.protobuf import fields, message, number

# Field numbers of onnx.proto (onnx/onnx, IR version 3 on).
MODEL_GRAPH, GRAPH_NODE = 7, 1
_INPUT, _OUTPUT, _NAME, _OP, _ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TYPE = 1, 3, 20
_INT = 2  # AttributeProto.INT
FLOAT, FLOAT16 = 1, 10
"""TensorProto's types."""


@dataclass(frozen=True)
class Node:
    """One node of a graph: a NodeProto, and what of it is asked for."""

    content: bytes

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads."""
        return self._texts(_INPUT)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors it makes."""
        return self._texts(_OUTPUT)

    @cached_property
    def name(self) -> str:
        """Such as ``blocks.3/fc1/MatMul``."""
        return "".join(self._texts(_NAME))

    @cached_property
    def op(self) -> str:
        """Such as ``MatMul``."""
        return "".join(self._texts(_OP))

    def _texts(self, field: int) -> tuple[str, ...]:
        return tuple(content.decode() for number_, content, _ in fields(self.content) if number_ == field)

    def renamed(self, names: Mapping[str, str], *, outputs: bool = False) -> Node:
        """The same node with inputs, and outputs if wanted, called as ``names`` maps them."""
        changed = (_INPUT, _OUTPUT) if outputs else (_INPUT,)
        return Node(b"".join(
            message(field, names.get(content.decode(), content.decode()).encode()) if field in changed else whole
            for field, content, whole in fields(self.content)
        ))  # fmt: skip


def cast(source: str, target: str, dtype: int) -> Node:
    """A node that casts tensor ``source`` to ``dtype`` (`FLOAT` or `FLOAT16`) and calls it ``target``."""
    to = message(_ATTRIBUTE_NAME, b"to") + number(_ATTRIBUTE_INT, dtype) + number(_ATTRIBUTE_TYPE, _INT)
    texts = ((_INPUT, source), (_OUTPUT, target), (_NAME, f"{target}/Cast"), (_OP, "Cast"))
    return Node(b"".join(message(field, text.encode()) for field, text in texts) + message(_ATTRIBUTE, to))


def graph_of(model: bytes) -> bytes:
    """The GraphProto of ``model``, ONNX. Raises ValueError if there is none."""
    graph = b"".join(content for field, content, _ in fields(model) if field == MODEL_GRAPH)
    if not graph:
        msg = "not an ONNX model: it has no graph"
        raise ValueError(msg)
    return graph


def with_graph(model: bytes, graph: bytes) -> bytes:
    """``model``, ONNX, with another GraphProto."""
    return b"".join(whole for field, _, whole in fields(model) if field != MODEL_GRAPH) + message(MODEL_GRAPH, graph)


def nodes_of(model: bytes) -> list[Node]:
    """The nodes of ``model``, ONNX, in order. Raises ValueError for no model."""
    return [Node(content) for field, content, _ in fields(graph_of(model)) if field == GRAPH_NODE]


def with_nodes(model: bytes, nodes: Iterable[Node]) -> bytes:
    """``model``, ONNX, with these ``nodes``, in an order that they can run in, instead of its own."""
    rest = b"".join(whole for field, _, whole in fields(graph_of(model)) if field != GRAPH_NODE)
    return with_graph(model, rest + b"".join(message(GRAPH_NODE, node.content) for node in nodes))
