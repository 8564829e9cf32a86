"""The exact rewrites that there are, by name; which of them a block admits is told by `edgevit.model.rewrites.legal`."""

from __future__ import annotations

from enum import Enum


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

BETWEEN_FORBIDS = frozenset({Rewrite.CENTRE_KEYS, Rewrite.EVEN_SCORES, Rewrite.DROP_KEY_BIAS})
"""What rotary position embedding (arXiv 2104.09864), or a norm of queries and keys, between qkv and the scores forbids: it turns
pairs of channels by an angle of each token's own, or divides by what all channels of a head are, so a constant is none behind it,
and factors of single channels do not cancel."""
