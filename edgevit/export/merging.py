"""Merging of tokens as a graph: what `edgevit.model.merging` computes, with static shapes, for one frame and for several.

Nothing is sorted, gathered or scattered. The rank of a source is counted by comparing it with all others, a token's new place
is compared with all places, and what comes out, a matrix of zeros and ones, is multiplied with the tokens: of matrix products,
comparisons and sums engines make few kernels (TensorRT six to seven).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevit.errors import ConfigError
from edgevit.export.form import Form
from edgevit.export.nodes import Nodes, element_type
from edgevit.model.merging import EPSILON
from edgevit.numberformat import FP16
from edgevit.vitconfig import VitConfig

BELOW = -4.0  # less than any cosine, by more than FP16 rounds away
BEYOND = 2.0**15  # more than any place
MOST = 2048  # places that FP16 counts exactly
WAYS = {"columns": (1, -1), "rows": (-1, 1)}


def is_countable(tokens: int, form: Form) -> bool:
    """Whether a graph in ``form`` can merge a sequence of so many ``tokens``."""
    return form.dtype != FP16.name or tokens <= MOST


def can_merge_in(config: VitConfig, form: Form) -> bool:
    """Whether a graph in ``form`` of a model like ``config`` can merge tokens: see `VitConfig.merges_tokens`."""
    return config.merges_tokens and is_countable(config.tokens, form)


@dataclass(frozen=True, kw_only=True)
class Merging:
    """Sizes of one merge."""

    name: str
    """``blocks.3/merge``."""
    tokens: int
    prefix: int
    merged: int
    width: int
    """Of a token."""

    @property
    def kept(self) -> int:
        """Tokens that are left."""
        return self.tokens - self.merged

    @property
    def sources(self) -> int:
        """Patches that may go."""
        return (self.tokens - self.prefix + 1) // 2

    @property
    def is_source(self) -> NDArray[np.bool_]:
        """[tokens]."""
        return self._by_turns(0)

    @property
    def is_destination(self) -> NDArray[np.bool_]:
        """[tokens]."""
        return self._by_turns(1)

    def _by_turns(self, first: int) -> NDArray[np.bool_]:
        patch = np.arange(self.tokens) - self.prefix
        return (patch >= 0) & (patch % 2 == first)

    @property
    def places(self) -> NDArray[np.float32]:
        """[tokens]: the new places of prefix tokens and destinations; of sources anything."""
        found = np.arange(self.tokens, dtype=np.float32)
        first = self.prefix + self.sources - self.merged
        found[self.is_destination] = first + np.arange(self.is_destination.sum())
        return found


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What is known of tokens that were merged."""

    sizes: str
    """[N, 1, tokens]: patches that each stands for."""
    places: str | None = None
    """[N, tokens, all tokens], see `edgevit.model.merging.Tokens`; None where nobody asks."""


def write_merge(nodes: Nodes, x: str, taken: str, before: Merged | None, at: Merging, *, places: bool) -> tuple[str, Merged]:
    """The merged tokens [N, kept, width] of ``x`` [N, tokens, width], and what is known of them, with their ``places`` if asked.

    ``taken`` [N, tokens, width] is what they are compared by; ``before`` is what is known of those, None where nothing was merged
    yet.
    Raises ConfigError for more tokens than FP16 counts, in FP16.
    """
    if nodes.form.dtype == "fp16" and at.tokens > MOST:
        msg = f"{at.name}: FP16 counts to {MOST}, and there are {at.tokens} tokens. Take a smaller image, or do not merge."
        raise ConfigError(msg)
    place = _row(nodes, _place(nodes, _unit(nodes, taken, at), at), at.tokens, f"{at.name}/place")
    kept = nodes.constant(f"{at.name}/kept", np.arange(at.kept, dtype=np.float32)[:, None])
    members = nodes.node("Equal", f"{at.name}/members", place, kept)
    members = nodes.node("Cast", f"{at.name}/members", members, to=element_type(nodes.format))
    if before is not None:
        members = nodes.node("Mul", f"{at.name}/members", members, before.sizes)
    count = _reduced(nodes, "ReduceSum", f"{at.name}/sizes", members)
    # Divided behind the product: weights of their own would be one more kernel.
    merged = nodes.node("Div", at.name, nodes.node("MatMul", at.name, members, x), count)
    shares = None
    if places:
        shares = nodes.node("Div", f"{at.name}/shares", members, count)
        if before is not None and before.places is not None:
            shares = nodes.node("MatMul", f"{at.name}/shares", shares, before.places)
    return merged, Merged(sizes=_row(nodes, count, at.kept, f"{at.name}/sizes"), places=shares)


