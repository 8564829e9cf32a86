"""Which rewrites keep what a block computes. The one place that knows: whoever rewrites a block asks `legal_rewrites`."""

from __future__ import annotations

from edgevit.model.folded import FoldedBlock
from edgevit.model.rewrites.kinds import MIGRATE, Rewrite


def legal_rewrites(block: FoldedBlock) -> frozenset[Rewrite]:
    """What the weights and norms of ``block`` admit, less what it says that lies between them forbids."""
    admitted = {MIGRATE[kind] for kind in block.linears if _has_somewhere_to_go(block, kind)}
    if block.heads:
        admitted |= {Rewrite.CENTRE_KEYS, Rewrite.EVEN_SCORES, Rewrite.DROP_KEY_BIAS}
    if _reads_by_norms(block):
        admitted.add(Rewrite.DIVIDE_STREAM)
    return frozenset(admitted) - block.forbidden


def require(block: FoldedBlock, rewrite: Rewrite) -> None:
    """Raise ValueError if ``rewrite`` would change what ``block`` computes."""
    if rewrite not in legal_rewrites(block):
        msg = f"{rewrite.value} changes what this block computes"
        raise ValueError(msg)


def _has_somewhere_to_go(block: FoldedBlock, kind: str) -> bool:
    """Whether what delivers the input of GEMM ``kind`` takes a transform: a norm, the values, or the GEMM's own multiplier."""
    norm = block.norm_of(kind)
    return norm is None or getattr(block, norm) is not None


def _reads_by_norms(block: FoldedBlock) -> bool:
    """Whether both sublayers read the stream through a LayerNorm, or not at all (a bias)."""
    attention = block.norm1 is not None or not block.proj.inputs
    return attention and (block.norm2 is not None or not block.fc2.inputs)
