"""Logits to labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import EngineError
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One class and how sure the model is."""

    label: str
    index: int
    """The class's place in the model's output."""
    confidence: float
    """0 to 1: of all classes' softmax, in a multi-label model of this label's own sigmoid."""

    def __repr__(self) -> str:
        return f"Prediction({self.label!r}, {self.confidence:.3f})"


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the last axis, of the same shape and dtype as ``logits``."""
    # Less the maximum: exp(89) overflows float32.
    exponentials: NDArray[np.float32] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-logits)), of the same shape and dtype as ``logits``."""
    # Of -|logits|, which cannot overflow: sigmoid(-x) is 1 - sigmoid(x).
    small: NDArray[np.float32] = np.exp(-np.abs(logits))
    small /= 1 + small
    return np.where(logits < 0, small, 1 - small)


def scores(logits: NDArray[np.float32], problem_type: str) -> NDArray[np.float32]:
    """What a model says of each class, 0 to 1: `softmax` along the last axis, or in a multi-label model `sigmoid`."""
    return sigmoid(logits) if problem_type == MULTI_LABEL else softmax(logits)


def top_k(
    logits: NDArray[np.float32], labels: Sequence[str], k: int, problem_type: str = SINGLE_LABEL
) -> tuple[Prediction, ...]:  # fmt: skip
    """The ``k`` likeliest classes, likeliest first; all of them if there are fewer.

    Args:
        logits: float32 [classes].
        labels: the classes' names.
        k: at least 1.
        problem_type: one of `edgevit.problem.PROBLEM_TYPES`.

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
    confidences = scores(logits, problem_type)
    # Stable, so that equal logits keep the order of the classes.
    best = np.argsort(-logits, kind="stable")[:k]
    return tuple(Prediction(label=labels[i], index=int(i), confidence=float(confidences[i])) for i in best)
