"""The end of a ViT: which tokens are pooled, the norm around that, projection and head."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from edgevit.model.onnxin.attention_pool import Attended, attention_pool
from edgevit.model.onnxin.pieces import Layer, Parts, described, layer, tensor, vector
from edgevit.model.onnxin.values import Activated, Array, Joined, Linear, Matrix, Mean, MisfitError, Norm, Root, Sum, Unit


@dataclass(frozen=True, eq=False, kw_only=True)
class Pooled:
    """Features: ``pooling`` and ``place`` as `VitConfig` has them, less the prefix tokens, which are not known yet."""

    pooling: tuple[str, ...]
    stream: Root
    shift: Array
    """float64 [width], of the stream as it is read."""
    place: str
    norm: Norm | None
    weight: Array
    bias: Array
    averaged: Array | None
    """Tokens that are averaged, of the first image."""
    scale: Array
    """float64 [features]: of the features, behind all norms."""
    after: Array
    """float64 [features]: what is added to them."""
    attended: Attended | None = None
    """Attention pooling."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Head:
    """What is behind the blocks."""

    pooled: Pooled
    classes: int
    projected: int = 0
    unit: bool = False
    headless: bool = False
    distilled: bool = False


def put_head(parts: Parts, m: Matrix, *, headless: bool) -> Head:
    """Store the head that ``m`` [images, classes] shows. Raises MisfitError if it is none."""
    if isinstance(m.root, Sum):
        return _put_averaged(parts, m)
    if isinstance(m.root, Linear):
        return _put_linear(parts, m)
    if not headless:
        msg = "no head: its output is " + described(m.root)
        raise MisfitError(msg)
    return _put_features(parts, m)


def _put_linear(parts: Parts, m: Matrix) -> Head:
    assert isinstance(m.root, Linear)
    source = m.root.source
    if isinstance(source.root, Activated):
        msg = f"a layer of its own between pooling and head ({source.root.kind} of {described(source.root.source.root)})"
        raise MisfitError(msg)
    if isinstance(source.root, Unit):
        inner = source.root.source
        projected, pooled = 0, None
        if isinstance(inner.root, Linear):
            pooled = pool(inner.root.source, parts.images)
            weight, bias = _absorbed(_folded_only(inner), pooled)
            parts.put("projection", weight, bias)
            projected = len(weight)
        else:
            pooled = pool(inner, parts.images)
            _require_bare(pooled)
        last = layer(m, "the head")
        parts.put("head", last.weight, last.bias)
        return Head(pooled=pooled, classes=len(last.weight), projected=projected, unit=True)
    if isinstance(source.root, Linear):
        pooled = pool(source.root.source, parts.images)
        weight, bias = _absorbed(_folded_only(source), pooled)
        parts.put("projection", weight, bias)
        bare = _folded_only(m)  # the projection has its own bias
        parts.put("head", bare.weight, bare.bias)
        return Head(pooled=pooled, classes=len(bare.weight), projected=len(weight))
    pooled = pool(source, parts.images)
    weight, bias = _absorbed(_folded_only(m), pooled)
    parts.put("head", weight, bias)
    return Head(pooled=pooled, classes=len(weight))


def _folded_only(m: Matrix) -> Layer:
    """The Linear without what is in front of it."""
    assert isinstance(m.root, Linear)
    weight = m.root.weight if m.plain_columns else m.root.weight[m.columns]
    scale = vector(m.scale, "a head")
    weight = weight if (scale == 1).all() else (weight * scale[:, None]).astype(np.float32)
    return Layer(weight=weight, bias=vector(m.shift, "a head").copy(), source=m.root.source.root, rows=m.rows)


def _absorbed(bare: Layer, pooled: Pooled) -> tuple[Array, Array]:
    """Weight and bias of a Linear on the features as `Vit` has them, which have no scale and shift of their own."""
    weight = bare.weight
    bias = bare.bias
    if pooled.after.any():
        bias = bias + weight.astype(np.float64) @ pooled.after
    if not (pooled.scale == 1).all():
        weight = (weight * pooled.scale).astype(np.float32)
    return weight, bias


def _require_bare(pooled: Pooled) -> None:
    if pooled.after.any() or not (pooled.scale == 1).all():
        msg = "features that are scaled before they get length 1"
        raise MisfitError(msg)


