"""How well objects of a class that a classifier does not know are told from those that it knows: classes left out in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.known.fit import FEWEST, Seen, fit_known
from edgevit.measure.statistics import auroc
from edgevit.runtime.classify import softmax

if TYPE_CHECKING:
    from torch import Tensor

    from edgevit.training.head import LinearHead

MOST = 10
"""Classes left out, spread over all: each takes another head."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One class, whose photos a classifier of the others saw. Areas under the ROC curve: 0.5 is chance, 1 is perfect."""

    label: str
    distance: float
    """By `edgevit.known.known.Known.distance`."""
    confidence: float
    """By how low the softmax of the likeliest class is."""


def classes_left_out(
    features: Tensor, y: Tensor, judges: Tensor, labels: tuple[str, ...], fitted: Callable[[Tensor], LinearHead]
) -> Iterator[LeftOut]:
    """Leave classes out, one after the other.

    Args:
        features: what a head reads, float32 [N, features].
        y: classes int64 [N].
        judges: bool [N], photos that nothing is fitted to: what is known is judged by them.
        labels: of the classes; at least three, else none is left out.
        fitted: a head of the photos in given rows int64; its outputs for classes without a photo are not looked at.
    """
    if len(labels) < 3:
        return
    for left in np.unique(np.linspace(0, len(labels) - 1, min(MOST, len(labels))).round().astype(int)):
        rows = (~judges & (y != left)).nonzero()[:, 0]
        if len(rows) < FEWEST:
            continue
        head, others = fitted(rows), [index for index in range(len(labels)) if index != left]

        def seen(x: Tensor, head: LinearHead = head, others: list[int] = others) -> tuple[Seen, np.ndarray]:
            logits = head.logits(x)[:, others].numpy()
            return Seen(features=x.numpy(), classes=logits.argmax(1)), 1 - softmax(logits).max(1)

        (known, doubts), (unknown, own) = seen(features[judges & (y != left)]), seen(features[y == left])
        fit = fit_known(seen(features[rows])[0], len(others), known)
        away = fit.distance(unknown.features, unknown.classes)
        yield LeftOut(label=labels[left], distance=auroc(fit.distances, away), confidence=auroc(doubts, own))
