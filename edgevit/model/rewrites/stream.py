"""Divide the residual stream by a power of two.

Every block reads the stream through a LayerNorm, which does not see its scale: dividing all that is written to it (embedding,
proj, fc2), and epsilon by the square, changes nothing but the range.
"""

from __future__ import annotations

from dataclasses import replace

from edgevit.model.folded import FoldedBlock, FoldedVit, Linear, Norm
from edgevit.model.rewrites.kinds import Rewrite
from edgevit.model.rewrites.legal import legal_rewrites


def can_divide(model: FoldedVit) -> bool:
    """Whether every reader of the residual stream is a LayerNorm."""
    return model.final_norm is not None and all(Rewrite.DIVIDE_STREAM in legal_rewrites(block) for block in model.blocks)


def divided(model: FoldedVit, shift: int) -> FoldedVit:
    """``model`` computing the same logits with its residual stream divided by 2^shift. Raises ValueError unless `can_divide`."""
    if not can_divide(model):
        msg = f"{Rewrite.DIVIDE_STREAM.value} changes what this model computes: not every reader of it is a LayerNorm"
        raise ValueError(msg)
    factor = 2.0**-shift

    def reading(norm: Norm | None) -> Norm | None:
        return None if norm is None else replace(norm, eps=norm.eps * factor**2)

    def writing(linear: Linear) -> Linear:
        return Linear(linear.weight * factor, linear.bias * factor)

    def block(old: FoldedBlock) -> FoldedBlock:
        return replace(old, norm1=reading(old.norm1), norm2=reading(old.norm2), proj=writing(old.proj), fc2=writing(old.fc2))

    def entering(norm: Norm | None, eps: float) -> Norm | None:
        """One that writes the stream."""
        return norm and replace(norm, weight=norm.weight * factor, bias=norm.bias * factor, eps=norm.eps * eps)

    patches = model.patch if model.patch_norm else model.patch * factor
    start = replace(
        model, patch=patches, positions=model.positions * factor, patch_norm=entering(model.patch_norm, 1.0),
        embedding_norm=entering(model.embedding_norm, factor**2),
    )  # fmt: skip
    return replace(start, blocks=[block(old) for old in model.blocks], final_norm=reading(model.final_norm))
