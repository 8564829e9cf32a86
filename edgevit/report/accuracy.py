"""What a change of precision did to the logits. Pure functions over arrays [N, classes]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One variant on one set of images. Shares are 0..1."""

    images: int
    top1: float | None
    """None without labels."""
    agreement: float
    """Share of images with the reference's top-1 class."""
    sqnr_db: float | None
    """Logit signal to quantization noise against the reference; None for equal logits."""


def measure(logits: Logits, reference: Logits, targets: NDArray[np.int64] | None) -> Accuracy:
    """Compare ``logits`` with ``reference``, both [N, classes]; ``targets`` [N] are true classes."""
    winners = logits.argmax(1)
    return Accuracy(
        images=len(logits),
        top1=None if targets is None else float((winners == targets).mean()),
        agreement=float((winners == reference.argmax(1)).mean()),
        sqnr_db=sqnr_db(reference, logits),
    )


def sqnr_db(reference: Logits, logits: Logits) -> float | None:
    """10 log10(sum reference^2 / sum (reference - logits)^2) in dB; None where they are equal or the reference is 0."""
    wanted = reference.astype(float)
    noise = float(((wanted - logits) ** 2).sum())
    signal = float((wanted**2).sum())
    return 10 * math.log10(signal / noise) if signal and noise else None
