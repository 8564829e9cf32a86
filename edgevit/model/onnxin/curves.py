"""Activations, told by their values: whatever operators write a GELU out, it is the function that counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.values import GRID, Activated, Array, Curve, Mean, MisfitError, Moment, Unknown, Value, View, thin

TOLERANCE = 2e-4
"""Between activations there is more: 4.7e-4 from GELU to its tanh form."""


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 0.5 * (1 + np.tanh(x / 2))


def erf(x: Array) -> Array:
    """The error function, float64."""
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def gelu(x: Array) -> Array:
    """x times the normal distribution."""
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    """GELU by its tanh form."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


KNOWN: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}
_FACTORS = (1.0, math.sqrt(2), 1 / 1.702, math.sqrt(math.pi / 2))
"""What an activation's own input may have been scaled by before the graph's first operator of it."""

# Operators of one element each, by their functions of it.
UNARY: dict[str, Callable[[Array], Array]] = {
    "Erf": erf, "Tanh": np.tanh, "Sigmoid": sigmoid, "Relu": KNOWN["relu"], "Exp": np.exp, "Abs": np.abs,
    "Softplus": lambda x: np.logaddexp(0, x), "HardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Selu": lambda x: np.where(x > 0, 1.0507 * x, 1.0507 * 1.67326 * np.expm1(np.minimum(x, 0))),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "LeakyRelu": lambda x: np.where(x > 0, x, 0.01 * x),
}  # fmt: skip


def applied(value: View | Curve, step: str, function: Callable[[Array], Array]) -> Curve:
    """``function`` of each element."""
    with np.errstate(all="ignore"):
        if isinstance(value, Curve):
            return Curve(base=value.base, values=function(value.values), steps=(*value.steps, step))
        return Curve(base=value, values=function(GRID), steps=(step,))


def on_base(value: View | Curve, base: View) -> Array | None:
    """``value`` as a function of ``base``, by its values on the grid; None if it is none."""
    if isinstance(value, Curve):
        inner = None if value.base is base else on_base(value.base, base)
        if value.base is base:
            return value.values
        return value.values if inner is not None and np.allclose(inner, GRID) else None
    if value is base:
        return GRID
    if not value.same_elements(base):
        return None
    ratio = _constant(thin(value.terms[0].scale) / thin(base.terms[0].scale))
    rest = None if ratio is None else _constant(thin(value.shift) - ratio * thin(base.shift), 1e-5)
    return None if ratio is None or rest is None else ratio * GRID + rest


def _constant(array: Array, tolerance: float = 1e-6) -> float | None:
    flat = array.reshape(-1)
    if not np.isfinite(flat).all() or np.ptp(flat) > tolerance * max(1.0, float(np.abs(flat).max())):
        return None
    return float(flat[0])


def both(a: View | Curve, b: View | Curve, step: str, operation: Callable[[Array, Array], Array]) -> Curve | None:
    """``operation`` of two functions of the same elements; None if they are not of the same."""
    bases = [value.base if isinstance(value, Curve) else value for value in (a, b)]
    for base in bases if isinstance(a, Curve) else reversed(bases):
        x, y = on_base(a, base), on_base(b, base)
        if x is not None and y is not None:
            steps = tuple(step for value in (a, b) if isinstance(value, Curve) for step in value.steps)
            with np.errstate(all="ignore"):
                return Curve(base=base, values=operation(x, y), steps=(*steps, step))
    return None


def settled(curve: Curve) -> View:
    """The activation that a curve is. Raises MisfitError if it is none that is known."""
    if curve.view is not None:
        return curve.view
    found = None
    for factor in _FACTORS:
        for kind, function in KNOWN.items():
            error = float(np.abs(function(factor * GRID) - curve.values).max())
            if error <= TOLERANCE and (found is None or error < found[0]):
                found = error, factor, kind
    if found is None:
        msg = f"an activation that edgevit has not ({', '.join(dict.fromkeys(curve.steps))})"
        raise MisfitError(msg)
    _, factor, kind = found
    base = curve.base if factor == 1 else curve.base.scaled(np.asarray(factor))
    curve.view = View.of(Activated(shape=base.shape, source=matrix(base), kind=kind))
    return curve.view


def as_view(value: Value | None) -> View:
    """A value that an operator other than those of one element is given. Raises MisfitError if that is not known."""
    if isinstance(value, View):
        return value
    if isinstance(value, Curve):
        return settled(value)
    if isinstance(value, Moment) and value.stage == "mean":
        return mean_over_tokens(value.source.moved(lambda array: np.swapaxes(array, -1, -2)), keep="last")
    if isinstance(value, Unknown):
        raise MisfitError(value.why)
    msg = "part of a norm that is written out in a way that edgevit does not know"
    raise MisfitError(msg)


def mean_over_tokens(view: View, *, keep: str = "") -> View:
    """The mean over the last axis but one, [.., channels]; ``keep``: where an axis of length 1 is left, "", "rows" or "last"."""
    *images, count, channels = view.shape
    root = Mean(shape=(*images, channels), source=matrix(view), count=count)
    found = View.of(root)
    shape = {"": (*images, channels), "rows": (*images, 1, channels), "last": (*images, channels, 1)}[keep]
    return found.reshaped(shape)