def _put_features(parts: Parts, m: Matrix) -> Head:
    """No head: the features themselves."""
    unit = isinstance(m.root, Unit)
    if isinstance(m.root, Unit):
        if not m.plain:
            msg = "features of length 1 that are scaled"
            raise MisfitError(msg)
        m = m.root.source
    if isinstance(m.root, Activated):
        msg = f"its output is {described(m.root)}, a layer of its own behind pooling"
        raise MisfitError(msg)
    projected = 0
    if isinstance(m.root, Linear):
        pooled = pool(m.root.source, parts.images)
        weight, bias = _absorbed(_folded_only(m), pooled)
        parts.put("projection", weight, bias)
        features = projected = len(weight)
        scale, after = np.ones(features), np.zeros(features)
    else:
        pooled = pool(m, parts.images)
        scale, after = pooled.scale, pooled.after
        features = len(scale)
        if unit:
            _require_bare(pooled)
    parts.state["head.weight"], parts.state["head.bias"] = torch.diag(tensor(scale)), tensor(after)
    return Head(pooled=pooled, classes=features, projected=projected, unit=unit, headless=True)


def _put_averaged(parts: Parts, m: Matrix) -> Head:
    """The sum of a head on the class token and one on the distillation token."""
    assert isinstance(m.root, Sum)
    sides = [m.root.a, m.root.b]
    if not all(isinstance(side.root, Linear) for side in sides):
        msg = f"its output is a sum of {described(sides[0].root)} and {described(sides[1].root)}"
        raise MisfitError(msg)
    pooleds = [pool(side.root.source, parts.images) for side in sides]  # type: ignore[attr-defined]
    order = sorted(range(2), key=lambda i: pooleds[i].pooling != ("class",))
    first, second = (pooleds[i] for i in order)
    if (first.pooling, second.pooling) != (("class",), ("distillation",)) or not _same_norm(first, second):
        msg = f"two heads, on {first.pooling[0]} and {second.pooling[0]}"
        raise MisfitError(msg)
    scale, shift = vector(m.scale, "a head"), vector(m.shift, "a head")
    found = [_absorbed(_folded_only(sides[i]), pooleds[i]) for i in order]
    weight = np.concatenate([weight for weight, _ in found], axis=1) * scale[:, None]
    parts.put("head", weight, sum(bias for _, bias in found) * scale + shift)
    return Head(pooled=_joined_features([first, second]), classes=len(weight), distilled=True)


def pool(m: Matrix, images: int) -> Pooled:
    """What of the stream becomes the features ``m`` [images, features]. Raises MisfitError if that is nothing `Vit` has."""
    root = m.root
    if isinstance(root, Joined):
        return _scaled(_joined_features([pool(_rows(part, m.rows), images) for part in root.parts]), m)
    if isinstance(root, Norm):
        source = root.source
        if not isinstance(source, Matrix):
            msg = "a norm of heads in front of the head"
            raise MisfitError(msg)
        weight, bias = vector(m.scale, "a norm's weight"), vector(m.shift, "a norm's bias")
        if isinstance(source.root, Mean | Joined):
            inner = pool(_rows(source, m.rows), images)
            _require_bare(inner)
            if inner.norm is not None or not m.plain_columns:
                msg = "two norms around pooling"
                raise MisfitError(msg)
            return _with_norm(inner, "after_pooling", root, weight, bias)
        inner = _of_stream(_rows(source, m.rows), images)
        if not m.plain_columns:
            msg = "features in another order than channels"
            raise MisfitError(msg)
        return _with_norm(inner, "before_pooling", root, weight, bias)
    if isinstance(root, Mean):
        return _averaged(m, root, images)
    if isinstance(root, Sum) and (found := attention_pool(root)) is not None:
        return _scaled(_attended(found), m)
    return _of_stream(m, images)


def _averaged(m: Matrix, root: Mean, images: int) -> Pooled:
    source = root.source
    scale, after = vector(m.scale, "features"), vector(m.shift, "features")
    if isinstance(source.root, Norm) and isinstance(source.root.source, Matrix):
        inner = source.root.source
        kept = inner.rows[source.rows[: root.count]]
        return _pooled(inner.root, inner.shift, "before_pooling", source.root, vector(source.scale, "a norm's weight"),
                       vector(source.shift, "a norm's bias"), kept, scale, after)  # fmt: skip
    kept = source.rows[: root.count]
    return _pooled(source.root, source.shift, "none", None, np.ones(0), np.ones(0), kept, scale, after)


def _attended(found: Attended) -> Pooled:
    tokens, width = found.tokens, len(found.proj.weight)
    norm = tokens.root if isinstance(tokens.root, Norm) else None
    stream = tokens if norm is None else norm.source
    if not isinstance(stream, Matrix):
        msg = "attention pooling over heads"
        raise MisfitError(msg)
    rows = stream.rows[found.key.rows]
    weight = vector(tokens.scale, "a norm's weight") if norm else np.ones(0)
    bias = vector(tokens.shift, "a norm's bias") if norm else np.zeros(0)
    place, ones, zeros = "before_pooling" if norm else "none", np.ones(width), np.zeros(width)
    return Pooled(
        pooling=("attention",), stream=stream.root, shift=stream.shift, place=place, norm=norm, weight=weight, bias=bias,
        averaged=rows, scale=ones, after=zeros, attended=found,
    )  # fmt: skip


