"""A ViT out of the symbols that a walk left: from the output along the residual stream to the pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from edgevit.model.onnxin.attention_pool import put_attention_pool
from edgevit.model.onnxin.blocks import Branch, add_to_stream, branches, put_blocks
from edgevit.model.onnxin.curves import as_view
from edgevit.model.onnxin.embedding import Embedding, as_gray, put_embedding
from edgevit.model.onnxin.head import Head, Pooled, pooling_of, put_head, put_pooled
from edgevit.model.onnxin.matrix import matrix
from edgevit.model.onnxin.pieces import Parts, described
from edgevit.model.onnxin.values import (
    Activated,
    Matrix,
    MisfitError,
    Norm,
    Operand,
    Probabilities,
    Sum,
    Unknown,
    Value,
    View,
)
from edgevit.model.onnxin.walk import Walk
from edgevit.vitconfig import VitConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class Recognised:
    """A model as a graph has it, before it is proved."""

    config: VitConfig
    parts: Parts
    source: View
    """Of the pixels, as the patch embedding takes them."""
    before: str
    """The tensor that the patch embedding reads; "" if it is no tensor of the graph."""
    output: str
    """The tensor that is compared: of logits, features or tokens."""
    gives: str
    """What that is: logits, features, tokens."""
    ending: str
    """What stands behind logits: softmax, sigmoid, or nothing."""
    streams: tuple[tuple[str, str], ...]
    """What each sum of the stream is, for people, and its tensor."""


def recognised(walk: Walk, outputs: list[str], *, headless: bool) -> Recognised:
    """The ViT in ``walk``, whose graph has ``outputs``. Raises MisfitError that says what did not fit."""
    first: MisfitError | None = None
    for name in _preferred(outputs):
        try:
            return _classifier(walk, name, headless=headless)
        except MisfitError as misfit:
            first = first or misfit
    if headless:
        for name in outputs:
            try:
                return _backbone(walk, name, walk.values.get(name))
            except MisfitError:
                continue
        for name, view in reversed(list(walk.norms.items())):
            try:
                return _backbone(walk, name, view)
            except MisfitError as misfit:
                first = first or misfit
    assert first is not None
    raise first


def _preferred(outputs: list[str]) -> list[str]:
    return sorted(outputs, key=lambda name: "logits" not in name.lower())


def _classifier(walk: Walk, name: str, *, headless: bool) -> Recognised:
    value = walk.values.get(name, Unknown(why="an output that nothing makes"))
    view, ending = _flat(as_view(value)), ""
    m = matrix(view)
    if isinstance(m.root, Probabilities):
        name, ending, m = m.root.before, "softmax", m.root.source
    elif isinstance(m.root, Activated) and m.root.kind == "sigmoid" and m.plain:
        name, ending, m = _in_front_of(walk, name, "Sigmoid"), "sigmoid", m.root.source
    if len(m.rows) != walk.images:
        msg = f"its output {name!r} is of {len(m.rows) // walk.images} rows an image, not one"
        raise MisfitError(msg)
    parts = Parts(images=walk.images)
    head = put_head(parts, m, headless=headless)
    gives = "features" if head.headless else "logits"
    return _whole(walk, parts, head, name=name, gives=gives, ending=ending)


def _in_front_of(walk: Walk, name: str, operator: str) -> str:
    """The tensor that ``operator``, at the end, is given. Raises MisfitError if it is written out in other operators."""
    for _ in range(8):
        node = walk.makers.get(name)
        if node is None or node.op_type not in (operator, "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            break
        name = node.input[0]
        if node.op_type == operator:
            return name
    msg = f"an end that does what {operator} does, in operators of its own"
    raise MisfitError(msg)


def _flat(view: View) -> View:
    """Without axes of length 1 behind the first."""
    shape = (view.shape[0], *(size for size in view.shape[1:] if size != 1)) if view.shape else (1,)
    return view.reshaped(shape if len(shape) > 1 else (*shape, 1))


def _backbone(walk: Walk, name: str, value: Value | None) -> Recognised:
    """Tokens behind the last norm: their class token is what is pooled, or their mean where there is none."""
    m = matrix(as_view(value))
    if not isinstance(m.root, Norm) or not isinstance(m.root.source, Matrix):
        msg = f"its output {name!r} is {described(m.root)}"
        raise MisfitError(msg)
    source = m.root.source
    if not isinstance(source.root, Sum) or not source.plain_rows or not m.plain_rows:
        msg = f"its output {name!r} is no norm of all tokens"
        raise MisfitError(msg)
    width = source.root.channels
    ones, zeros = np.ones(width), np.zeros(width)
    pooled = Pooled(pooling=("class",), stream=source.root, shift=source.shift, place="before_pooling", norm=m.root,
                    weight=m.scale[0], bias=m.shift[0], averaged=None, scale=ones, after=zeros)  # fmt: skip
    parts = Parts(images=walk.images)
    parts.state["head.weight"], parts.state["head.bias"] = torch.eye(width), torch.zeros(width)
    return _whole(walk, parts, Head(pooled=pooled, classes=width, headless=True), name=name, gives="tokens", ending="")


def _whole(walk: Walk, parts: Parts, head: Head, *, name: str, gives: str, ending: str) -> Recognised:
    pooled = head.pooled
    found = branches(pooled.stream)
    if not found:
        msg = f"no residual stream: the head reads {described(pooled.stream)}"
        raise MisfitError(msg)
    embedding = put_embedding(parts, found[0].stream)
    rotary: list[tuple[int, Operand, Operand]] = []
    blocks, head_dim = put_blocks(parts, found, rotary)
    if pooled.shift.any():
        last = len(blocks) - 1
        add_to_stream(parts, pooled.shift, last, "hidden" if f"blocks.{last}.fc2.weight" in parts.state else "heads")
    if gives == "tokens" and not embedding.prefix:
        pooled = replace(pooled, pooling=("mean",))
    put_pooled(parts, pooled, embedding.prefix, embedding.tokens)
    heads, hidden = (0, 0) if pooled.attended is None else put_attention_pool(parts, pooled.attended)
    pooled = replace(pooled, pooling=pooling_of(pooled, embedding.prefix))
    source, before = embedding.patches.source, embedding.patches.before
    channels = embedding.patches.weight.shape[1]
    if (gray := as_gray(parts, source)) is not None:
        source, before, channels = gray, "", 1
    config = _config(parts, head, pooled, embedding, VitConfig(
        image_size=_size(embedding), patch_size=embedding.patches.weight.shape[2], width=embedding.patches.shape[1],
        head_dim=head_dim, blocks=blocks, classes=head.classes, channels=channels,
        pool_heads=heads, pool_hidden=hidden, pooling=pooled.pooling if heads else ("mean",),
    ))  # fmt: skip
    if rotary:
        from edgevit.model.onnxin.turning import put_rotary

        config = put_rotary(parts, config, rotary)
    return Recognised(
        config=config, parts=parts, source=source, before=before, output=name, gives=gives,
        ending=ending, streams=tuple(_streams(found)),
    )  # fmt: skip


def _streams(found: list[Branch]) -> list[tuple[str, str]]:
    return [(f"sum {number + 1} of {len(found)}", branch.total.name) for number, branch in enumerate(found)]


def _size(embedding: Embedding) -> tuple[int, int]:
    """Of the image that the patch embedding takes. Raises MisfitError unless whole patches cover it."""
    height, width = embedding.patches.source.shape[2:]
    patch = embedding.patches.weight.shape[2]
    if height % patch or width % patch:
        msg = f"images of {height}x{width}, which patches of {patch} pixels do not cover"
        raise MisfitError(msg)
    return height, width


def _config(parts: Parts, head: Head, pooled: Pooled, embedding: Embedding, plain: VitConfig) -> VitConfig:
    state = parts.state
    kinds, eps = sorted(set(parts.activations)), max(set(parts.eps), key=parts.eps.count) if parts.eps else 1e-6
    if len(kinds) > 1:
        msg = f"blocks with different activations ({', '.join(kinds)})"
        raise MisfitError(msg)
    if len(set(parts.rms)) > 1:
        msg = "LayerNorm and RMSNorm beside each other"
        raise MisfitError(msg)
    if plain.channels not in (1, 3):
        msg = f"images of {plain.channels} channels"
        raise MisfitError(msg)
    distilled = "distillation" in pooled.pooling
    prefix = embedding.prefix

    def everywhere(name: str, part: str) -> bool:
        there = [f"blocks.{number}.{name}" in state for number, block in enumerate(plain.blocks) if getattr(block, part)]
        if any(there) and not all(there):
            msg = f"{name} in some blocks and not in others"
            raise MisfitError(msg)
        return any(there)

    norms = {
        name: everywhere(f"{name}.weight", part)
        for name, part in (
            ("query_norm", "heads"),
            ("attention_norm", "heads"),
            ("mlp_norm", "hidden"),
            ("norm1", "heads"),
            ("norm2", "hidden"),
        )
    }
    gated = {
        len(state[f"blocks.{number}.fc1.weight"]) == 2 * block.hidden for number, block in enumerate(plain.blocks) if block.hidden
    }
    if len(gated) > 1 or norms["norm1"] != norms["norm2"]:
        msg = "blocks that are not all of one kind"
        raise MisfitError(msg)
    return replace(
        plain,
        class_token=prefix > 0,
        distillation_token=distilled,
        registers=max(0, prefix - 1 - distilled),
        position_embedding=embedding.positions,
        qkv_bias=any(name.endswith("qkv.bias") for name in state),
        activation=kinds[0] if kinds else "gelu",
        block_norm=norms["norm1"],
        embedding_norm=embedding.embedding_norm,
        patch_norm=embedding.patch_norm,
        rms_norm=parts.rms[0] if parts.rms else False,
        score_bias=any(name.endswith("score_bias") for name in state),
        gated=gated == {True},
        query_norm=norms["query_norm"],
        attention_norm=norms["attention_norm"],
        mlp_norm=norms["mlp_norm"],
        projected=head.projected,
        unit_features=head.unit,
        final_norm=pooled.place,
        norm_eps=eps,
        pooling=pooled.pooling,
    )  # fmt: skip
