"""Whether fine-tuning helped: two classifiers of the same photos, of which neither had seen any."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from edgevit.measure.statistics import balanced_accuracy, mcnemar, stratified_difference, tango

CERTAIN = 0.05
"""Chance of so large a difference without any, below which it counts."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Shares are 0 to 1, of photos, or where every class counts the same the mean of the classes' shares."""

    photos: int
    frozen: float
    """Share right of the linear head on frozen features."""
    tuned: float
    """Share right of the fine-tuned model."""
    won: int
    """Photos that fine-tuning made right."""
    lost: int
    """Photos that it made wrong."""
    interval: tuple[float, float]
    """95 % interval of the difference of the two shares."""
    p: float
    """How likely so large a difference is, either way, if there is none."""
    balanced: bool
    """Whether every class counts the same."""

    @property
    def helped(self) -> bool:
        """Whether fine-tuning is better, beyond chance."""
        return self.tuned > self.frozen and self.p < CERTAIN

    @property
    def line(self) -> str:
        """What to think of it."""
        figures = f"{100 * self.tuned:.1f} against {100 * self.frozen:.1f} %"
        low, high = (100 * bound for bound in self.interval)
        by = f"{self.won} won, {self.lost} lost, difference {low:+.1f} to {high:+.1f} points with 95 % certainty"
        what = f"of the same {self.photos} photos{', every class counting the same' if self.balanced else ''}"
        if self.helped:
            return f"fine-tuning helped: {figures} {what} ({by}, p = {self.p:.2g}); it is kept"
        if self.tuned > self.frozen:
            why = f"may be chance: {figures} {what} ({by}, p = {self.p:.2g})"
            return f"fine-tuning {why}; the frozen head is kept"
        return f"fine-tuning did not help: {figures} {what} ({by}); the frozen head is kept"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"helped": self.helped, "line": self.line}


def judged(frozen: Tensor, tuned: Tensor, y: Tensor, *, balanced: bool) -> Judgement:
    """Of logits [N, classes] of the same photos by both, and their true classes int64 [N]."""
    targets = y.numpy()
    answers = [logits.argmax(1).numpy() for logits in (frozen, tuned)]
    before, after = (found == targets for found in answers)
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if balanced:
        interval, p = stratified_difference(after.astype(float) - before, targets)
        shares = [balanced_accuracy(found, targets) for found in answers]
    else:
        interval, p = tango(lost, won, len(targets)), mcnemar(lost, won)
        shares = [float(np.mean(right)) for right in (before, after)]
    return Judgement(photos=len(targets), frozen=shares[0], tuned=shares[1], won=won, lost=lost, interval=interval, p=p,
                     balanced=balanced)  # fmt: skip
