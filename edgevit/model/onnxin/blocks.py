"""Blocks: branches that are added to the residual stream, and the weights in each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgevit.model.onnxin.matrix import behind_norm, per_channel, separated
from edgevit.model.onnxin.pieces import Layer, Parts, behind, described, tensor, vector
from edgevit.model.onnxin.turning import is_turned, turned
from edgevit.model.onnxin.values import (
    Activated,
    Array,
    Linear,
    Matrix,
    MisfitError,
    Mix,
    Norm,
    Operand,
    Patches,
    Pixels,
    Product,
    Root,
    Sum,
    View,
)
from edgevit.vitconfig import BlockConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class Branch:
    """What one sum adds to the stream."""

    total: Sum
    stream: Matrix
    """What it is added to."""
    added: Matrix


def branches(stream: Root) -> list[Branch]:
    """All that is added up to ``stream``, the first one first."""
    found: list[Branch] = []
    while isinstance(stream, Sum):
        stream_side, added = _sides(stream)
        found.append(Branch(total=stream, stream=stream_side, added=added))
        stream = stream_side.root
    if isinstance(stream, Norm) and isinstance(stream.source, Matrix) and isinstance(stream.source.root, Sum):
        msg = f"norms stand behind the sums ({stream.name!r}), so this is a post-norm transformer, and edgevit has pre-norm ones"
        raise MisfitError(msg)
    return found[::-1]


def _sides(total: Sum) -> tuple[Matrix, Matrix]:
    """The stream, and what is added to it."""
    for stream, added in ((total.a, total.b), (total.b, total.a)):
        if isinstance(stream.root, Sum) and not isinstance(added.root, Sum):
            return stream, added
    for stream, added in ((total.a, total.b), (total.b, total.a)):
        if _is_embedding(stream.root) and not _is_embedding(added.root):
            return stream, added
    if isinstance(total.a.root, Norm) and isinstance(total.b.root, Linear):
        return total.a, total.b
    if isinstance(total.b.root, Norm) and isinstance(total.a.root, Linear):
        return total.b, total.a
    if isinstance(total.a.root, Sum) and isinstance(total.b.root, Sum):
        msg = f"a sum of two sums ({total.name!r}): branches beside each other"
        raise MisfitError(msg)
    msg = f"a sum of {described(total.a.root)} and {described(total.b.root)}"
    raise MisfitError(msg)


def _is_embedding(root: Root) -> bool:
    while isinstance(root, Norm) and isinstance(root.source, Matrix):
        root = root.source.root
    return isinstance(root, Patches | Pixels)


def put_blocks(
    parts: Parts, found: list[Branch], rotary: list[tuple[int, Operand, Operand]]
) -> tuple[tuple[BlockConfig, ...], int]:
    """Store the weights of all branches; returns the widths of blocks, and head_dim. ``rotary`` gets what rotary positions turn.

    Raises MisfitError that names the block.
    """
    blocks: list[dict[str, int]] = []
    dims: set[int] = set()
    last: tuple[int, str] | None = None
    for branch in found:
        attention = _attends(branch.added.root)
        if attention or not blocks or "hidden" in blocks[-1]:
            blocks.append({})
        number = len(blocks) - 1
        what = f"block {number}, {'attention' if attention else 'MLP'}"
        try:
            _require_plain(branch)
            if last is not None:
                add_to_stream(parts, branch.stream.shift, *last)
            last = number, "heads" if attention else "hidden"
            if attention:
                heads, dim = _put_attention(parts, number, branch, rotary)
                blocks[number]["heads"] = heads
                dims.add(dim)
            else:
                blocks[number]["hidden"] = _put_mlp(parts, number, branch)
        except MisfitError as misfit:
            msg = f"{what}: {misfit}"
            raise MisfitError(msg) from misfit
    if len(dims) != 1:
        msg = f"blocks with heads of {sorted(dims)} channels" if dims else "there is no block with attention"
        raise MisfitError(msg)
    _complete(parts, blocks)
    return tuple(BlockConfig(heads=block.get("heads", 0), hidden=block.get("hidden", 0)) for block in blocks), dims.pop()


def _require_plain(branch: Branch) -> None:
    m = branch.stream
    if isinstance(m.root, Sum) and ((m.scale != 1).any() or not m.plain_rows or not m.plain_columns):
        msg = "the stream is scaled or rearranged in front of it"
        raise MisfitError(msg)


def add_to_stream(parts: Parts, shift: Array, number: int, kind: str) -> None:
    """What an exporter adds to the stream behind a sum belongs to the bias of that sum's branch."""
    if not shift.any():
        return
    name = f"blocks.{number}.{'proj' if kind == 'heads' else 'fc2'}.bias"
    parts.state[name] = tensor(parts.state[name].double().numpy() + vector(shift, "what is added to the stream"))


