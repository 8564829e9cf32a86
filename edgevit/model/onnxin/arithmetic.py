"""Sums, products and what else is done to elements one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgevit.model.onnxin.curves import UNARY, applied, as_view, both
from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.norms import moment_plus, moment_times, unit
from edgevit.model.onnxin.values import Array, Curve, Length, MisfitError, Moment, Product, Sum, Value, View

Operation = Callable[[Array, Array], Array]
_BINARY: dict[str, Operation] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def binary(node: Node) -> list[Value]:
    """Add, Sub, Mul, Div."""
    a, b = node.inputs
    assert a is not None
    assert b is not None
    return [combine(node.op, a, b)]


def combine(op: str, a: Value, b: Value) -> Value:
    """``a op b``, of which one depends on the image."""
    if isinstance(a, Moment) or isinstance(b, Moment):
        a, b = (as_view(value) if isinstance(value, Curve) else value for value in (a, b))
        found = moment_plus(op, a, b) if op in ("Add", "Sub") else moment_times(op, a, b)
        if found is not None:
            return found
    if isinstance(b, Length) and op == "Div":
        return unit(a, b)
    if isinstance(a, np.ndarray):
        return _with_constant(op, b, a, first=True)
    if isinstance(b, np.ndarray):
        return _with_constant(op, a, b, first=False)
    return _of_two(op, a, b)


def _with_constant(op: str, value: Value, constant: Array, *, first: bool) -> Value:
    constant = constant.astype(np.float64)
    if isinstance(value, Curve):
        if constant.size == 1:
            number = constant.reshape(())
            operation = _BINARY[op]
            swapped: Operation = (lambda x, c: operation(c, x)) if first else operation
            return applied(value, op, lambda x: swapped(x, number))
        value = as_view(value)
    if op == "Div" and first:
        if isinstance(value, View) and constant.size == 1:
            return applied(value, op, lambda x: constant.reshape(()) / x)
        msg = "Div of a constant"
        raise MisfitError(msg)
    view = as_view(value)
    if op == "Add":
        return view.shifted(constant)
    if op == "Sub":
        return view.scaled(np.asarray(-1.0)).shifted(constant) if first else view.shifted(-constant)
    return view.scaled(constant if op == "Mul" else 1 / constant)


def _of_two(op: str, a: Value, b: Value) -> Value:
    if isinstance(a, View | Curve) and isinstance(b, View | Curve):
        affine = isinstance(a, View) and isinstance(b, View) and op in ("Add", "Sub")
        if not affine and (curve := both(a, b, op, _BINARY[op])) is not None:
            return curve
    x, y = as_view(a), as_view(b)
    if op in ("Add", "Sub"):
        y = y if op == "Add" else y.scaled(np.asarray(-1.0))
        if x.root is y.root:
            return x.plus(y)
        if x.shape != y.shape:
            msg = f"{op} of {list(x.shape)} and {list(y.shape)}, which both depend on the image"
            raise MisfitError(msg)
        return View.of(Sum(shape=x.shape, a=matrix(x), b=matrix(y)))
    if op == "Mul" and x.shape == y.shape:
        return View.of(Product(shape=x.shape, a=matrix(x), b=matrix(y)))
    msg = f"{op} of two tensors that depend on the image"
    raise MisfitError(msg)


def unary(node: Node) -> list[Value]:
    """Functions of one element each."""
    value = node.inputs[0]
    value = value if isinstance(value, Curve) else as_view(value)
    if node.op == "Elu" and node.get("alpha", 1.0) != 1.0:
        msg = "Elu with an alpha"
        raise MisfitError(msg)
    return [applied(value, node.op, UNARY[node.op])]


def negative(node: Node) -> list[Value]:
    """Neg."""
    assert node.inputs[0] is not None
    return [combine("Mul", node.inputs[0], np.asarray(-1.0))]


def sums(node: Node) -> list[Value]:
    """Sum, of any number."""
    first, *others = node.inputs
    assert first is not None
    value: Value = first
    for other in others:
        assert other is not None
        value = combine("Add", value, other)
    return [value]


def square_root(node: Node) -> list[Value]:
    """Sqrt: of a variance, or of an element."""
    value = node.inputs[0]
    if isinstance(value, Length):
        return [value]
    if isinstance(value, Moment) and value.stage == "variance":
        return [replace(value, stage="deviation")]
    if isinstance(value, Moment):
        msg = "Sqrt of a moment"
        raise MisfitError(msg)
    return [applied(value if isinstance(value, Curve) else as_view(value), "Sqrt", np.sqrt)]


def reciprocal(node: Node) -> list[Value]:
    """Reciprocal: of a deviation, or of an element."""
    value = node.inputs[0]
    if isinstance(value, Moment) and value.stage in ("deviation", "variance"):
        return [replace(value, stage="inverse" if value.stage == "deviation" else "inverse variance")]
    return [applied(value if isinstance(value, Curve) else as_view(value), "Reciprocal", lambda x: 1 / x)]


def power(node: Node) -> list[Value]:
    """Pow with a constant exponent."""
    value, exponent = node.inputs[0], node.constant(1)
    if exponent.size != 1:
        msg = "Pow with several exponents"
        raise MisfitError(msg)
    number = float(exponent.reshape(-1)[0])
    stages = {("centred", 2.0): "square", ("variance", 0.5): "deviation", ("variance", -0.5): "inverse",
              ("deviation", -1.0): "inverse"}  # fmt: skip
    if isinstance(value, Moment) and (value.stage, number) in stages:
        return [replace(value, stage=stages[value.stage, number])]
    curve = value if isinstance(value, Curve) else as_view(value)
    return [applied(curve, "Pow", lambda x: np.power(x, int(number) if number.is_integer() else number))]


def clip(node: Node) -> list[Value]:
    """Clip, Max and Min: of a length, that no row may be divided by zero; else of an element."""
    value = node.inputs[0]
    if isinstance(value, Length):
        return [value]
    numbers = [node.constant(i) for i in range(1, len(node.inputs)) if node.there(i)]
    if any(number.size != 1 for number in numbers):
        msg = f"{node.op} with several bounds"
        raise MisfitError(msg)
    if node.op == "Clip":
        low = float(node.constant(1).reshape(-1)[0]) if node.there(1) else node.get("min", -np.inf)
        high = float(node.constant(2).reshape(-1)[0]) if node.there(2) else node.get("max", np.inf)
    else:
        bound = float(numbers[0].reshape(-1)[0])
        low, high = (bound, np.inf) if node.op == "Max" else (-np.inf, bound)
    if isinstance(value, View) and low <= -1e30 and high >= 1e30:
        return [value]
    return [applied(value if isinstance(value, Curve) else as_view(value), node.op, lambda x: np.clip(x, low, high))]


def where(node: Node) -> list[Value]:
    """Where with a condition that is known."""
    condition = node.constant(0)
    a, b = node.inputs[1], node.inputs[2]
    assert a is not None
    assert b is not None
    if condition.all():
        return [a]
    if not condition.any():
        return [b]
    parts = [part if isinstance(part, np.ndarray) else as_view(part) for part in (a, b)]
    shape = np.broadcast_shapes(condition.shape, *(part.shape for part in parts))
    kept = np.broadcast_to(condition, shape)
    masks = (kept.astype(np.float64), (~kept).astype(np.float64))
    views = [_masked(part, mask) for part, mask in zip(parts, masks, strict=True)]
    return [combine("Add", views[0], views[1])]


def _masked(part: View | Array, mask: Array) -> View | Array:
    if isinstance(part, View):
        return part.scaled(mask)
    return np.where(mask > 0, np.broadcast_to(part, mask.shape).astype(np.float64), 0.0)
