"""What a change of precision did to the logits. Pure functions over arrays [N, classes]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.measure import multilabel
from edgevit.measure.statistics import balanced_accuracy, calibration_error, mcnemar, tango, wilson
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from edgevit.runtime.classify import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]
    Truth = NDArray[Any]
    """int64 [N], or bool [N, classes]."""

SIGNIFICANT = 0.05
"""A difference that chance alone makes less often than this is called measurable."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One variant on one set of images. Shares are 0..1."""

    images: int
    top1: float | None
    """None without labels, and of a multi-label model."""
    agreement: float
    """Share of images with the reference's top-1 class; of a multi-label model see `edgevit.measure.multilabel.agreement`."""
    sqnr_db: float | None
    """Logit signal to quantization noise against the reference; None for equal logits."""
    top1_interval: tuple[float, float] | None
    """95 % Wilson interval of ``top1``."""
    agreement_interval: tuple[float, float]
    """The same of ``agreement``."""
    calibration_error: float | None
    """Expected calibration error: how far confidence is from accuracy, 0..1; None without labels."""
    balanced: float | None = None
    """Balanced accuracy: the mean over the classes present of the share of their images that are right; None as ``top1``."""
    problem_type: str = SINGLE_LABEL
    """What the logits mean, one of `edgevit.problem.PROBLEM_TYPES`."""
    mean_average_precision: float | None = None
    """Of a multi-label model, over its labels; None without true labels."""
    f1: float | None = None
    """Of a multi-label model, over all labels of all images, at a threshold of 0.5; None without true labels."""

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.problem_type == MULTI_LABEL

    @property
    def score(self) -> float | None:
        """What is to be kept: top-1, or of a multi-label model mean average precision; None without labels."""
        return self.mean_average_precision if self.multi_label else self.top1

    @property
    def metric(self) -> str:
        """The name of `score`."""
        return "mAP" if self.multi_label else "top-1"

    @property
    def unit(self) -> str:
        """What differences of `score` are counted in."""
        return "points of mAP" if self.multi_label else "points"


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """One class: how many of its images were right before and are now; of several labels, on how many it was and is found."""

    label: str
    images: int
    before: int
    after: int
    lost: int
    """Right before, wrong now."""
    won: int
    """The reverse."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A variant against the reference on the same labelled images."""

    difference: float
    """`Accuracy.score` minus the reference's: -0.01 is a loss of one point."""
    interval: tuple[float, float]
    """95 % score interval of it (Tango): what the images leave possible, also where none changed."""
    lost: int
    """Images that the reference has right and this has wrong; of several labels, on which it has more of them right."""
    won: int
    """The reverse."""
    p: float
    """McNemar's exact test, two-sided: how often chance alone makes as lopsided a change. Of several labels, the bootstrap's."""
    classes: tuple[ClassChange, ...]

    @property
    def measurable(self) -> bool:
        """Whether chance is an unlikely cause."""
        return self.p < SIGNIFICANT

    @property
    def doubtful(self) -> bool:
        """Whether the interval speaks of a difference and the test, the more cautious of the two with few changes, does not."""
        return not self.measurable and not self.interval[0] <= 0 <= self.interval[1]

    @property
    def worse(self) -> bool:
        """Whether it is measurably worse."""
        return self.measurable and self.difference < 0


def measure_accuracy(logits: Logits, reference: Logits, targets: Truth | None, problem_type: str = SINGLE_LABEL) -> Accuracy:
    """Compare ``logits`` with ``reference``, both [N, classes].

    ``targets`` are true classes, int64 [N], or of a multi-label model whether an image has a label, bool [N, classes].
    """
    if problem_type == MULTI_LABEL:
        return _measure_labels(logits, reference, targets)
    winners, images = logits.argmax(1), len(logits)
    right = None if targets is None else int((winners == targets).sum())
    same = int((winners == reference.argmax(1)).sum())
    return Accuracy(
        images=images,
        top1=None if right is None else right / images,
        agreement=same / images,
        sqnr_db=sqnr_db(reference, logits),
        top1_interval=None if right is None else wilson(right, images),
        agreement_interval=wilson(same, images),
        calibration_error=None if targets is None else calibration_error(softmax(logits), targets),
        balanced=None if targets is None else balanced_accuracy(winners, targets),
    )


def _measure_labels(logits: Logits, reference: Logits, truth: Truth | None) -> Accuracy:
    given, images = multilabel.there(logits), len(logits)
    share = multilabel.agreement(given, multilabel.there(reference))
    return Accuracy(
        images=images,
        top1=None,
        agreement=share,
        sqnr_db=sqnr_db(reference, logits),
        top1_interval=None,
        # As if of whole images: labels of one image are not independent of one another.
        agreement_interval=wilson(round(share * images), images),
        calibration_error=None,
        problem_type=MULTI_LABEL,
        mean_average_precision=None if truth is None else multilabel.mean_average_precision(logits, truth),
        f1=None if truth is None else multilabel.f1_score(given, truth),
    )


def change(
    logits: Logits, reference: Logits, targets: Truth, labels: Sequence[str], problem_type: str = SINGLE_LABEL
) -> Change:  # fmt: skip
    """What became of each image that ``reference`` had right or wrong; arguments as in `measure_accuracy`."""
    if problem_type == MULTI_LABEL:
        return _change_of_labels(logits, reference, targets, labels)
    before, after = reference.argmax(1) == targets, logits.argmax(1) == targets
    lost, won = before & ~after, after & ~before
    return Change(
        difference=(int(after.sum()) - int(before.sum())) / len(targets),
        interval=tango(int(lost.sum()), int(won.sum()), len(targets)),
        lost=int(lost.sum()),
        won=int(won.sum()),
        p=mcnemar(int(lost.sum()), int(won.sum())),
        classes=tuple(
            ClassChange(
                label=label,
                images=int(own.sum()),
                before=int(before[own].sum()),
                after=int(after[own].sum()),
                lost=int(lost[own].sum()),
                won=int(won[own].sum()),
            )
            for label, own in ((label, targets == index) for index, label in enumerate(labels))
            if own.any()
        ),
    )


def _change_of_labels(logits: Logits, reference: Logits, truth: Truth, labels: Sequence[str]) -> Change:
    before, after = multilabel.there(reference), multilabel.there(logits)
    gained = multilabel.right_labels(after, truth) - multilabel.right_labels(before, truth)
    interval, p = multilabel.paired_difference(reference, logits, truth)
    new = multilabel.mean_average_precision(logits, truth) or 0.0
    return Change(
        difference=new - (multilabel.mean_average_precision(reference, truth) or 0.0),
        interval=interval,
        lost=int((gained < 0).sum()),
        won=int((gained > 0).sum()),
        p=p,
        classes=tuple(
            ClassChange(
                label=label,
                images=int(own.sum()),
                before=int((before[:, i] & own).sum()),
                after=int((after[:, i] & own).sum()),
                lost=int((before[:, i] & ~after[:, i] & own).sum()),
                won=int((after[:, i] & ~before[:, i] & own).sum()),
            )
            for i, (label, own) in enumerate(zip(labels, truth.T, strict=True))
            if own.any()
        ),
    )


def sqnr_db(reference: Logits, logits: Logits) -> float | None:
    """10 log10(sum reference^2 / sum (reference - logits)^2) in dB; None where they are equal or the reference is 0."""
    wanted = reference.astype(float)
    noise = float(((wanted - logits) ** 2).sum())
    signal = float((wanted**2).sum())
    return 10 * math.log10(signal / noise) if signal and noise else None
