"""Queries and keys as scores take them: behind a norm of each head, and turned by rotary position embedding."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from edgevit.export.nodes import Nodes
from edgevit.export.norms import write_norm
from edgevit.model.folded import FoldedBlock, Norm
from edgevit.model.rotary import Rotation


@dataclass(frozen=True, kw_only=True)
class Between:
    """What stands between qkv and the scores of one block."""

    query_norm: Norm | None = None
    key_norm: Norm | None = None
    """Of each head, [head_dim]."""
    rotation: Rotation | None = None
    places: str | None = None
    """[N, T, all tokens], as `edgevit.model.merging.Tokens` has them; None before any tokens were merged."""

    @classmethod
    def of(cls, block: FoldedBlock, places: str | None = None) -> Between:
        """As ``block`` has it."""
        return cls(query_norm=block.query_norm, key_norm=block.key_norm, rotation=block.rotation, places=places)


NOTHING = Between()


def write_scored(
    nodes: Nodes, q: str, k: str, between: Between, name: str, *, heads: int, tokens: int, keep: int
) -> tuple[str, str]:  # fmt: skip
    """Queries and keys of attention ``name`` as scores take them; as they are where there is nothing to do.

    Both are of all heads, in the layout of ``nodes.form``: [N, heads, T, head_dim], [heads, N, T, head_dim] of rank4 or
    [heads * N, T, head_dim] of rank3. T is ``tokens``; of queries that come first in rank5's layout ``keep``.
    """
    q = _normed(nodes, q, between.query_norm, f"{name}/q")
    k = _normed(nodes, k, between.key_norm, f"{name}/k")
    if between.rotation is None:
        return q, k
    cut = nodes.form.attention == "rank5"
    rows = keep if cut else tokens
    return _turned(nodes, q, between, f"{name}/q", tokens, rows, heads), _turned(
        nodes, k, between, f"{name}/k", tokens, tokens, heads
    )


def _normed(nodes: Nodes, x: str, norm: Norm | None, name: str) -> str:
    if norm is None:
        return x
    return write_norm(nodes, x, norm, f"{name}/norm")


def _turned(nodes: Nodes, x: str, between: Between, name: str, tokens: int, rows: int, heads: int) -> str:
    rotation = between.rotation
    assert rotation is not None
    depth, joined = rotation.cosines.shape[-1], nodes.form.attention == "rank3"
    # Frames and heads are one axis, and the ones or the others turn differently.
    apart = joined and nodes.form.batch != 1 and (len(rotation.cosines) > 1 or between.places is not None)
    if apart:
        shape = nodes.shape(f"shape/heads_apart_{heads}_{depth}", [heads, -1, tokens, depth])
        x = nodes.node("Reshape", f"{name}/apart", x, shape)
    if between.places is None:
        cosines, sines = _tables(nodes, rotation, tokens, rows, apart=apart)
    else:
        cosines, sines = _mean_tables(nodes, rotation, between.places, tokens, rows, apart=apart)
    halves = nodes.node_with("Split", f"{name}/halves", (f"{name}/first", f"{name}/second"), x, axis=-1, num_outputs=2)
    swapped = nodes.node("Concat", f"{name}/swapped", *reversed(halves), axis=-1)
    x = nodes.node(
        "Add",
        f"{name}/turned",
        nodes.node("Mul", f"{name}/cosines", x, cosines),
        nodes.node("Mul", f"{name}/sines", swapped, sines),
    )
    if not apart:
        return x
    return nodes.node("Reshape", f"{name}/joined", x, nodes.shape(f"shape/heads_first_{depth}", [-1, tokens, depth]))


def _tables(nodes: Nodes, rotation: Rotation, tokens: int, rows: int, *, apart: bool) -> tuple[str, str]:
    """Cosines and signed sines of the first ``rows`` tokens, one for all blocks that turn alike; masked tokens are not turned."""
    layout = nodes.form.attention
    place = 1 if layout == "rank4" or apart else 0  # of the frames' axis

    def table(kind: str, values: Tensor, still: float) -> str:
        padded = F.pad(values, (0, 0, 0, max(0, tokens - values.shape[1])), value=still)[:, :rows]
        shaped = padded if layout == "rank3" and not apart else padded.unsqueeze(place)
        return nodes.constant(f"rotary/{digest}/{kind}_{rows}", shaped)

    digest = _digest(rotation)
    return table("cosines", rotation.cosines, 1.0), table("sines", rotation.sines, 0.0)


def _mean_tables(
    nodes: Nodes, rotation: Rotation, places: str, tokens: int, rows: int, *, apart: bool
) -> tuple[str, str]:  # fmt: skip
    """The same of tokens that stand for several: means over those that ``places`` [N, tokens, all tokens] says."""
    alike, depth = len(rotation.cosines) == 1, rotation.cosines.shape[-1]
    flat = nodes.form.attention == "rank3" and not apart  # one frame: [heads, T, head_dim]
    frames_second = nodes.form.attention == "rank4" or apart  # [heads, N, T, head_dim], else [N, heads, T, head_dim]

    def table(kind: str, values: Tensor) -> str:
        name = f"rotary/{_digest(rotation)}/{kind}/{places}"
        if name not in nodes.made:
            nodes.made[name] = mean(name, kind, values)
        if f"{name}/{rows}" not in nodes.made:
            nodes.made[f"{name}/{rows}"] = nodes.first_tokens(nodes.made[name], rows, tokens, f"{name}/{rows}", 1 if flat else 2)
        return nodes.made[f"{name}/{rows}"]

    def mean(name: str, kind: str, values: Tensor) -> str:
        values, shares = values[0] if alike else values[:, None] if frames_second else values, places
        if not alike and not flat and not frames_second:
            shape = nodes.shape(f"shape/shares_{tokens}", [-1, 1, tokens, values.shape[-2]])
            shares = nodes.node("Reshape", f"{name}/shares", places, shape)
        found = nodes.node("MatMul", name, shares, nodes.constant(f"rotary/{_digest(rotation)}/{kind}", values))
        if not alike or flat:
            return found
        sizes = [1, -1, tokens, depth] if frames_second else [-1, 1, tokens, depth]
        return nodes.node("Reshape", name, found, nodes.shape(f"shape/table_{tokens}_{depth}", sizes))

    return table("cosines", rotation.cosines), table("sines", rotation.sines)


def _digest(rotation: Rotation) -> str:
    return hashlib.sha256(rotation.frequencies.numpy().tobytes()).hexdigest()[:8]
