"""Products: with constant matrices Linears, of two that depend on the image attention; and the patch embedding's convolution."""

from __future__ import annotations

import math

import numpy as np

from edgevit.model.onnxin.curves import as_view
from edgevit.model.onnxin.layout import bounded
from edgevit.model.onnxin.matrix import matrix, operand
from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.values import Array, Linear, MisfitError, Mix, Patches, Pixels, Scores, Softmax, Value, View


def matmul(node: Node) -> list[Value]:
    """MatMul."""
    return [product(node.inputs[0], node.inputs[1], node.images)]


def product(a: Value | None, b: Value | None, images: int) -> View:
    """``a @ b``, of which one at least depends on the image."""
    if isinstance(b, np.ndarray):
        view, rank = as_view(a), b.ndim
        weight = b.reshape(b.shape[-2:]) if rank > 2 and b.size == b.shape[-1] * b.shape[-2] else b
        if weight.ndim == 2:
            found = linear(view, weight.T)
            return found.reshaped(np.broadcast_shapes(view.shape[:-2], b.shape[:-2]) + found.shape[-2:]) if rank > 2 else found
        return _attention(view, b, images)
    if isinstance(a, np.ndarray):
        view = as_view(b)
        if a.ndim == 2 and len(view.shape) > 2:
            return _turned(linear(_turned(view), a))
        return _attention(a, view, images)
    return _attention(as_view(a), as_view(b), images)


def linear(view: View, weight: Array, bias: Array | None = None) -> View:
    """A Linear of ``weight`` [outputs, inputs] on the last axis. Raises MisfitError if that is of another width."""
    if view.shape[-1:] != weight.shape[1:]:
        msg = f"a product of {list(view.shape)} with a matrix of {weight.shape[1]} inputs"
        raise MisfitError(msg)
    if isinstance(view.root, Pixels):
        found = _of_pixels(view, weight)
    else:
        found = View.of(Linear(shape=(*view.shape[:-1], len(weight)), source=matrix(view), weight=weight))
    return found if bias is None else found.shifted(bias)


def _turned(view: View) -> View:
    return view.moved(lambda array: np.swapaxes(array, -1, -2))


def _attention(a: View | Array, b: View | Array, images: int) -> View:
    """Queries times transposed keys, or a softmax times values."""
    *_, rows, inner = a.shape
    if b.shape[-2] != inner:
        msg = f"a product of {list(a.shape)} and {list(b.shape)}"
        raise MisfitError(msg)
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, b.shape[-1])
    if isinstance(a, View) and isinstance(a.root, Softmax):
        plain = len(a.terms) == 1 and a.terms[0].index is None and not a.shift.any() and bool((a.terms[0].scale == 1).all())
        if not plain:
            msg = "a softmax that is changed before it mixes values"
            raise MisfitError(msg)
        return View.of(Mix(shape=shape, weights=a.root, values=operand(b, images)))
    keys = _turned(b) if isinstance(b, View) else np.swapaxes(b, -1, -2)
    return View.of(Scores(shape=shape, queries=operand(a, images), keys=operand(keys, images)))


def gemm(node: Node) -> list[Value]:
    """Gemm of [rows, inputs] with a constant matrix."""
    view, weight = as_view(node.inputs[0]), node.constant(1)
    if node.get("transA", 0):
        view = _turned(view)
    found = linear(view, weight if node.get("transB", 0) else weight.T)
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    found = found if alpha == 1 else found.scaled(np.asarray(alpha))
    return [found.shifted(beta * node.constant(2)) if node.there(2) else found]


def fused_matmul(node: Node) -> list[Value]:
    """com.microsoft.FusedMatMul: transposed and scaled on the way."""
    sides: list[Value | None] = list(node.inputs[:2])
    for number, name in enumerate(("transA", "transB")):
        if node.get(name, 0):
            side = sides[number]
            sides[number] = np.swapaxes(side, -1, -2) if isinstance(side, np.ndarray) else _turned(as_view(side))
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        msg = "FusedMatMul with transposed batches"
        raise MisfitError(msg)
    found = product(sides[0], sides[1], node.images)
    return [found.scaled(np.asarray(float(node.get("alpha", 1.0))))]