def _unit(nodes: Nodes, x: str, at: Merging) -> str:
    """`edgevit.model.merging.compared`: one LayerNormalization, whose weights make lengths of one."""
    weight, bias = (
        nodes.constant(f"merge/{kind}_{at.width}", np.full(at.width, value, np.float32))
        for kind, value in (("weight", at.width**-0.5), ("bias", 0.0))
    )
    return nodes.node("LayerNormalization", f"{at.name}/unit", x, weight, bias, axis=-1, epsilon=EPSILON)


def _place(nodes: Nodes, unit: str, at: Merging) -> str:
    """The new place of every token [N, tokens, 1]."""
    name = at.name
    product = nodes.node("MatMul", f"{name}/scores", unit, nodes.node("Transpose", f"{name}/scores", unit, perm=[0, 2, 1]))
    destinations = nodes.constant(f"{name}/destinations", np.where(at.is_destination, 0.0, BELOW))
    scores = nodes.node("Add", f"{name}/scores", product, destinations)
    best = _reduced(nodes, "ReduceMax", f"{name}/best", scores)
    # Of equally near destinations the first. (Told from the same reduction: an ArgMax is one more kernel.)
    near = nodes.node("Equal", f"{name}/nearest", scores, best)
    places = nodes.node("Where", f"{name}/nearest", near, nodes.constant(f"{name}/places", at.places),
                        nodes.constant("merge/beyond", BEYOND))  # fmt: skip
    nearest = _reduced(nodes, "ReduceMin", f"{name}/nearest", places)
    sources = nodes.constant(f"{name}/sources", np.where(at.is_source, 0.0, BELOW)[:, None])
    rank = _rank(nodes, nodes.node("Add", f"{name}/best", best, sources), at)
    goes = nodes.node("Less", f"{name}/goes", rank, nodes.constant(f"{name}/merged", np.float32(at.merged)))
    last = nodes.constant(f"{name}/last", np.float32(at.prefix + at.sources - 1))
    source = nodes.node("Where", f"{name}/source", goes, nearest, nodes.node("Sub", f"{name}/stays", last, rank))
    fixed = nodes.constant(f"{name}/fixed", at.places[:, None])
    return nodes.node("Where", f"{name}/place", nodes.constant(f"{name}/is_source", at.is_source[:, None]), source, fixed)


def _rank(nodes: Nodes, best: str, at: Merging) -> str:
    """How many sources are to go before each [N, tokens, 1]: those more alike, of equals those in front."""
    name = f"{at.name}/rank"
    others = _row(nodes, best, at.tokens, name)
    order = np.arange(at.tokens, dtype=np.float32)
    columns, rows = (nodes.constant(f"merge/{way}_{at.tokens}", order.reshape(shape)) for way, shape in WAYS.items())
    in_front = nodes.node("Less", f"{name}/in_front", columns, rows)  # of constants: engines compute it once
    equal = nodes.node("And", name, nodes.node("Equal", name, others, best), in_front)
    before = nodes.node("Or", name, nodes.node("Greater", name, others, best), equal)
    return _reduced(nodes, "ReduceSum", name, nodes.node("Cast", name, before, to=element_type(nodes.format)))


def _reduced(nodes: Nodes, op: str, name: str, x: str) -> str:
    """``x`` reduced over its last axis, which stays with length one."""
    return nodes.node(op, name, x, nodes.constant("index/axes_last", [-1]), keepdims=1)


def _row(nodes: Nodes, column: str, tokens: int, name: str) -> str:
    """[N, tokens, 1] as [N, 1, tokens]."""
    return nodes.node("Reshape", f"{name}/row", column, nodes.constant(f"shape/row_{tokens}", [-1, 1, tokens]))
