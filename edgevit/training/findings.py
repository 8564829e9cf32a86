"""What cross-validation shows: how sure the classifier is, what it confuses, which photos to look at, whether more would help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from edgevit.measure.statistics import balanced_accuracy, wilson
from edgevit.training.unknown import LeftOut

LISTED = 10
SURE, UNSURE = 0.8, 0.15
"""A label looks wrong where another class has at least the one share and its own at most the other."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photo as the head of the other folds sees it."""

    name: str
    label: str
    """Of its folder."""
    seen: str
    """The likeliest class."""
    own: float
    """Share of its own class, 0 to 1."""
    other: float
    """Share of the likeliest class."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All shares are 0 to 1."""

    classes: tuple[str, ...]
    photos: int
    right: int
    interval: tuple[float, float]
    """95 % Wilson interval of the share that is right."""
    balanced: float
    """Mean of the classes' recalls."""
    confusion: tuple[tuple[int, ...], ...]
    """Photos by true class (rows) and seen class."""
    worst: tuple[Photo, ...]
    """Those whose own class has the least share, wrong ones only."""
    suspicious: tuple[Photo, ...]
    """Those whose label looks wrong."""
    alike: tuple[tuple[str, str], ...]
    """Pairs that are nearly the same, and have one label."""
    contradicting: tuple[tuple[str, str], ...]
    """Pairs that are nearly the same, and have two labels."""
    curve: tuple[tuple[float, float], ...]
    """Share of the photos, and how many are right then."""
    left_out: tuple[LeftOut, ...]
    """How well photos of a class are told by a classifier of all others; empty of two classes, or of few photos."""
    doubled: float
    """About what twice as many photos would add to the share that is right."""

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return self.right / self.photos

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"accuracy": self.accuracy}


def findings_of(
    logits: Tensor, y: Tensor, classes: tuple[str, ...], names: Sequence[str], pairs: Sequence[tuple[int, int]],
    curve: Sequence[tuple[float, float]], left_out: Sequence[LeftOut] = (),
) -> Findings:  # fmt: skip
    """Of logits [photos, classes] by heads that had not seen the photo, and pairs of nearly the same photos."""
    shares, seen, count = logits.softmax(1), logits.argmax(1), len(y)
    right = int((seen == y).sum())
    confusion = tuple(
        tuple(int(((y == true) & (seen == other)).sum()) for other in range(len(classes))) for true in range(len(classes))
    )
    photos = [
        Photo(name=names[i], label=classes[int(y[i])], seen=classes[int(seen[i])], own=float(shares[i, y[i]]),
              other=float(shares[i, seen[i]]))
        for i in range(count)
    ]  # fmt: skip
    wrong = sorted((photo for photo in photos if photo.seen != photo.label), key=lambda photo: (photo.own, photo.name))
    same = [(one, other) for one, other in pairs if y[one] == y[other]]
    differ = [(one, other) for one, other in pairs if y[one] != y[other]]
    return Findings(
        classes=classes, photos=count, right=right, interval=wilson(right, count),
        balanced=balanced_accuracy(seen.numpy(), y.numpy()), confusion=confusion, worst=tuple(wrong[:LISTED]),
        suspicious=tuple(photo for photo in wrong if photo.other >= SURE and photo.own <= UNSURE)[:LISTED],
        alike=tuple((names[one], names[other]) for one, other in same[:LISTED]),
        contradicting=tuple((names[one], names[other]) for one, other in differ[:LISTED]),
        curve=tuple(curve), left_out=tuple(left_out), doubled=gain_of_doubling(curve),
    )  # fmt: skip


def gain_of_doubling(curve: Sequence[tuple[float, float]]) -> float:
    """What twice as many photos would add to the share that is right, if errors fall by a power of their number.

    That they do, roughly: Hestness et al. 2017, arXiv:1712.00409. The power is that between half of the photos and all.
    """
    errors = {share: 1 - right for share, right in curve}
    half, whole = errors.get(0.5, 0.0), errors.get(1.0, 0.0)
    if whole <= 0 or half <= whole:
        return 0.0
    power = math.log2(half / whole)
    return whole * (1 - 2**-power)
