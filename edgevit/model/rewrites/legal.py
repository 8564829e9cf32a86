"""Which rewrites keep what a block computes. The one place that knows: whoever rewrites a block asks `FoldedBlock.legal`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.model.folded import FoldedBlock


class Rewrite(Enum):
    """One change of a block's weights that its output does not show; the values are for messages."""

    MIGRATE_QKV = "migration in front of qkv"
    MIGRATE_PROJ = "migration in front of proj"
    MIGRATE_FC1 = "migration in front of fc1"
    MIGRATE_FC2 = "migration in front of fc2"
    CENTRE_KEYS = "centring of keys"
    """A constant taken from every key takes the same from all scores of a query, which softmax does not see."""
    EVEN_SCORES = "evening of queries and keys"
    """Channel c of the queries divided by what that of the keys is multiplied by."""
    DROP_KEY_BIAS = "leaving out the bias of keys"
    """As `CENTRE_KEYS`, with the bias for the constant."""
    DIVIDE_STREAM = "division of the residual stream"
    """All that is written to it, and the epsilon of every norm that reads it."""


MIGRATE = {
    "qkv": Rewrite.MIGRATE_QKV,
    "proj": Rewrite.MIGRATE_PROJ,
    "fc1": Rewrite.MIGRATE_FC1,
    "fc2": Rewrite.MIGRATE_FC2,
}
"""By the kind of GEMM whose input is transformed."""

ROTATION_FORBIDS = frozenset({Rewrite.CENTRE_KEYS, Rewrite.EVEN_SCORES, Rewrite.DROP_KEY_BIAS})
"""What rotary position embedding (arXiv 2104.09864) between qkv and the scores forbids: it turns pairs of channels by an angle of
each token's own, so a constant is none behind it, and factors of single channels do not cancel."""


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
    if rewrite not in block.legal:
        msg = f"{rewrite.value} changes what this block computes"
        raise ValueError(msg)


def _has_somewhere_to_go(block: FoldedBlock, kind: str) -> bool:
    """Whether what delivers the input of GEMM ``kind`` takes a transform: a norm, the values, or the GEMM's own multiplier."""
    norm = block.norm_of(kind)
    return norm is None or getattr(block, norm) is not None


def _reads_by_norms(block: FoldedBlock) -> bool:
    """Whether both sublayers read the stream through a LayerNorm, or not at all (a bias)."""
    attention = block.norm1 is not None or not block.proj.weight.shape[1]
    return attention and (block.norm2 is not None or not block.fc2.weight.shape[1])
