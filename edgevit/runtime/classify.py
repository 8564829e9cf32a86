"""Logits to labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One class and how sure the model is."""

    label: str
    index: int
    """The class's place in the model's output."""
    confidence: float
    """Softmax probability, 0 to 1."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the last axis, of the same shape and dtype as ``logits``."""
    # Less the maximum: exp(89) overflows float32.
    exponentials: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def top_k(logits: NDArray[np.float32], labels: Sequence[str], k: int) -> tuple[Prediction, ...]:
    """The ``k`` likeliest classes, likeliest first; all of them if there are fewer.

    Args:
        logits: float32 [classes].
        labels: the classes' names.
        k: at least 1.

    Raises:
        EngineError: a logit is not a finite number.
        ValueError: the number of labels is not the number of logits.
    """
    if logits.shape != (len(labels),):
        msg = f"expected ({len(labels)},) logits, one per label, got {logits.shape}"
        raise ValueError(msg)
    if not np.isfinite(logits).all():
        msg = "the model's output is not finite: an FP16 overflow is likely. Build the bundle again with --precision fp32"
        raise EngineError(msg)
    confidences = softmax(logits)
    # Stable, so that equal logits keep the order of the classes.
    best = np.argsort(-logits, kind="stable")[:k]
    return tuple(Prediction(label=labels[i], index=int(i), confidence=float(confidences[i])) for i in best)
