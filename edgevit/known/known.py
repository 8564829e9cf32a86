"""How unusual an image is among those that a model knows: a distance of its features, and how rare that is.

The distance is the relative Mahalanobis distance (Ren et al. 2021, arXiv 2106.09022) from the class that the model sees in the
image. How rare it is, is its conformal p-value (Vovk et al. 2005): if images are like the known ones, a share of at most ``rate``
of them has one of at most ``rate``, whatever their distribution.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.files.npz import FAULTS, read_arrays
from edgevit.known.gaussian import Gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

TAKEN_OFF = 0.95
"""Share of the distance from all images that is taken off that from a class. Ren et al. take all of it, and are blind then to
what is far away where classes do not differ. On digits: AUROC of letters 0.96, 0.97, 0.97 with 0, 0.95 and 1; of a digit left out
0.78, 0.87 and 0.88."""
LIMIT = 2**30
"""Bytes that the arrays of a file may claim; those of a ViT-L with 1,000 classes have 10 MB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What known images are like."""

    mean: NDArray[np.float32]
    """[features], of all of them."""
    overall: Gaussian
    """Around it."""
    means: NDArray[np.float32] | None
    """[classes, features], of those in which the model sees a class; None where all are taken together."""
    within: Gaussian | None
    """Around the means of classes, one for all classes; None where all are taken together."""
    distances: NDArray[np.float32]
    """Sorted, of known images that nothing of the above was fitted to."""

    @property
    def by_class(self) -> bool:
        """Whether an image is compared with those of the class that the model sees in it."""
        return self.means is not None

    @property
    def least(self) -> float:
        """The smallest typicality that so many distances can tell."""
        return 1 / (len(self.distances) + 1)

    def distance(self, features: NDArray[np.float32], seen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Distances [N] of images by their ``features`` [N, features] and the class ``seen`` [N] by the model, the likeliest."""
        whole = self.overall.distance(features - self.mean)
        if self.means is None or self.within is None:
            return whole
        found: NDArray[np.float32] = self.within.distance(features - self.means[seen]) - TAKEN_OFF * whole
        return found

    def typicality(self, distance: float) -> float:
        """The share of known images that are as far away as ``distance`` or farther, above 0 to 1: 0.5 is usual."""
        return float(1 + len(self.distances) - np.searchsorted(self.distances, distance, side="left")) * self.least

    def check(self, classes: int, features: int) -> None:
        """Raise ValueError unless it is of a model of so many ``classes`` and ``features``."""
        shapes: list[tuple[NDArray[np.float32], tuple[int, ...]]] = [
            (self.mean, (features,)),
            (self.distances, (max(1, self.distances.size),)),
        ]
        shapes += [(self.means, (classes, features))] if self.means is not None else []
        for part in (part for part in (self.overall, self.within) if part is not None):
            shapes += [(part.directions, (part.variances.size, features)), (part.variances, (part.variances.size,))]
        if any(array.shape != wanted for array, wanted in shapes):
            found = ", ".join(str(list(array.shape)) for array, _ in shapes)
            msg = f"its arrays are {found}, for {classes} classes and {features} features"
            raise ValueError(msg)

    def to_bytes(self) -> bytes:
        """An ``.npz``; `load_known` is the inverse."""
        arrays: dict[str, Any] = {"mean": self.mean, "distances": self.distances, **_arrays("overall", self.overall)}
        if self.means is not None and self.within is not None:
            arrays |= {"means": self.means, **_arrays("within", self.within)}
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        return stream.getvalue()


def load_known(content: bytes, classes: int, features: int) -> Known:
    """What `Known.to_bytes` made, of a model of so many ``classes`` and ``features``. Raises ValueError for anything else."""
    try:
        arrays = read_arrays(content, LIMIT)
        if any(not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all() for array in arrays.values()):
            msg = "it holds what are no numbers"
            raise ValueError(msg)
        by_class = "means" in arrays
        known = Known(
            mean=_single(arrays["mean"]), overall=_gaussian("overall", arrays), distances=np.sort(_single(arrays["distances"])),
            means=_single(arrays["means"]) if by_class else None, within=_gaussian("within", arrays) if by_class else None,
        )  # fmt: skip
        known.check(classes, features)
    except FAULTS as error:
        reason = f"misses {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(reason) from error
    return known


def _single(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.astype(np.float32)


def _arrays(name: str, part: Gaussian) -> dict[str, Any]:
    return {f"{name}_directions": part.directions, f"{name}_variances": part.variances, f"{name}_rest": np.float32(part.rest)}


def _gaussian(name: str, arrays: dict[str, NDArray[Any]]) -> Gaussian:
    variances, rest = _single(arrays[f"{name}_variances"]), float(arrays[f"{name}_rest"])
    if not (variances > 0).all() or not rest > 0:
        msg = "a variance is not above 0"
        raise ValueError(msg)
    return Gaussian(directions=_single(arrays[f"{name}_directions"]), variances=variances, rest=rest)
