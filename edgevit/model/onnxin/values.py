"""What a tensor that depends on the image is, while a graph is walked: a rearrangement, scaled and shifted, of an operator's.

Reshapes, transposes, slices, sums with constants and the like are followed exactly, for each element, whatever their order: a
`View` says where each of its elements comes from. So it does not matter how an exporter lays out heads, splits queries from
keys, or scales them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


class MisfitError(Exception):
    """Something in the graph that no ViT of edgevit's has. Its text is a phrase that names the operator."""


@dataclass(eq=False, kw_only=True)
class Root:
    """What an operator made that is no rearrangement of something else; told apart by identity."""

    shape: Shape
    name: str = ""
    """Of the tensor in the graph."""

    @property
    def channels(self) -> int:
        """Of each row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Tokens, of all images."""
        return _size(self.shape) // self.channels

    def places(self, index: Array) -> tuple[Array, Array]:
        """Row (a token of an image) and channel of each element that ``index``, of the flat tensor, names."""
        return np.divmod(index, self.shape[-1])


@dataclass(frozen=True)
class Term:
    """Elements of a root, scaled."""

    index: Array | None
    """Which element of the flat root each is, int32 of the view's shape; None: all in their order."""
    scale: Array
    """float64, of the view's shape, mostly broadcast."""


@dataclass(frozen=True, eq=False)
class View:
    """The sum of ``terms`` of one root, plus ``shift``."""

    root: Root
    terms: tuple[Term, ...]
    shift: Array
    """float64, of the view's shape, mostly broadcast."""
    shape: Shape

    @classmethod
    def of(cls, root: Root) -> View:
        """The root as it is."""
        return cls(root, (Term(None, np.broadcast_to(1.0, root.shape)),), np.broadcast_to(0.0, root.shape), root.shape)

    def moved(self, move: Callable[[Array], Array]) -> View:
        """Rearranged by ``move``, which takes and gives arrays."""
        shift = move(self.shift)
        terms = tuple(Term(_in_order(move(self.indices(term)), self.root), move(term.scale)) for term in self.terms)
        return View(self.root, terms, shift, shift.shape)

    def reshaped(self, shape: Shape) -> View:
        """The same elements in another shape."""
        terms = tuple(
            Term(None if term.index is None else term.index.reshape(shape), term.scale.reshape(shape)) for term in self.terms
        )
        return View(self.root, terms, self.shift.reshape(shape), shape)

    def indices(self, term: Term) -> Array:
        """``term.index``, written out."""
        return np.arange(_size(self.shape), dtype=np.int32).reshape(self.shape) if term.index is None else term.index

    def scaled(self, factor: Array) -> View:
        """Times a constant that broadcasts."""
        view = self.broadcast(factor.shape)
        terms = tuple(Term(term.index, combined(np.multiply, term.scale, factor)) for term in view.terms)
        return View(view.root, terms, combined(np.multiply, view.shift, factor), view.shape)

    def shifted(self, by: Array) -> View:
        """Plus a constant that broadcasts."""
        view = self.broadcast(by.shape)
        return View(view.root, view.terms, combined(np.add, view.shift, by), view.shape)

    def plus(self, other: View) -> View:
        """The sum with another view of the same root."""
        shape = np.broadcast_shapes(self.shape, other.shape)
        a, b = self.broadcast(shape), other.broadcast(shape)
        return View(a.root, a.terms + b.terms, combined(np.add, a.shift, b.shift), a.shape)

    def broadcast(self, shape: Shape) -> View:
        """Of the common shape with ``shape``."""
        common = np.broadcast_shapes(self.shape, shape)
        return self if common == self.shape else self.moved(lambda array: np.broadcast_to(array, common))

    def same_elements(self, other: View) -> bool:
        """Whether both show the same elements of the same root, whatever scales and shifts are."""
        if self.root is not other.root or self.shape != other.shape or len(self.terms) != 1 or len(other.terms) != 1:
            return False
        a, b = self.terms[0].index, other.terms[0].index
        return (a is None and b is None) or np.array_equal(self.indices(self.terms[0]), other.indices(other.terms[0]))


