"""Operators that only rearrange, as functions of arrays: the same ones move constants, and the places that symbols stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.values import Array, MisfitError, Shape

Move = Callable[[Array], Array]
MOST = 1 << 26
"""Elements of a tensor that a graph may ask for; a ViT's largest have half of that."""


def bounded(shape: object) -> Shape:
    """``shape`` as whole numbers. Raises MisfitError for one that no ViT's tensor has."""
    sizes = tuple(int(size) for size in np.asarray(shape).reshape(-1))
    count = 1
    for size in sizes:
        count *= max(size, 1)
    if len(sizes) > 16 or any(size < 0 for size in sizes) or count > MOST:
        msg = f"a tensor of the shape {list(sizes)}"
        raise MisfitError(msg)
    return sizes


def reshape_to(node: Node, shape: Shape) -> Shape:
    """The shape that a node gives a tensor of ``shape`` without moving an element."""
    return _RESHAPES[node.op](node, shape)


def reshapes(node: Node) -> bool:
    """Whether the node changes the shape alone."""
    return node.op in _RESHAPES


def moves_of(node: Node, shape: Shape) -> list[Move]:
    """A function for each output of a node that rearranges a tensor of ``shape``."""
    return _MOVES[node.op](node, shape)


def moves(node: Node) -> bool:
    """Whether the node rearranges elements."""
    return node.op in _MOVES


def _reshape(node: Node, shape: Shape) -> Shape:
    wanted = node.integers("shape", 1) or []
    if not node.get("allowzero", 0):
        wanted = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        known = int(np.prod([size for size in wanted if size != -1], dtype=np.int64))
        wanted[wanted.index(-1)] = int(np.prod(shape, dtype=np.int64)) // known if known else 0
    if any(size < 0 for size in wanted) or np.prod(wanted, dtype=np.int64) != np.prod(shape, dtype=np.int64):
        msg = f"Reshape of {list(shape)} to {wanted}"
        raise MisfitError(msg)
    return tuple(wanted)


def _squeeze(node: Node, shape: Shape) -> Shape:
    axes = node.integers("axes", 1)
    chosen = {axis % len(shape) for axis in axes} if axes is not None else {i for i, size in enumerate(shape) if size == 1}
    return tuple(size for i, size in enumerate(shape) if i not in chosen)


def _unsqueeze(node: Node, shape: Shape) -> Shape:
    axes = node.integers("axes", 1) or []
    rank = len(shape) + len(axes)
    chosen, sizes = {axis % rank for axis in axes}, iter(shape)
    return tuple(1 if i in chosen else next(sizes) for i in range(rank))


def _flatten(node: Node, shape: Shape) -> Shape:
    axis = node.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return int(np.prod(shape[:axis], dtype=np.int64)), int(np.prod(shape[axis:], dtype=np.int64))


def _transpose(node: Node, shape: Shape) -> list[Move]:
    order = node.get("perm") or list(reversed(range(len(shape))))
    return [lambda array: array.transpose(order)]


def _slice(node: Node, shape: Shape) -> list[Move]:
    starts, ends = node.integers("starts", 1) or [], node.integers("ends", 2) or []
    axes = node.integers("axes", 3, list(range(len(starts)))) or []
    steps = node.integers("steps", 4, [1] * len(starts)) or []
    taken = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        first = start + size if start < 0 else start
        last = end + size if end < 0 else end
        if step > 0:
            taken[axis] = slice(min(max(first, 0), size), min(max(last, 0), size), step)
        else:
            first, last = min(max(first, 0), size - 1), min(max(last, -1), size - 1)
            taken[axis] = slice(first, None if last < 0 else last, step)
    chosen = tuple(taken)
    return [lambda array: array[chosen]]


def _gather(node: Node, shape: Shape) -> list[Move]:
    axis, indices = node.get("axis", 0), node.constant(1)
    bounded((*shape[: axis % len(shape)], indices.size, *shape[axis % len(shape) + 1 :]))
    return [lambda array: np.take(array, indices, axis)]


def _split(node: Node, shape: Shape) -> list[Move]:
    axis, count = node.get("axis", 0) % len(shape), len(node.outputs)
    sizes = node.integers("split", 1)
    if sizes is None:
        size = -(-shape[axis] // count)
        sizes = [min(size, shape[axis] - i * size) for i in range(count)]
    ends = np.cumsum(sizes)
    if len(sizes) != count or ends[-1] != shape[axis] or min(sizes) < 0:
        msg = f"Split of {shape[axis]} to {sizes}"
        raise MisfitError(msg)

    def part(start: int, stop: int) -> Move:
        chosen = (*[slice(None)] * axis, slice(start, stop))
        return lambda array: array[chosen]

    return [part(int(end) - size, int(end)) for size, end in zip(sizes, ends, strict=True)]


def _expand(node: Node, shape: Shape) -> list[Move]:
    wanted = bounded(np.broadcast_shapes(shape, bounded(node.constant(1))))
    return [lambda array: np.broadcast_to(array, wanted)]


def _gather_nd(node: Node, shape: Shape) -> list[Move]:
    indices = node.constant(1)
    if node.get("batch_dims", 0):
        msg = "GatherND within a batch"
        raise MisfitError(msg)
    bounded((*indices.shape[:-1], *shape[indices.shape[-1] :]))
    places = tuple(np.moveaxis(indices, -1, 0))
    return [lambda array: array[places]]


def _gather_elements(node: Node, shape: Shape) -> list[Move]:
    axis, indices = node.get("axis", 0), node.constant(1)
    return [lambda array: np.take_along_axis(array, indices % shape[axis], axis)]


def _tile(node: Node, shape: Shape) -> list[Move]:
    repeats = node.integers("repeats", 1) or []
    bounded([size * times for size, times in zip(shape, repeats, strict=True)])
    return [lambda array: np.tile(array, repeats)]


_RESHAPES: dict[str, Callable[[Node, Shape], Shape]] = {
    "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Flatten": _flatten,
}  # fmt: skip
_MOVES: dict[str, Callable[[Node, Shape], list[Move]]] = {
    "Transpose": _transpose, "Slice": _slice, "Gather": _gather, "Split": _split, "Expand": _expand, "Tile": _tile,
    "GatherND": _gather_nd, "GatherElements": _gather_elements,
}  # fmt: skip