def _attends(root: Root) -> bool:
    """Whether a branch goes through a softmax of scores, which is looked for in its last few layers."""
    for _ in range(4):
        if isinstance(root, Mix):
            return True
        source = getattr(root, "source", None)
        if not isinstance(source, Matrix):
            return False
        root = source.root
    return isinstance(root, Mix)


def _complete(parts: Parts, blocks: list[dict[str, int]]) -> None:
    """What a block lacks is a bias of zero; biases of queries, keys and values are there in all blocks or in none."""
    width = next(iter(parts.state.values())).shape[0]
    for number, block in enumerate(blocks):
        for part, layer_name in (("heads", "proj"), ("hidden", "fc2")):
            if part not in block:
                parts.state[f"blocks.{number}.{layer_name}.bias"] = torch.zeros(width)
    biases = [name for name in parts.state if name.endswith(".qkv.bias")]
    if not any(parts.state[name].any() for name in biases):
        for name in biases:
            del parts.state[name]
    biased = [number for number, _ in enumerate(blocks) if f"blocks.{number}.score_bias" in parts.state]
    if biased:
        shape = parts.state[f"blocks.{biased[0]}.score_bias"].shape
        for number, block in enumerate(blocks):
            if "heads" in block:
                parts.state.setdefault(f"blocks.{number}.score_bias", torch.zeros(block["heads"], *shape[1:]))


def _read_norm(parts: Parts, target: str, layers: list[tuple[Layer, Matrix]], branch: Branch) -> None:
    """The norm that layers of a branch read, stored as ``target``; they may read the stream itself."""
    first = layers[0][0].source
    for found, m in layers:
        if found.source is not first:
            msg = "its layers read different tensors"
            raise MisfitError(msg)
        _require_all_rows(found.rows, m)
    if not isinstance(first, Norm):
        if first is not branch.stream.root:
            _not_the_stream(first, branch)
        return
    source = first.source
    if not isinstance(source, Matrix) or source.root is not branch.stream.root:
        _not_the_stream(first, branch)
    assert isinstance(source, Matrix)
    if not _same_stream(source, branch.stream):
        msg = f"its norm ({first.name!r}) reads the stream in another form than its sum adds to"
        raise MisfitError(msg)
    affine = [m.root.source for _, m in layers if isinstance(m.root, Linear)]
    if any(not (np.array_equal(a.scale, affine[0].scale) and np.array_equal(a.shift, affine[0].shift)) for a in affine):
        msg = "its layers read norms with different weights"
        raise MisfitError(msg)
    parts.put_norm(target, first, vector(affine[0].scale, "a norm's weight"), vector(affine[0].shift, "a norm's bias"))


def _not_the_stream(source: Root, branch: Branch) -> None:
    inner = source.source.root if isinstance(source, Norm) and isinstance(source.source, Matrix) else source
    if isinstance(inner, Sum | Patches):
        added = branch.stream.root.name
        msg = f"it reads {inner.name!r}, and is added to {added!r}: blocks beside each other, or norms behind sums"
    else:
        msg = f"it reads {described(inner)}, and not the residual stream"
    raise MisfitError(msg)


def _same_stream(a: Matrix, b: Matrix) -> bool:
    if not np.array_equal(a.rows, b.rows) or not np.array_equal(a.columns, b.columns):
        return False
    return _equal(a.shift, b.shift) and _equal(a.scale, b.scale)


def _equal(a: Array, b: Array) -> bool:
    shape = np.broadcast_shapes(a.shape, b.shape)
    return a is b or np.array_equal(np.broadcast_to(a, shape), np.broadcast_to(b, shape))