def _pooled(
    stream: Root, shift: Array, place: str, norm: Norm | None, weight: Array, bias: Array, kept: Array, scale: Array, after: Array
) -> Pooled:
    return Pooled(pooling=("mean",), stream=stream, shift=shift, place=place, norm=norm, weight=weight, bias=bias,
                  averaged=kept, scale=scale, after=after)  # fmt: skip


def _of_stream(m: Matrix, images: int) -> Pooled:
    """One token of the stream."""
    if isinstance(m.root, Linear | Mean | Unit | Activated | Joined):
        msg = f"features made by {described(m.root)}"
        raise MisfitError(msg)
    if len(m.rows) != images or not m.plain_columns:
        msg = f"features of {len(m.rows) // images} tokens"
        raise MisfitError(msg)
    token = int(m.rows[0])
    if token > 1:
        msg = f"the head reads token {token}, neither the class token nor the distillation token"
        raise MisfitError(msg)
    ones, zeros = np.ones(m.root.channels), np.zeros(m.root.channels)
    return Pooled(pooling=("class",) if token == 0 else ("distillation",), stream=m.root, shift=m.shift, place="none", norm=None,
                  weight=ones, bias=zeros, averaged=None, scale=ones, after=zeros)  # fmt: skip


def _rows(m: Matrix, rows: Array) -> Matrix:
    scale = m.scale if len(m.scale) == 1 else m.scale[rows]
    return Matrix(m.root, m.rows[rows], m.columns, scale, m.shift if len(m.shift) == 1 else m.shift[rows])


def _with_norm(inner: Pooled, place: str, norm: Norm, weight: Array, bias: Array) -> Pooled:
    ones, zeros = np.ones(len(weight)), np.zeros(len(weight))
    return replace(inner, place=place, norm=norm, weight=weight, bias=bias, scale=ones, after=zeros)


def _scaled(pooled: Pooled, m: Matrix) -> Pooled:
    if not m.plain_columns:
        msg = "features in another order than channels"
        raise MisfitError(msg)
    scale, shift = vector(m.scale, "features"), vector(m.shift, "features")
    return replace(pooled, scale=pooled.scale * scale, after=pooled.after * scale + shift)


def _same_norm(a: Pooled, b: Pooled) -> bool:
    """Whether two poolings are of one stream, normed alike."""
    if a.stream is not b.stream or a.place != b.place or (a.norm is None) != (b.norm is None):
        return False
    return a.norm is None or (np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias))


def _joined_features(parts: list[Pooled]) -> Pooled:
    first = parts[0]
    if not all(_same_norm(first, part) for part in parts):
        msg = "features of several streams or norms"
        raise MisfitError(msg)
    averaged = next((part.averaged for part in parts if part.averaged is not None), None)
    return Pooled(
        pooling=tuple(name for part in parts for name in part.pooling), stream=first.stream, shift=first.shift, place=first.place,
        norm=first.norm, weight=first.weight, bias=first.bias, averaged=averaged,
        scale=np.concatenate([part.scale for part in parts]), after=np.concatenate([part.after for part in parts]),
    )  # fmt: skip


def put_pooled(parts: Parts, pooled: Pooled, prefix: int, tokens: int) -> None:
    """Store the norm, and see that what is averaged are all patches."""
    if pooled.norm is not None:
        name = "norm" if pooled.place == "before_pooling" else "pooled_norm"
        parts.put_norm(name, pooled.norm, pooled.weight, pooled.bias)
    if pooled.attended is not None:
        _require_attended(pooled, prefix, tokens)
    elif pooled.averaged is not None and not np.array_equal(pooled.averaged, np.arange(prefix, tokens)):
        what = "prefix tokens, too" if len(pooled.averaged) > tokens - prefix else "some patches alone"
        msg = f"the mean is over {what}, not over all patches"
        raise MisfitError(msg)
    if {"class", "distillation"} & set(pooled.pooling) and not prefix:
        msg = "the head reads the first token, and there is no class token"
        raise MisfitError(msg)


def pooling_of(pooled: Pooled, prefix: int) -> tuple[str, ...]:
    """``pooled.pooling``, where attention says over which tokens."""
    if pooled.attended is None or pooled.averaged is None:
        return pooled.pooling
    return ("patch_attention",) if prefix and int(pooled.averaged.min()) == prefix else ("attention",)


def _require_attended(pooled: Pooled, prefix: int, tokens: int) -> None:
    rows = pooled.averaged
    assert rows is not None
    if not any(np.array_equal(rows[: tokens - first], np.arange(first, tokens)) for first in {0, prefix}):
        msg = "attention pooling over some tokens alone"
        raise MisfitError(msg)
