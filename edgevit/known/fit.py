"""What known images are like, from features of some of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgevit.known.gaussian import fit_gaussian
from edgevit.known.known import Known

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 20
"""Images, with which the rarest that can be told is one in 21."""
FEWEST_OF_CLASS = 3
"""Images of each class that is seen, on average; with fewer, all are taken together."""
FOLDS = 20
"""The more, the nearer to what all images together say: five made of 0.50 a median of 0.63 where 200 images have 24 features."""
EMPTY = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Images as a model sees them."""

    features: NDArray[np.float32]
    """[N, features]"""
    classes: NDArray[np.int64]
    """[N], the likeliest of each."""

    def __len__(self) -> int:
        return len(self.features)

    def of(self, rows: NDArray[np.bool_]) -> Seen:
        """Some of them."""
        return Seen(features=self.features[rows], classes=self.classes[rows])


def fit_known(fitted: Seen, classes: int, judged: Seen | None = None, *, single_label: bool = True, seed: int = 0) -> Known:
    """What images are like.

    Args:
        fitted: images, `FEWEST` at least.
        classes: of the model.
        judged: others, whose distances tell what is rare; without them, ``fitted`` are divided into parts, and each is judged by
            what the others are like, which makes rare a little rarer than it is.
        single_label: whether a likeliest class says what is in an image; if not, all are taken together.
        seed: of the division.

    Raises:
        ValueError: there are too few images, or all give the same features.
    """
    require_enough(len(fitted))
    by_class = single_label and len(fitted) >= FEWEST_OF_CLASS * len(np.unique(fitted.classes))
    known = _fitted(fitted, classes, by_class=by_class)
    if judged is not None and len(judged):
        distances = known.distance(judged.features, judged.classes)
    else:
        distances = _crossed(fitted, classes, seed, by_class=by_class)
    return replace(known, distances=np.sort(distances))


def require_enough(images: int) -> None:
    """Raise ValueError if so many are fewer than `FEWEST`."""
    if images < FEWEST:
        msg = f"{images} images are too few to tell what is unusual: {FEWEST} at least"
        raise ValueError(msg)


def _crossed(seen: Seen, classes: int, seed: int, *, by_class: bool) -> NDArray[np.float32]:
    """Distances [N] of images, each by what the other parts are like."""
    parts = np.random.default_rng(seed).permutation(len(seen)) % FOLDS
    distances = np.zeros(len(seen), np.float32)
    for part in range(FOLDS):
        own = seen.of(parts == part)
        distances[parts == part] = _fitted(seen.of(parts != part), classes, by_class=by_class).distance(own.features, own.classes)
    return distances


def _fitted(seen: Seen, classes: int, *, by_class: bool) -> Known:
    mean = seen.features.mean(0, dtype=np.float64).astype(np.float32)
    overall = fit_gaussian(seen.features - mean, len(seen) - 1)
    if not by_class:
        return Known(mean=mean, overall=overall, means=None, within=None, distances=EMPTY)
    means = np.tile(mean, (classes, 1))  # of a class that was not seen: that of all
    there = np.unique(seen.classes)
    for index in there:
        means[index] = seen.features[seen.classes == index].mean(0, dtype=np.float64)
    within = fit_gaussian(seen.features - means[seen.classes], len(seen) - len(there))
    return Known(mean=mean, overall=overall, means=means, within=within, distances=EMPTY)
