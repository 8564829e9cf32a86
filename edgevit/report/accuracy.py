"""What a change of precision did to the logits. Pure functions over arrays [N, classes]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.report.statistics import balanced_accuracy, calibration_error, mcnemar, tango, wilson
from edgevit.runtime.classify import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]

SIGNIFICANT = 0.05
"""A difference that chance alone makes less often than this is called measurable."""


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
    top1_interval: tuple[float, float] | None
    """95 % Wilson interval of ``top1``."""
    agreement_interval: tuple[float, float]
    """The same of ``agreement``."""
    calibration_error: float | None
    """Expected calibration error: how far confidence is from accuracy, 0..1; None without labels."""
    balanced: float | None = None
    """Balanced accuracy: the mean over the classes present of the share of their images that are right; None without labels."""


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """One class: how many of its images were right before and are now."""

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
    """Top-1 minus the reference's: -0.01 is a loss of one point."""
    interval: tuple[float, float]
    """95 % score interval of it (Tango): what the images leave possible, also where none changed."""
    lost: int
    """Images that the reference has right and this has wrong."""
    won: int
    """The reverse."""
    p: float
    """McNemar's exact test, two-sided: how often chance alone makes as lopsided a change."""
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


def measure(logits: Logits, reference: Logits, targets: NDArray[np.int64] | None) -> Accuracy:
    """Compare ``logits`` with ``reference``, both [N, classes]; ``targets`` [N] are true classes."""
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


def change(logits: Logits, reference: Logits, targets: NDArray[np.int64], labels: Sequence[str]) -> Change:
    """What became of each image that ``reference`` had right or wrong; logits are [N, classes], ``targets`` [N]."""
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


def sqnr_db(reference: Logits, logits: Logits) -> float | None:
    """10 log10(sum reference^2 / sum (reference - logits)^2) in dB; None where they are equal or the reference is 0."""
    wanted = reference.astype(float)
    noise = float(((wanted - logits) ** 2).sum())
    signal = float((wanted**2).sum())
    return 10 * math.log10(signal / noise) if signal and noise else None
