"""The walk over a graph: each node is computed, or becomes a symbol by the rule for its operator."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.model.onnxin import arithmetic, attend, norms, products
from edgevit.model.onnxin.constants import computed, shape_of
from edgevit.model.onnxin.curves import UNARY, as_view
from edgevit.model.onnxin.layout import moves, moves_of, reshape_to, reshapes
from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.values import (
    Array,
    Curve,
    Joined,
    Length,
    MisfitError,
    Moment,
    Norm,
    Resized,
    Root,
    Unknown,
    Value,
    View,
    joined,
)

if TYPE_CHECKING:
    import onnx

    from edgevit.model.onnxin.node import Tensor

Rule = Callable[[Node], list[Value]]


class Walk:
    """Values of a graph's tensors by name, for an input of one shape."""

    def __init__(self, opset: int, tensor: Tensor, images: int) -> None:
        self.opset, self.tensor, self.images = opset, tensor, images
        self.values: dict[str, Value] = {}
        self.roots: list[Root] = []
        """In the order in which the graph makes them."""
        self.norms: dict[str, View] = {}
        """Norms, with what scales and shifts them, by the tensor that they are."""
        self.makers: dict[str, onnx.NodeProto] = {}
        """The node that makes a tensor."""
        self.operators: Counter[str] = Counter()
        """Of nodes that depend on the image."""

    def over(self, graph: onnx.GraphProto, given: Mapping[str, Value]) -> None:
        """Walk through all nodes; ``given`` are the input and the weights."""
        self.values.update(given)
        uses = Counter(name for node in graph.node for name in node.input)
        uses.update(name for node in graph.node for name in _of_subgraphs(node))
        kept = {output.name for output in graph.output}
        for proto in _in_order(graph.node):
            self._one(proto)
            for name in proto.input:
                uses[name] -= 1
                if not uses[name] and name not in kept:
                    self.values.pop(name, None)

    def _one(self, proto: onnx.NodeProto) -> None:
        self.makers.update(dict.fromkeys(proto.output, proto))
        if proto.op_type == "If" and proto.domain in ("", "ai.onnx"):
            self._branch(proto)
            return
        inputs = [self.values.get(name, Unknown(why="a tensor that nothing makes")) if name else None for name in proto.input]
        node = Node(proto, inputs, self.tensor, self.opset, self.images)
        try:
            found = self._outputs(node)
        except MisfitError as misfit:
            found = [Unknown(why=_located(proto, str(misfit)))] * len(proto.output)
        except (IndexError, KeyError, TypeError, ValueError, ArithmeticError, AssertionError, MemoryError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            found = [Unknown(why=_located(proto, f"{proto.op_type} that cannot be followed ({reason})"))] * len(proto.output)
        for name, value in zip(proto.output, found, strict=False):
            if name:
                self._keep(name, value)

    def _keep(self, name: str, value: Value) -> None:
        if isinstance(value, View) and not value.root.name:
            value.root.name = name
            self.roots.append(value.root)
        self.values[name] = value
        if isinstance(value, View) and isinstance(value.root, Norm):
            self.norms[name] = value

    def _outputs(self, node: Node) -> list[Value]:
        if all(value is None or isinstance(value, np.ndarray) for value in node.inputs):
            return list(computed(node))
        self.operators[node.op] += 1
        unknown = next((value for value in node.inputs if isinstance(value, Unknown)), None)
        if unknown is not None:
            return [unknown] * len(node.outputs)
        if node.op == "Shape":
            return [shape_of(node, _shape(node.inputs[0]))]
        rule = (RULES if node.proto.domain in ("", "ai.onnx") else MICROSOFT).get(node.op)
        if rule is not None:
            return rule(node)
        if reshapes(node):
            view = as_view(node.inputs[0])
            return [view.reshaped(reshape_to(node, view.shape))]
        if moves(node):
            if isinstance(node.inputs[0], Length):
                return [node.inputs[0]]
            view = as_view(node.inputs[0])
            return [view.moved(move) for move in moves_of(node, view.shape)]
        domain = f"{node.proto.domain}." if node.proto.domain not in ("", "ai.onnx") else ""
        msg = f"the operator {domain}{node.op}"
        raise MisfitError(msg)

    def _branch(self, proto: onnx.NodeProto) -> None:
        """If: the branch that is taken, where that is known."""
        condition = self.values.get(proto.input[0])
        if not isinstance(condition, np.ndarray) or condition.size != 1:
            for name in proto.output:
                self.values[name] = Unknown(why=_located(proto, "If whose condition depends on the image"))
            return
        wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        graph = next(attribute.g for attribute in proto.attribute if attribute.name == wanted)
        for tensor in graph.initializer:
            self.values[tensor.name] = self.tensor(tensor)
        for inner in graph.node:
            self._one(inner)
        for name, output in zip(proto.output, graph.output, strict=True):
            self.values[name] = self.values.get(output.name, Unknown(why=_located(proto, "If without a result")))


def _in_order(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Each node behind those whose outputs it reads, which not every converter sees to; a circle is left out."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    needs = [{makers[name] for name in (*node.input, *_of_subgraphs(node)) if name in makers} for node in nodes]
    readers: dict[int, list[int]] = {}
    for number, needed in enumerate(needs):
        for other in needed:
            readers.setdefault(other, []).append(number)
    ready = [number for number, needed in enumerate(needs) if not needed]
    heapq.heapify(ready)
    while ready:
        number = heapq.heappop(ready)
        yield nodes[number]
        for reader in readers.get(number, ()):
            needs[reader].discard(number)
            if not needs[reader]:
                heapq.heappush(ready, reader)


def _of_subgraphs(node: onnx.NodeProto) -> Iterable[str]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                yield from inner.input
                yield from _of_subgraphs(inner)
            yield from (output.name for output in attribute.g.output)


def _located(proto: onnx.NodeProto, what: str) -> str:
    return f"{what} (node {proto.name or (proto.output[0] if proto.output else '')!r})"


def _shape(value: Value | None) -> tuple[int, ...]:
    if isinstance(value, View):
        return value.shape
    if isinstance(value, Curve):
        return value.base.shape
    if isinstance(value, Moment | Length):
        return (*value.source.shape[:-1], 1)
    msg = "Shape of a tensor that is not followed"
    raise MisfitError(msg)


def _concat(node: Node) -> list[Value]:
    parts: list[View | Array] = [part if isinstance(part, np.ndarray) else as_view(part) for part in node.inputs]
    rank = len(parts[0].shape)
    axis = node.get("axis", 0) % rank
    views = [part for part in parts if isinstance(part, View)]
    if all(view.root is views[0].root for view in views):
        return [joined(parts, axis)]
    if axis != rank - 1 or len(views) != len(parts):
        msg = "Concat of tensors that are made in different ways"
        raise MisfitError(msg)
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return [View.of(Joined(shape=shape, parts=tuple(matrix(view) for view in views)))]


def _same(node: Node) -> list[Value]:
    value = node.inputs[0]
    assert value is not None
    return [value, *[np.zeros(0)] * (len(node.outputs) - 1)]


def _cast(node: Node) -> list[Value]:
    """To a floating type: values stay; what rounds is another matter."""
    if node.op == "Cast" and node.get("to") not in (1, 10, 11, 16):
        msg = f"Cast of what depends on the image to the type {node.get('to')}"
        raise MisfitError(msg)
    return _same(node)


def _resize(node: Node) -> list[Value]:
    """Resize of the image, at the head of the graph."""
    view = as_view(node.inputs[0])
    if len(view.shape) != 4:
        msg = "Resize of what is no image"
        raise MisfitError(msg)
    if node.there(3):
        shape = tuple(int(size) for size in node.constant(3))
    else:
        scales = node.constant(2 if len(node.inputs) > 2 else 1).reshape(-1)
        shape = tuple(int(np.floor(size * scale)) for size, scale in zip(view.shape, scales, strict=True))
    if shape == view.shape:
        return [view]
    return [View.of(Resized(shape=shape, source=view))]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic.binary),
    **dict.fromkeys(UNARY, arithmetic.unary),
    **dict.fromkeys(("Clip", "Max", "Min"), arithmetic.clip),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), norms.layer_norm),
    **dict.fromkeys(("Identity", "Dropout"), _same),
    **dict.fromkeys(("Cast", "CastLike"), _cast),
    **dict.fromkeys(("Gelu", "Swish"), attend.gelu),
    "Sum": arithmetic.sums, "Neg": arithmetic.negative, "Sqrt": arithmetic.square_root, "Reciprocal": arithmetic.reciprocal,
    "Pow": arithmetic.power, "Where": arithmetic.where, "ReduceMean": norms.reduce_mean, "ReduceSum": norms.reduce_sum,
    "ReduceL2": norms.reduce_l2, "LpNormalization": norms.lp_norm, "GlobalAveragePool": norms.pooled, "MatMul": products.matmul,
    "Gemm": products.gemm, "Einsum": products.einsum, "Conv": products.convolution, "Softmax": attend.softmax,
    "LogSoftmax": attend.softmax, "IsNaN": attend.is_nan, "Attention": attend.onnx_attention, "Concat": _concat,
    "Resize": _resize, "Upsample": _resize, "BatchNormalization": norms.batch_norm,
}  # fmt: skip
MICROSOFT: dict[str, Rule] = {
    "Attention": attend.microsoft_attention, "MultiHeadAttention": attend.multi_head_attention,
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), attend.skip_norm),
    **dict.fromkeys(("Gelu", "BiasGelu", "FastGelu", "QuickGelu"), attend.gelu),
    "FusedMatMul": products.fused_matmul, "TransposeMatMul": products.fused_matmul, "FusedGemm": products.gemm,
    "SimplifiedLayerNormalization": norms.layer_norm, "BiasAdd": attend.bias_add, "FusedConv": products.convolution,
}  # fmt: skip
