"""Attention pooling: a query that is the same for every image attends to tokens, then an MLP (SigLIP, arXiv 2106.04560)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.pieces import Layer, Parts, behind, described, layer, tensor, vector
from edgevit.model.onnxin.values import Activated, Array, Linear, Matrix, MisfitError, Mix, Norm, Operand, Sum


@dataclass(frozen=True, eq=False, kw_only=True)
class Attended:
    """The parts of attention pooling."""

    mix: Mix
    query: Array
    """float64 [heads * head_dim]"""
    key: Layer
    value: Layer
    proj: Layer
    norm: Norm
    weight: Array
    bias: Array
    fc1: Layer
    fc2: Layer
    activation: str
    tokens: Matrix
    """What keys are made of."""


def attention_pool(total: Sum) -> Attended | None:
    """The parts, if ``total`` is the last sum of one; None if it is none. Raises MisfitError for one of another kind."""
    for pooled, added in ((total.a, total.b), (total.b, total.a)):
        if isinstance(pooled.root, Linear) and isinstance(pooled.root.source.root, Mix):
            mix = pooled.root.source.root
            if mix.weights.scores.queries.constant is not None:
                return _parts(mix, pooled, added)
    return None


def _parts(mix: Mix, pooled: Matrix, added: Matrix) -> Attended:
    scores = mix.weights.scores
    query = scores.queries
    if query.tokens != 1 or query.constant is None:
        msg = f"attention pooling by {query.tokens} queries"
        raise MisfitError(msg)
    key, tokens = _of(scores.keys)
    value, others = _of(mix.values)
    if others.root is not tokens.root or not np.array_equal(key.rows, value.rows) or mix.weights.bias is not None:
        msg = "attention pooling whose keys and values are of different tokens"
        raise MisfitError(msg)
    fc2 = layer(added, "the last layer of attention pooling")
    if not isinstance(fc2.source, Activated):
        msg = f"an MLP of attention pooling that reads {described(fc2.source)}"
        raise MisfitError(msg)
    first = fc2.source.source
    fc1 = behind(first, "the first layer of attention pooling's MLP")
    if not isinstance(fc1.source, Norm) or not isinstance(fc1.source.source, Matrix) or not isinstance(first.root, Linear):
        msg = f"an MLP of attention pooling behind {described(fc1.source)}"
        raise MisfitError(msg)
    inner = fc1.source.source
    if inner.root is not pooled.root or not np.array_equal(inner.shift, pooled.shift) or (inner.scale != pooled.scale).any():
        msg = "an MLP of attention pooling that reads something else than is pooled"
        raise MisfitError(msg)
    factor = np.repeat(np.broadcast_to(mix.weights.scale * np.sqrt(query.head_dim), (query.heads,)), query.head_dim)
    return Attended(
        mix=mix, query=query.constant.reshape(-1).astype(np.float64) * factor, key=key, value=value,
        proj=layer(pooled, "attention pooling"), norm=fc1.source, weight=vector(first.root.source.scale, "a norm's weight"),
        bias=vector(first.root.source.shift, "a norm's bias"), fc1=fc1, fc2=fc2, activation=fc2.source.kind, tokens=tokens,
    )  # fmt: skip


def _of(side: Operand) -> tuple[Layer, Matrix]:
    """The Linear of keys or values, and what it reads."""
    if side.view is None:
        msg = "attention pooling over constants"
        raise MisfitError(msg)
    m = matrix(side.view)
    found = behind(m, "attention pooling")
    assert isinstance(m.root, Linear)
    return found, m.root.source


def put_attention_pool(parts: Parts, found: Attended) -> tuple[int, int]:
    """Store it; returns heads and hidden neurons. The query is all bias: what it was made of is no part of the graph."""
    width, name = len(found.proj.weight), "attention_pool"
    if len(found.query) != width:
        msg = f"attention pooling of {len(found.query)} channels for {width}"
        raise MisfitError(msg)
    parts.state[f"{name}.probe"] = torch.zeros(width)
    parts.put(f"{name}.query", np.zeros((width, width)), found.query)
    pairs = (found.key, found.value)
    parts.state[f"{name}.key_value.weight"] = tensor(np.concatenate([pair.weight for pair in pairs]))
    parts.state[f"{name}.key_value.bias"] = tensor(np.concatenate([pair.bias for pair in pairs]))
    parts.put(f"{name}.proj", found.proj.weight, found.proj.bias)
    parts.put_norm(f"{name}.norm", found.norm, found.weight, found.bias)
    parts.put(f"{name}.fc1", found.fc1.weight, found.fc1.bias)
    parts.put(f"{name}.fc2", found.fc2.weight, found.fc2.bias)
    parts.activations.append(found.activation)
    return found.mix.values.heads, len(found.fc1.weight)
