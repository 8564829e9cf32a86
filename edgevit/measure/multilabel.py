"""How good a model of several labels an image is, and what a change did to it. Pure functions over arrays [N, labels].

A label is taken to be there from a logit of 0 on, a sigmoid of 0.5. Sources: average precision as in Manning, Raghavan and
Schütze 2008, "Introduction to Information Retrieval", section 8.4, without interpolation (as scikit-learn's
``average_precision_score`` has it); Jaccard 1912, New Phytologist 11:37-50; Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", chapters 13 and 15.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.engine.base import Logits

    Marks = NDArray[np.bool_]
    """[N, labels]: whether an image has a label."""

RESAMPLES = 1_000  # of the bootstrap; each computes the average precision of every label anew
CHUNK = 1 << 22  # values at a time


def there(logits: Logits) -> Marks:
    """The labels that a model gives."""
    found: Marks = logits >= 0
    return found


def mean_average_precision(logits: Logits, truth: Marks) -> float | None:
    """Mean, over the labels that at least one image has, of the average precision, 0..1; None if there are none.

    The average precision of a label: the mean, over its images, of the share of right ones among all that score at least as high.
    """
    found = _resampled(logits, truth, np.ones((1, len(truth)), np.int64))[0]
    return None if np.isnan(found) else float(found)


def f1_score(given: Marks, truth: Marks) -> float | None:
    """2 TP / (2 TP + FP + FN) over all labels of all images (micro-averaged); None where nothing is given or true."""
    right, wrong = int((given & truth).sum()), int((given ^ truth).sum())
    return 2 * right / (2 * right + wrong) if right + wrong else None


def agreement(given: Marks, reference: Marks) -> float:
    """Of all labels that either gives, the share that both give (Jaccard), 0..1; 1 where neither gives any.

    Labels that neither gives, which are most of all, do not count: they would make a model look good that says nothing.
    """
    either = int((given | reference).sum())
    return int((given & reference).sum()) / either if either else 1.0


def right_labels(given: Marks, truth: Marks) -> NDArray[np.int64]:
    """How many labels of each image are as they should be, [N]."""
    return (given == truth).sum(1)


def paired_difference(
    before: Logits, after: Logits, truth: Marks, *, seed: int = 0
) -> tuple[tuple[float, float], float]:  # fmt: skip
    """The 95 % bootstrap interval (percentiles) of the difference of mean average precision, after minus before, and a p-value.

    Whole images are drawn with replacement, the same ones of both models. p is twice the smaller share of resamples at or beyond
    no difference, two-sided: below 0.05 where the interval leaves 0 out.
    """
    drawn = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), RESAMPLES)
    found = _resampled(after, truth, drawn) - _resampled(before, truth, drawn)
    found = found[~np.isnan(found)]  # a resample in which no image has a label
    if not len(found):
        return (0.0, 0.0), 1.0
    low, high = np.percentile(found, (2.5, 97.5))
    beyond = min(int((found <= 0).sum()), int((found >= 0).sum()))
    return (float(low), float(high)), min(1.0, 2 * (beyond + 1) / (len(found) + 1))


def _resampled(logits: Logits, truth: Marks, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean average precision [resamples] of images that are there ``counts`` [resamples, N] times; NaN without labels."""
    total, labels = np.zeros(len(counts)), np.zeros(len(counts), np.int64)
    step = max(1, CHUNK // len(truth))
    for label in np.flatnonzero(truth.any(0)):
        order = np.argsort(-logits[:, label], kind="stable")
        ordered, right = logits[order, label], truth[order, label]
        # Of equal scores all or none are taken: the figures at the last one count for all of them.
        last = np.searchsorted(-ordered, -ordered[right], side="right") - 1
        for start in range(0, len(counts), step):
            own = counts[start : start + step, order]
            taken, hits = own.cumsum(1)[:, last], (own * right).cumsum(1)[:, last]
            weights = own[:, right]
            images = weights.sum(1)
            precision = (weights * hits / np.maximum(taken, 1)).sum(1) / np.maximum(images, 1)
            total[start : start + step] += precision
            labels[start : start + step] += images > 0
    return np.where(labels > 0, total / np.maximum(labels, 1), np.nan)