def einsum(node: Node) -> list[Value]:
    """Einsum of two: brought to a product of matrices."""
    left, _, right = str(node.get("equation", "")).replace(" ", "").partition("->")
    names = left.split(",")
    if len(names) != 2 or "." in left + right or not right:
        msg = f"Einsum {node.get('equation')!r}"
        raise MisfitError(msg)
    values = [value if isinstance(value, np.ndarray) else as_view(value) for value in node.inputs]
    sizes = {
        letter: size for name, value in zip(names, values, strict=True) for letter, size in zip(name, value.shape, strict=True)
    }
    a, b = names
    contracted = [letter for letter in a if letter in b and letter not in right]
    batch = [letter for letter in right if letter in a and letter in b]
    free = [[letter for letter in name if letter not in contracted and letter not in batch] for name in names]
    if any(letter not in right for letter in free[0] + free[1]) or len(right) != len(batch) + len(free[0]) + len(free[1]):
        msg = f"Einsum {node.get('equation')!r}"
        raise MisfitError(msg)
    first = _arranged(values[0], a, [batch, free[0], contracted], sizes)
    second = _arranged(values[1], b, [batch, contracted, free[1]], sizes)
    found = product(first, second, node.images)
    order = batch + free[0] + free[1]
    whole = found.reshaped(bounded([sizes[letter] for letter in order]))
    return [whole.moved(lambda array: array.transpose([order.index(letter) for letter in right]))]


def _arranged(value: View | Array, name: str, groups: list[list[str]], sizes: dict[str, int]) -> View | Array:
    """With the axes of each group side by side; those of all but the first as one axis."""
    order = [name.index(letter) for group in groups for letter in group]
    shape = (*(sizes[letter] for letter in groups[0]),
             *(int(np.prod([sizes[letter] for letter in group], dtype=np.int64)) for group in groups[1:]))  # fmt: skip

    def move(array: Array) -> Array:
        return array.transpose(order).reshape(shape)

    return value.moved(move) if isinstance(value, View) else move(value)


def convolution(node: Node) -> list[Value]:
    """Conv: over patches that do not overlap, the patch embedding; of one pixel, a Linear."""
    view, weight = as_view(node.inputs[0]), node.constant(1)
    bias = node.constant(2) if node.there(2) else None
    kernel = tuple(weight.shape[2:])
    strides, pads = tuple(node.get("strides") or (1,) * len(kernel)), node.get("pads") or [0] * (2 * len(kernel))
    plain = node.get("group", 1) == 1 and not any(pads) and set(node.get("dilations") or [1]) == {1}
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or not plain or kernel != strides or node.get("activation"):
        msg = f"Conv of {'x'.join(map(str, kernel))} pixels, stride {'x'.join(map(str, strides))}"
        raise MisfitError(msg)
    if len(kernel) != 2 or view.shape[1] != weight.shape[1]:
        msg = f"Conv of {list(view.shape)} with a kernel for {weight.shape[1]} channels"
        raise MisfitError(msg)
    sizes = [side // edge for side, edge in zip(view.shape[2:], kernel, strict=True)]
    shape = bounded((view.shape[0], len(weight), *sizes))
    before = str(node.proto.input[0])
    return [View.of(Patches(shape=shape, source=view, weight=weight, bias=bias, before=before))]


def _of_pixels(view: View, weight: Array) -> View:
    """A Linear on patches [N, patches, pixels] that were cut out by rearranging: the same as a convolution."""
    msg = "a Linear on pixels whose order is not that of patches"
    image = view.root.shape
    if len(view.shape) != 3 or len(image) != 4 or image[1] not in (1, 3) or len(view.terms) != 1:
        raise MisfitError(msg)
    images, count, pixels = view.shape
    channels, height, width = image[1:]
    side = math.isqrt(pixels // channels)
    if side * side * channels != pixels or (height // side) * (width // side) != count or height % side or width % side:
        raise MisfitError(msg)
    index = view.indices(view.terms[0])[0]
    channel, place = np.divmod(index, height * width)
    row, column = np.divmod(place, width)
    grid = np.arange(count)
    top, left = grid // (width // side) * side, grid % (width // side) * side
    within = (channel * side + row - top[:, None]) * side + column - left[:, None]
    if (within != within[0]).any() or not np.array_equal(np.sort(within[0]), np.arange(pixels)):
        raise MisfitError(msg)
    kernel = np.zeros((len(weight), pixels), np.float32)
    kernel[:, within[0]] = weight
    term, shape = view.terms[0], (images, channels, height, width)
    per_pixel = [np.empty(shape), np.empty(shape)]
    for target, values in zip(per_pixel, (term.scale, view.shift), strict=True):
        target.reshape(images, -1)[:, index.reshape(-1)] = values.reshape(images, -1)
    source = View.of(view.root).scaled(per_pixel[0]).shifted(per_pixel[1])
    patches = View.of(Patches(shape=(images, len(weight), height // side, width // side), source=source,
                              weight=kernel.reshape(len(weight), channels, side, side), bias=None))  # fmt: skip
    return patches.reshaped((images, len(weight), count)).moved(lambda array: array.transpose(0, 2, 1))