def joined(parts: list[View | Array], axis: int) -> View:
    """Views of one root and constants, one behind the other. Raises ValueError for several roots."""
    views = [part for part in parts if isinstance(part, View)]
    roots = {id(view.root) for view in views}
    if len(roots) != 1:
        msg = "several roots"
        raise ValueError(msg)
    root, count = views[0].root, max(len(view.terms) for view in views)
    shift = np.concatenate([part.shift if isinstance(part, View) else part.astype(np.float64) for part in parts], axis)
    terms = []
    for number in range(count):
        indices, scales = [], []
        for part in parts:
            there = isinstance(part, View) and number < len(part.terms)
            if isinstance(part, View):
                term = part.terms[number if there else 0]
                indices.append(part.indices(term))
                scales.append(term.scale if there else np.zeros(part.shape))
            else:
                indices.append(np.zeros(part.shape, np.int32))
                scales.append(np.zeros(part.shape))
        terms.append(Term(_in_order(np.concatenate(indices, axis), root), np.concatenate(scales, axis)))
    return View(root, tuple(terms), shift, shift.shape)


def combined(operation: Callable[[Array, Array], Array], a: Array, b: Array) -> Array:
    """``operation`` of two arrays, computed once for what is broadcast, and broadcast again."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    return np.broadcast_to(operation(thin(a), thin(b.astype(np.float64))), shape)


def thin(array: Array) -> Array:
    """With each axis along which it is broadcast, or constant by its strides, at length 1."""
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]


def _in_order(index: Array, root: Root) -> Array | None:
    if index.size != _size(root.shape):
        return index
    flat = index.reshape(-1)
    if flat.size and (flat[0] != 0 or flat[-1] != flat.size - 1):
        return index
    return None if np.array_equal(flat, np.arange(flat.size, dtype=flat.dtype)) else index


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Matrix:
    """A view as rows (tokens) of channels: [r, c] is ``scale[c]`` times the root's [rows[r], columns[c]], plus the shift."""

    root: Root
    rows: Array
    columns: Array
    scale: Array
    """float64 [rows or 1, channels]; 0 where nothing of the root is."""
    shift: Array
    """float64 [rows or 1, channels]."""

    @property
    def plain_rows(self) -> bool:
        """Whether rows are all of the root's in their order."""
        return len(self.rows) == self.root.rows and np.array_equal(self.rows, np.arange(len(self.rows)))

    @property
    def plain_columns(self) -> bool:
        """Whether channels are all of the root's in their order."""
        return len(self.columns) == self.root.channels and np.array_equal(self.columns, np.arange(len(self.columns)))

    @property
    def plain(self) -> bool:
        """Whether it is its root, no channel of another scale or shift."""
        return self.plain_rows and self.plain_columns and not self.shift.any() and bool((self.scale == 1).all())


@dataclass(eq=False, kw_only=True)
class Pixels(Root):
    """The graph's input."""

    kind: str = "float32"
    """Its NumPy type."""


@dataclass(eq=False, kw_only=True)
class Resized(Root):
    """The image at another size."""

    source: View


@dataclass(eq=False, kw_only=True)
class Patches(Root):
    """The convolution of the patch embedding, [N, width, rows, columns]."""

    source: View
    weight: Array
    bias: Array | None
    before: str = ""
    """The tensor that it reads."""

    @property
    def channels(self) -> int:
        """See `Root.channels`."""
        return self.shape[1]

    def places(self, index: Array) -> tuple[Array, Array]:
        """See `Root.places`."""
        _, width, height, columns = self.shape
        image, rest = np.divmod(index, width * height * columns)
        channel, patch = np.divmod(rest, height * columns)
        return image * (height * columns) + patch, channel


