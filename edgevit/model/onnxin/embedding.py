"""The beginning of a ViT: pixels, patches, prefix tokens, positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevit.model.onnxin.pieces import Parts, described, tensor, vector
from edgevit.model.onnxin.values import Array, Matrix, MisfitError, Norm, Patches, Term, View


@dataclass(frozen=True, eq=False, kw_only=True)
class Embedding:
    """What `put_embedding` found beside the weights."""

    patches: Patches
    prefix: int
    tokens: int
    positions: bool
    embedding_norm: bool
    patch_norm: bool


def put_embedding(parts: Parts, m: Matrix) -> Embedding:
    """Store patch embedding, prefix tokens and positions of ``m``, what the first block is given.

    Raises MisfitError for anything else.
    """
    tokens = len(m.rows) // parts.images
    normed = isinstance(m.root, Norm)
    if normed and m.root.source is not None and len(m.scale) == 1 and m.plain_rows and len(m.shift) == 1:  # type: ignore[attr-defined]
        source = m.root.source  # type: ignore[attr-defined]
        assert isinstance(m.root, Norm)
        if not isinstance(source, Matrix):
            msg = "the embedding's norm is one of heads"
            raise MisfitError(msg)
        parts.put_norm("embedding_norm", m.root, vector(m.scale, "a norm's weight"), vector(m.shift, "a norm's bias"))
        inner = _embedded(parts, source, tokens)
        return Embedding(
            patches=inner[0], prefix=inner[1], tokens=tokens, positions=inner[2], embedding_norm=True, patch_norm=False
        )
    if normed:
        patches, prefix, positions = _embedded_behind_norm(parts, m, tokens)
        return Embedding(
            patches=patches, prefix=prefix, tokens=tokens, positions=positions, embedding_norm=False, patch_norm=True
        )
    patches, prefix, positions = _embedded(parts, m, tokens)
    return Embedding(patches=patches, prefix=prefix, tokens=tokens, positions=positions, embedding_norm=False, patch_norm=False)


def _embedded(parts: Parts, m: Matrix, tokens: int) -> tuple[Patches, int, bool]:
    root = m.root
    if isinstance(root, Norm):
        return _embedded_behind_norm(parts, m, tokens)
    if not isinstance(root, Patches):
        msg = f"tokens come of {described(root)}, where the patch embedding, one convolution, is expected"
        raise MisfitError(msg)
    prefix, scale, shift = _tokens(m, tokens)
    _require_raster(m.rows[prefix:tokens], root)
    if root.weight.shape[2] != root.weight.shape[3]:
        msg = f"patches of {root.weight.shape[2]}x{root.weight.shape[3]} pixels, and edgevit has square ones"
        raise MisfitError(msg)
    bias = np.zeros(len(scale)) if root.bias is None else root.bias.astype(np.float64)
    positions = _put_tokens(parts, prefix, shift)
    shared = np.zeros(len(scale)) if positions else shift[-1]
    weight = root.weight if (scale == 1).all() else root.weight * scale[:, None, None, None]
    parts.put("patch_embedding", weight, bias * scale + shared)
    return root, prefix, positions


def _embedded_behind_norm(parts: Parts, m: Matrix, tokens: int) -> tuple[Patches, int, bool]:
    """Patches that get a norm before they get positions and prefix tokens."""
    assert isinstance(m.root, Norm)
    source = m.root.source
    if not isinstance(source, Matrix) or not isinstance(source.root, Patches) or len(source.shift) != 1:
        msg = f"tokens come of a norm of {described(source.root)}, where patches are expected"
        raise MisfitError(msg)
    prefix, scale, shift = _tokens(m, tokens)
    grid = tokens - prefix
    if not np.array_equal(m.rows[prefix:tokens], np.arange(grid)):
        msg = "tokens in an order that no ViT has"
        raise MisfitError(msg)
    _require_raster(source.rows[:grid], source.root)
    inner = vector(source.scale, "patches")
    bias = np.zeros(len(inner)) if source.root.bias is None else source.root.bias
    parts.put("patch_embedding", source.root.weight * inner[:, None, None, None], bias * inner + source.shift[0])
    positions = _put_tokens(parts, prefix, shift)
    parts.put_norm("patch_norm", m.root, scale, np.zeros(len(scale)) if positions else shift[-1])
    return source.root, prefix, positions


def _tokens(m: Matrix, tokens: int) -> tuple[int, Array, Array]:
    """How many prefix tokens there are, the scale [width] of patches, and what is added [tokens, width]."""
    if not m.plain_columns:
        msg = "channels of tokens in another order than those of patches"
        raise MisfitError(msg)
    scale = np.broadcast_to(m.scale, (len(m.rows), m.scale.shape[1]))[:tokens]
    made = (scale != 0).any(axis=1)
    prefix = int(np.argmax(made)) if made.any() else 0
    if not made[prefix:].all() or (scale[prefix:] != scale[prefix]).any():
        msg = "tokens that are no patches stand behind patches"
        raise MisfitError(msg)
    return prefix, scale[prefix], np.broadcast_to(m.shift, (len(m.rows), m.shift.shape[1]))[:tokens]


def _require_raster(rows: Array, patches: Patches) -> None:
    count = patches.shape[2] * patches.shape[3]
    if not np.array_equal(rows, np.arange(count)):
        msg = "patches in another order than row by row, or not all of them"
        raise MisfitError(msg)


def _put_tokens(parts: Parts, prefix: int, shift: Array) -> bool:
    """Store prefix tokens and positions; returns whether there are positions, one for each patch."""
    if prefix:
        parts.state["prefix"] = tensor(shift[:prefix])
    rest = shift[prefix:]
    if len(rest) and (rest == rest[0]).all():
        return False
    parts.state["positions"] = tensor(rest)
    return True


def as_gray(parts: Parts, source: View) -> View | None:
    """Make a patch embedding of three channels that are all the same one of a gray image, one of that; None if they are not.

    Returns the view of that channel.
    """
    if source.shape[1] != 3 or len(source.terms) != 1:
        return None
    index = source.indices(source.terms[0])
    if not (index == index[:, :1]).all():
        return None
    scale, shift = (np.broadcast_to(array, source.shape)[0] for array in (source.terms[0].scale, source.shift))
    if (scale != scale[:, :1, :1]).any() or (shift != shift[:, :1, :1]).any():
        return None
    weight = parts.state["patch_embedding.weight"].double().numpy()
    parts.state["patch_embedding.bias"] += tensor((weight * shift[:, :1, :1]).sum((1, 2, 3)))
    parts.state["patch_embedding.weight"] = tensor((weight * scale[:, :1, :1]).sum(1, keepdims=True))
    one = source.moved(lambda array: array[:, :1])
    return View(
        one.root, (Term(one.terms[0].index, np.broadcast_to(1.0, one.shape)),), np.broadcast_to(0.0, one.shape), one.shape
    )
