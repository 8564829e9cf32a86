"""LayerNorm and RMSNorm, as one operator or written out; lengths of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgevit.model.onnxin.curves import as_view, mean_over_tokens
from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.values import (
    GRID,
    Array,
    Curve,
    Length,
    Matrix,
    MisfitError,
    Moment,
    Norm,
    Unit,
    Value,
    View,
)


def normalised(view: View, eps: float, *, rms: bool) -> View:
    """The norm of each row of ``view``, without weight and bias."""
    source: Matrix | View
    try:
        source = matrix(view)
    except MisfitError:
        source = view  # of each head
    return View.of(Norm(shape=view.shape, source=source, eps=eps, rms=rms))


def layer_norm(node: Node) -> list[Value]:
    """LayerNormalization, RMSNormalization, SimplifiedLayerNormalization."""
    view = as_view(node.inputs[0])
    if node.get("axis", -1) % len(view.shape) != len(view.shape) - 1:
        msg = f"{node.op} over several axes"
        raise MisfitError(msg)
    found = normalised(view, float(node.get("epsilon", 1e-5)), rms=node.op != "LayerNormalization")
    return [with_affine(found, node.constant(1) if node.there(1) else None, node.constant(2) if node.there(2) else None)]


def with_affine(view: View, weight: Array | None, bias: Array | None) -> View:
    """Times a weight, plus a bias, where there are such."""
    view = view if weight is None else view.scaled(weight)
    return view if bias is None else view.shifted(bias)


def batch_norm(node: Node) -> list[Value]:
    """BatchNormalization, which in use is a scale and a shift of channels."""
    view = as_view(node.inputs[0])
    weight, bias, mean, variance = (node.constant(i).astype(np.float64) for i in range(1, 5))
    if node.get("training_mode", 0):
        msg = "BatchNormalization in training"
        raise MisfitError(msg)
    scale = weight / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
    shape = (1, -1, *(1,) * (len(view.shape) - 2))
    return [view.scaled(scale.reshape(shape)).shifted((bias - mean * scale).reshape(shape))]


def reduce_mean(node: Node) -> list[Value]:
    """ReduceMean: over channels the beginning of a norm, over tokens pooling."""
    value, axes, keep = node.inputs[0], node.integers("axes", 1), bool(node.get("keepdims", 1))
    if isinstance(value, Moment) and value.stage == "square":
        return [replace(value, stage="variance")]
    if isinstance(value, Curve) and np.allclose(value.values, GRID**2):
        return [Moment(source=value.base, stage="variance", rms=True)]
    view = as_view(value)
    rank = len(view.shape)
    chosen = sorted(axis % rank for axis in axes) if axes else []
    if chosen == [rank - 1] and keep:
        return [Moment(source=view, stage="mean")]
    if rank == 4 and chosen == [2, 3]:
        view = view.reshaped((*view.shape[:2], view.shape[2] * view.shape[3]))
        found = mean_over_tokens(view.moved(lambda array: array.swapaxes(1, 2)))
        return [found.reshaped((*found.shape, 1, 1)) if keep else found]
    if chosen == [rank - 1]:
        return [mean_over_tokens(view.moved(lambda array: np.swapaxes(array, -1, -2)))]
    if chosen == [rank - 2]:
        return [mean_over_tokens(view, keep="rows" if keep else "")]
    msg = f"ReduceMean over the axes {chosen}"
    raise MisfitError(msg)


def reduce_sum(node: Node) -> list[Value]:
    """ReduceSum over tokens: a mean times their number; over channels of squares, the square of a length."""
    value, axes = node.inputs[0], node.integers("axes", 1) or []
    if isinstance(value, Curve) and np.allclose(value.values, GRID**2):
        return [Length(source=value.base)]
    view = as_view(value)
    rank = len(view.shape)
    if [axis % rank for axis in axes] == [rank - 2]:
        found = mean_over_tokens(view, keep="rows" if node.get("keepdims", 1) else "")
        return [found.scaled(np.asarray(float(view.shape[-2])))]
    msg = f"ReduceSum over the axes {axes}"
    raise MisfitError(msg)


def pooled(node: Node) -> list[Value]:
    """GlobalAveragePool of [N, channels, ..]."""
    view = as_view(node.inputs[0])
    rank = len(view.shape)
    images, channels = view.shape[:2]
    flat = view.reshaped((images, channels, int(np.prod(view.shape[2:], dtype=np.int64))))
    found = mean_over_tokens(flat.moved(lambda array: array.swapaxes(1, 2)))
    return [found.reshaped((images, channels, *(1,) * (rank - 2)))]


def moment_plus(op: str, a: Value, b: Value) -> Value | None:
    """Steps of a norm that are sums: x - mean, variance + eps."""
    if op == "Sub" and isinstance(a, View) and isinstance(b, Moment) and b.stage == "mean" and b.source is a:
        return replace(b, stage="centred")
    if op == "Add":
        moment, constant = (a, b) if isinstance(a, Moment) else (b, a)
        if isinstance(moment, Moment) and moment.stage == "variance" and isinstance(constant, np.ndarray) and constant.size == 1:
            return replace(moment, eps=moment.eps + float(constant.reshape(-1)[0]))
    return None


def moment_times(op: str, a: Value, b: Value) -> Value | None:
    """Steps of a norm that are products: the square, the division."""
    if (
        op == "Mul"
        and isinstance(a, Moment)
        and isinstance(b, Moment)
        and a.stage == b.stage == "centred"
        and a.source is b.source
    ):
        return replace(a, stage="square")
    if op == "Div" and isinstance(a, np.ndarray) and a.size == 1 and float(a.reshape(-1)[0]) == 1 and isinstance(b, Moment):
        return replace(b, stage="inverse") if b.stage == "deviation" else None
    for x, y in ((a, b), (b, a)) if op == "Mul" else ((a, b),):
        wanted = "inverse" if op == "Mul" else "deviation"
        if not isinstance(y, Moment) or y.stage != wanted:
            continue
        if y.rms and isinstance(x, View) and x is y.source:
            return normalised(y.source, y.eps, rms=True)
        if not y.rms and isinstance(x, Moment) and x.stage == "centred" and x.source is y.source:
            return normalised(y.source, y.eps, rms=False)
    return None


def reduce_l2(node: Node) -> list[Value]:
    """ReduceL2 along channels."""
    view, axes = as_view(node.inputs[0]), node.integers("axes", 1) or []
    if [axis % len(view.shape) for axis in axes] != [len(view.shape) - 1]:
        msg = f"ReduceL2 over the axes {axes}"
        raise MisfitError(msg)
    return [Length(source=view)]


def unit(value: Value, length: Length) -> View:
    """A row divided by its length."""
    if value is not length.source:
        msg = "Div by the length of something else"
        raise MisfitError(msg)
    return View.of(Unit(shape=length.source.shape, source=matrix(length.source)))


def lp_norm(node: Node) -> list[Value]:
    """LpNormalization of the second kind along channels."""
    view = as_view(node.inputs[0])
    if node.get("p", 2) != 2 or node.get("axis", -1) % len(view.shape) != len(view.shape) - 1:
        msg = "LpNormalization of another kind"
        raise MisfitError(msg)
    return [unit(view, Length(source=view))]