def _require_all_rows(rows: Array, m: Matrix) -> None:
    if not np.array_equal(rows, np.arange(len(rows))) and len(np.unique(rows)) != len(rows):
        msg = f"{described(m.root)} reads tokens in an order that no ViT has"
        raise MisfitError(msg)


def _put_written(parts: Parts, name: str, branch: Branch) -> tuple[Root, Layer]:
    """The layer that writes to the stream, and the norm in front of it (sub-LN) as ``name``; returns what that reads."""
    if isinstance(branch.added.root, Norm):
        msg = f"a norm stands between its last layer and the sum ({branch.added.root.name!r})"
        raise MisfitError(msg)
    found = behind(branch.added, "its last layer")
    if isinstance(found.source, Norm):
        m = found.source.source
        if not isinstance(m, Matrix):
            msg = "a norm across heads in front of its last layer"
            raise MisfitError(msg)
        if not (m.scale == 1).all() or m.shift.any() or not m.plain_columns:
            msg = "a norm of what is scaled or rearranged in front of its last layer"
            raise MisfitError(msg)
        root = branch.added.root
        assert isinstance(root, Linear)
        parts.put_norm(
            name, found.source, vector(root.source.scale, "a norm's weight"), vector(root.source.shift, "a norm's bias")
        )
        return m.root, found
    return found.source, found


def _put_mlp(parts: Parts, number: int, branch: Branch) -> int:
    target = f"blocks.{number}"
    inner, last = _put_written(parts, f"{target}.mlp_norm", branch)
    gate: Matrix | None = None
    if isinstance(inner, Product):
        gated, value = (inner.a, inner.b) if isinstance(inner.a.root, Activated) else (inner.b, inner.a)
        gate, inner = value, gated.root
        if not isinstance(inner, Activated) or not gated.plain:
            msg = f"a gate without an activation: {described(inner)}"
            raise MisfitError(msg)
    if not isinstance(inner, Activated):
        msg = f"its last layer reads {described(inner)}, where an activation is expected"
        raise MisfitError(msg)
    if inner.kind in ("sigmoid", "tanh"):
        msg = f"the activation {inner.kind}"
        raise MisfitError(msg)
    parts.activations.append(inner.kind)
    sources = [inner.source] if gate is None else [inner.source, gate]
    layers = [(behind(m, "its first layer"), m) for m in sources]
    _read_norm(parts, f"{target}.norm2", layers, branch)
    parts.put(
        f"{target}.fc1",
        np.concatenate([found.weight for found, _ in layers]),
        np.concatenate([found.bias for found, _ in layers]),
    )
    parts.put(f"{target}.fc2", last.weight, last.bias)
    return last.weight.shape[1]


def _put_attention(parts: Parts, number: int, branch: Branch, rotary: list[tuple[int, Operand, Operand]]) -> tuple[int, int]:
    target = f"blocks.{number}"
    mix, last = _put_written(parts, f"{target}.attention_norm", branch)
    if not isinstance(mix, Mix):
        msg = f"its last layer reads {described(mix)}, where heads are expected"
        raise MisfitError(msg)
    scores = mix.weights.scores
    q, k, v = scores.queries, scores.keys, mix.values
    if not q.heads == k.heads == v.heads or q.head_dim != k.head_dim:
        msg = f"{q.heads} heads of queries, {k.heads} of keys, {v.heads} of values"
        raise MisfitError(msg)
    if v.head_dim != q.head_dim or q.tokens != k.tokens:
        msg = "queries and values of other sizes than keys"
        raise MisfitError(msg)
    layers = []
    for name, side in (("query", q), ("key", k), ("value", v)):
        layers.append(_projected(parts, target, name, side))
    _scale_scores(parts, target, layers, mix.weights.scale, q)
    if mix.weights.bias is not None:
        parts.state[f"{target}.score_bias"] = tensor(np.broadcast_to(mix.weights.bias, (q.heads, q.tokens, q.tokens)))
    _read_norm(parts, f"{target}.norm1", [(found, m) for found, m in layers], branch)
    parts.state[f"{target}.qkv.weight"] = tensor(np.concatenate([found.weight for found, _ in layers]))
    parts.state[f"{target}.qkv.bias"] = tensor(np.concatenate([found.bias for found, _ in layers]))
    parts.put(f"{target}.proj", last.weight, last.bias)
    if any(is_turned(side.view) for side in (q, k) if side.view is not None):
        rotary.append((number, q, k))
    return q.heads, q.head_dim


