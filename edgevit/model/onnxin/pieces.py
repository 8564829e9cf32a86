"""Layers out of the symbols: a Linear with all that stands between it and what it reads, a norm with its weight and bias."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from edgevit.model.onnxin.values import Array, Linear, Matrix, MisfitError, Norm, Root


@dataclass(kw_only=True)
class Parts:
    """What is put together while a graph is recognised."""

    images: int
    state: dict[str, Tensor] = field(default_factory=dict)
    eps: list[float] = field(default_factory=list)
    """Of each norm."""
    rms: list[bool] = field(default_factory=list)
    activations: list[str] = field(default_factory=list)

    def put(self, name: str, weight: Array, bias: Array | None) -> None:
        """A layer, float32; without a bias it is zero."""
        self.state[f"{name}.weight"] = tensor(weight)
        self.state[f"{name}.bias"] = torch.zeros(len(weight)) if bias is None else tensor(bias)

    def put_norm(self, name: str, norm: Norm, weight: Array, bias: Array) -> None:
        """A norm, whose kind is remembered: all are to be of one."""
        self.put(name, weight, bias)
        self.eps.append(float(f"{norm.eps:.6g}"))  # as it was written, before it became float32
        self.rms.append(norm.rms)


def tensor(array: Array) -> Tensor:
    """A copy, float32, contiguous."""
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def vector(array: Array, what: str) -> Array:
    """[1, channels] as [channels]. Raises MisfitError where rows differ."""
    if len(array) != 1:
        msg = f"{what} that is another one for each token"
        raise MisfitError(msg)
    return array[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """Weight float [outputs, channels of what it reads] and bias float64 [outputs]."""

    weight: Array
    bias: Array
    source: Root
    rows: Array
    """Of the source, that it reads."""


def layer(m: Matrix, what: str) -> Layer:
    """The Linear that ``m`` shows, with scales, shifts and orders on both sides of it folded in.

    Raises MisfitError if it is none.
    """
    if not isinstance(m.root, Linear):
        msg = f"{what} that is no Linear but {described(m.root)}"
        raise MisfitError(msg)
    outputs = m.root
    source, weight = outputs.source, outputs.weight
    bias = vector(m.shift, what).copy()
    scale = vector(m.scale, what)
    inner = vector(source.shift, what)
    if not m.plain_columns:
        weight = weight[m.columns]
    if inner.any():
        bias += scale * (weight.astype(np.float64) @ inner)
    if not (scale == 1).all():
        weight = weight * scale[:, None].astype(np.float32) if _is_short(scale) else (weight * scale[:, None]).astype(np.float32)
    if not source.plain_columns or not (source.scale == 1).all():
        factor = vector(source.scale, what)
        moved = np.zeros((len(weight), source.root.channels), np.float32)
        np.add.at(moved.T, source.columns, (weight * factor).T.astype(np.float32))
        weight = moved
    return Layer(weight=weight, bias=bias, source=source.root, rows=source.rows[m.rows])


def _is_short(scale: Array) -> bool:
    return bool((scale == scale.astype(np.float32)).all())


def behind(m: Matrix, what: str) -> Layer:
    """As `layer`, where the norm in front of it is to be found: what scales and shifts the norm stays with the norm."""
    if not isinstance(m.root, Linear):
        msg = f"{what} that is no Linear but {described(m.root)}"
        raise MisfitError(msg)
    source = m.root.source
    if not isinstance(source.root, Norm):
        return layer(m, what)
    bare = Matrix(source.root, source.rows, np.arange(source.root.channels), np.ones((1, source.root.channels)),
                  np.zeros((1, source.root.channels)))  # fmt: skip
    if not source.plain_columns:
        msg = f"{what} that reads channels of a norm in another order"
        raise MisfitError(msg)
    return layer(Matrix(_with_source(m.root, bare), m.rows, m.columns, m.scale, m.shift), what)


def _with_source(root: Linear, source: Matrix) -> Linear:
    return Linear(shape=root.shape, name=root.name, source=source, weight=root.weight)


def described(root: Root) -> str:
    """What made a tensor, for people."""
    return f"{type(root).__name__} ({root.name!r})" if root.name else type(root).__name__
