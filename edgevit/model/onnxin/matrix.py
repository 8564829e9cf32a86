"""Views as rows of channels: tokens, as a Linear or a norm takes them, and queries, keys and values of heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevit.model.onnxin.values import Array, Matrix, MisfitError, Norm, Operand, Root, Term, View, thin


def matrix(view: View) -> Matrix:
    """``view`` [.., channels] as rows of channels. Raises MisfitError unless every row takes the same channels of one token."""
    channels = view.shape[-1] if view.shape else 1
    if len(view.terms) != 1:
        msg = "a sum of several parts of one tensor"
        raise MisfitError(msg)
    term, scale = view.terms[0], per_channel(view.terms[0].scale, channels)
    shift = per_channel(view.shift, channels)
    if term.index is None and view.root.channels == channels and type(view.root).places is Root.places:
        return Matrix(view.root, np.arange(view.root.rows), np.arange(channels), scale, shift)
    rows, columns = separated(view, term, channels)
    return Matrix(view.root, rows, columns, scale, shift)


def separated(view: View, term: Term, channels: int) -> tuple[Array, Array]:
    """The root's rows and channels that ``term`` [rows, channels] is of. Raises MisfitError if they do not go apart."""
    rows, columns = (part.reshape(-1, channels) for part in view.root.places(view.indices(term)))
    used = np.broadcast_to(term.scale != 0, view.shape).reshape(-1, channels)
    there = used.any(axis=1)
    if not there.any():
        return rows[:, 0], columns[0]
    first = int(np.argmax(used.sum(axis=1)))
    column, row = columns[first], rows[:, 0]
    if (rows != row[:, None])[there].any() or (columns != column)[there].any():
        msg = "an arrangement of tokens and channels that no ViT has"
        raise MisfitError(msg)
    return row, column


def per_channel(array: Array, channels: int) -> Array:
    """``array`` of a view's shape as [1, channels], or as [rows, channels] where rows differ."""
    if all(stride == 0 or size == 1 for stride, size in zip(array.strides[:-1], array.shape[:-1], strict=True)):
        return np.broadcast_to(thin(array).reshape(1, -1), (1, channels))
    whole = array.reshape(-1, channels)
    return whole[:1] if (whole == whole[0]).all() else whole


def operand(value: View | Array, images: int) -> Operand:
    """Queries, keys or values [.., heads, tokens, head_dim]. Raises MisfitError for what is of another form."""
    shape: Sequence[int] = value.shape
    if len(shape) == 3 and images > 1:
        shape = (images, shape[0] // images, *shape[1:])
    shape = (1,) * (4 - len(shape)) + tuple(shape)
    if len(shape) != 4 or shape[0] not in (1, images):
        msg = f"attention over tensors of shape {list(value.shape)}"
        raise MisfitError(msg)
    _, heads, tokens, dim = shape

    def move(array: Array) -> Array:
        return array.reshape(shape)[0].transpose(1, 0, 2).reshape(tokens, heads * dim)

    rearranged = value.moved(move) if isinstance(value, View) else None
    constant = None if isinstance(value, View) else move(value)
    return Operand(view=rearranged, constant=constant, heads=heads, head_dim=dim, tokens=tokens)


def behind_norm(view: View, norm: Norm) -> View:
    """What ``norm`` of each head was given, at the places of ``view``."""
    source = norm.source
    if not isinstance(source, View) or len(view.terms) < 1:
        msg = "a norm across heads"
        raise MisfitError(msg)
    index = view.indices(view.terms[0]).reshape(-1)

    def move(array: Array) -> Array:
        return array.reshape(-1)[index].reshape(view.shape)

    return source.moved(move)