def _projected(parts: Parts, target: str, name: str, side: Operand) -> tuple[Layer, Matrix]:
    """The Linear of queries, keys or values, and the norm behind it where there is one."""
    view = side.view
    if view is None:
        msg = f"{name} that do not depend on the image"
        raise MisfitError(msg)
    view = turned(view, side.heads).view if is_turned(view) else view
    if isinstance(view.root, Norm) and isinstance(view.root.source, View):
        if name == "value":
            msg = "a norm of values"
            raise MisfitError(msg)
        _put_head_norm(parts, f"{target}.{name}_norm", view, view.root, side)
        view = behind_norm(view, view.root)
        m = _of_heads(view)
    else:
        m = _of_heads(view)
    if not isinstance(m.root, Linear):
        msg = f"{name} are made by {described(m.root)}, where a Linear is expected"
        raise MisfitError(msg)
    return behind(m, f"the Linear of {name}"), m


def _of_heads(view: View) -> Matrix:
    channels = view.shape[-1]
    rows, columns = separated(view, view.terms[0], channels)
    return Matrix(view.root, rows, columns, per_channel(view.terms[0].scale, channels), per_channel(view.shift, channels))


def _put_head_norm(parts: Parts, name: str, view: View, norm: Norm, side: Operand) -> None:
    """The norm of queries or keys, of the channels of a head in the order of ``view``."""
    weight, bias = (vector(per_channel(array, view.shape[-1]), "a norm's weight").reshape(side.heads, side.head_dim)
                    for array in (view.terms[0].scale, view.shift))  # fmt: skip
    order = view.root.places(view.indices(view.terms[0]))[1][0].reshape(side.heads, side.head_dim)
    if (weight != weight[0]).any() or (bias != bias[0]).any() or not np.array_equal(np.sort(order[0]), np.arange(side.head_dim)):
        msg = "norms of queries and keys that differ by head"
        raise MisfitError(msg)
    parts.put_norm(name, norm, weight[0], bias[0])


def _scale_scores(parts: Parts, target: str, layers: list[tuple[Layer, Matrix]], scale: Array, q: Operand) -> None:
    """Bring queries and keys to scores that are divided by the root of head_dim, as `Vit` divides them."""
    factor = np.broadcast_to(scale * np.sqrt(q.head_dim), (q.heads,)).copy()
    normed = f"{target}.query_norm.weight" in parts.state
    if normed:
        names = [f"{target}.query_norm.weight", f"{target}.query_norm.bias"]
        if (factor != factor[0]).any():
            msg = "scores of normed queries that are scaled by head"
            raise MisfitError(msg)
        if abs(factor[0] - 1) > 1e-6:
            for name in names:
                parts.state[name] *= float(factor[0])
        return
    whole = [value for _, m in layers[:2] if (value := _uniform(m.scale)) is not None and value > 0]
    if len(whole) == 2 and (factor == factor[0]).all():
        # Scales of all queries and keys are no part of their weights, but of that division.
        factor *= whole[0] * whole[1]
        for i, value in enumerate(whole):
            m = layers[i][1]
            bare = Matrix(m.root, m.rows, m.columns, np.ones_like(m.scale), m.shift / value)
            layers[i] = behind(bare, "queries or keys"), m
    if np.abs(factor - 1).max() > 1e-6:
        found, m = layers[0]
        by_row = np.repeat(factor, q.head_dim)
        layers[0] = Layer(weight=(found.weight * by_row[:, None]).astype(np.float32), bias=found.bias * by_row,
                          source=found.source, rows=found.rows), m  # fmt: skip


def _uniform(scale: Array) -> float | None:
    return float(scale.reshape(-1)[0]) if scale.size and (scale == scale.reshape(-1)[0]).all() else None