@dataclass(eq=False, kw_only=True)
class Linear(Root):
    """A product with a constant matrix."""

    source: Matrix
    weight: Array
    """float32 [outputs, inputs]"""


@dataclass(eq=False, kw_only=True)
class Norm(Root):
    """Channels less their mean, over their deviation; weight and bias are a view's."""

    source: Matrix | View
    eps: float
    rms: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Operand:
    """Queries, keys or values of all heads of the first image."""

    view: View | None
    """[tokens, heads * head_dim]; None if they do not depend on the image."""
    constant: Array | None
    """The same in that case."""
    heads: int
    head_dim: int
    tokens: int


@dataclass(eq=False, kw_only=True)
class Scores(Root):
    """Queries times keys."""

    queries: Operand
    keys: Operand


@dataclass(eq=False, kw_only=True)
class Softmax(Root):
    """Of scores, along keys."""

    scores: Scores
    scale: Array
    """float64 [heads]"""
    bias: Array | None
    """float64 [heads or 1, tokens, tokens] of the first image."""


@dataclass(eq=False, kw_only=True)
class Mix(Root):
    """Values mixed by a softmax of scores: [.., heads, tokens, head_dim]."""

    weights: Softmax
    values: Operand

    @property
    def channels(self) -> int:
        """See `Root.channels`."""
        return self.values.heads * self.values.head_dim

    def places(self, index: Array) -> tuple[Array, Array]:
        """See `Root.places`."""
        heads, dim, tokens = self.values.heads, self.values.head_dim, self.shape[-2]
        image, rest = np.divmod(index, heads * tokens * dim)
        head, rest = np.divmod(rest, tokens * dim)
        token, channel = np.divmod(rest, dim)
        return image * tokens + token, head * dim + channel


@dataclass(eq=False, kw_only=True)
class Sum(Root):
    """Of two different roots: the residual stream."""

    a: Matrix
    b: Matrix


@dataclass(eq=False, kw_only=True)
class Activated(Root):
    """An activation, of one element each."""

    source: Matrix
    kind: str
    """One of `edgevit.vitconfig.ACTIVATION_NAMES`, or sigmoid, tanh."""


@dataclass(eq=False, kw_only=True)
class Product(Root):
    """Of two that depend on the image, element by element: a gated MLP."""

    a: Matrix
    b: Matrix


@dataclass(eq=False, kw_only=True)
class Mean(Root):
    """Over tokens."""

    source: Matrix
    count: int


@dataclass(eq=False, kw_only=True)
class Joined(Root):
    """Features of several roots, one behind the other."""

    parts: tuple[Matrix, ...]


@dataclass(eq=False, kw_only=True)
class Unit(Root):
    """Rows scaled to length 1."""

    source: Matrix


@dataclass(eq=False, kw_only=True)
class Probabilities(Root):
    """A softmax of logits."""

    source: Matrix
    before: str
    """The tensor of logits."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Moment:
    """A step on the way to a norm that is written out: of ``source``, along its last axis."""

    source: View
    stage: str
    """mean, centred, square, variance, deviation, inverse."""
    eps: float = 0.0
    rms: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Length:
    """The Euclidean length of rows."""

    source: View


@dataclass(eq=False, kw_only=True)
class Curve:
    """A function of each element of ``base`` alone, by its values on `GRID`."""

    base: View
    values: Array
    steps: tuple[str, ...] = field(default=())
    """The operators on the way, for people."""
    view: View | None = None
    """Of the activation that it is, once that is known: all that reads it reads the same."""


GRID: Array = np.linspace(-12.0, 12.0, 2401)


@dataclass(frozen=True, eq=False, kw_only=True)
class Unknown:
    """What no rule is for."""

    why: str
    shape: Shape | None = None


Value = Array | View | Moment | Length | Curve | Unknown
