"""The nodes of an ONNX graph, read and written on the file's bytes: a device has no onnx package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from edgevit.files.protobuf import fields, message, varint
from edgevit.onnxfile import (
    ATTRIBUTE_INT,
    ATTRIBUTE_NAME,
    ATTRIBUTE_TYPE,
    GRAPH_NODE,
    INT,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_NAME,
    NODE_OP,
    NODE_OUTPUT,
)

FLOAT16 = 10
"""TensorProto.DataType"""


@dataclass(frozen=True)
class Node:
    """One node of a graph: a NodeProto, and what of it is asked for."""

    content: bytes

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors it reads."""
        return self._texts(NODE_INPUT)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors it makes."""
        return self._texts(NODE_OUTPUT)

    @cached_property
    def name(self) -> str:
        """Such as ``blocks.3/fc1/MatMul``."""
        return "".join(self._texts(NODE_NAME))

    @cached_property
    def op(self) -> str:
        """Such as ``MatMul``."""
        return "".join(self._texts(NODE_OP))

    def _texts(self, field: int) -> tuple[str, ...]:
        return tuple(bytes(part.content).decode() for part in fields(self.content) if part.number == field)

    def renamed(self, names: Mapping[str, str], *, outputs: bool = False) -> Node:
        """The same node with inputs, and outputs if wanted, called as ``names`` maps them."""
        changed = (NODE_INPUT, NODE_OUTPUT) if outputs else (NODE_INPUT,)
        return Node(b"".join(
            message(part.number, _mapped(part.content, names)) if part.number in changed else part.whole
            for part in fields(self.content)
        ))  # fmt: skip


def _mapped(text: memoryview, names: Mapping[str, str]) -> bytes:
    name = bytes(text).decode()
    return names.get(name, name).encode()


def cast(source: str, target: str, dtype: int) -> Node:
    """A node that casts tensor ``source`` to ``dtype`` (`FLOAT` or `FLOAT16`) and calls it ``target``."""
    to = message(ATTRIBUTE_NAME, b"to") + varint(ATTRIBUTE_INT, dtype) + varint(ATTRIBUTE_TYPE, INT)
    texts = ((NODE_INPUT, source), (NODE_OUTPUT, target), (NODE_NAME, f"{target}/Cast"), (NODE_OP, "Cast"))
    return Node(b"".join(message(field, text.encode()) for field, text in texts) + message(NODE_ATTRIBUTE, to))


def graph_of(model: bytes) -> bytes:
    """The GraphProto of ``model``, ONNX. Raises ValueError if there is none."""
    graph = b"".join(part.content for part in fields(model) if part.number == MODEL_GRAPH)
    if not graph:
        msg = "not an ONNX model: it has no graph"
        raise ValueError(msg)
    return graph


def with_graph(model: bytes, graph: bytes) -> bytes:
    """``model``, ONNX, with another GraphProto."""
    return b"".join(part.whole for part in fields(model) if part.number != MODEL_GRAPH) + message(MODEL_GRAPH, graph)


def nodes_of(model: bytes) -> list[Node]:
    """The nodes of ``model``, ONNX, in order. Raises ValueError for no model."""
    return [Node(bytes(part.content)) for part in fields(graph_of(model)) if part.number == GRAPH_NODE]


def with_nodes(model: bytes, nodes: Iterable[Node]) -> bytes:
    """``model``, ONNX, with these ``nodes``, in an order that they can run in, instead of its own."""
    rest = b"".join(part.whole for part in fields(graph_of(model)) if part.number != GRAPH_NODE)
    return with_graph(model, rest + b"".join(message(GRAPH_NODE, node.content) for node in nodes))
