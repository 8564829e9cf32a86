"""A normal distribution of many features from few images: its main directions, and one variance for all the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANK = 128
"""Directions kept. On digits against letters and on solar cells, 64 to all of them tell unknown images as well, 32 do less."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian:
    """Probabilistic PCA (Tipping and Bishop 1999): small, and defined with fewer images than features."""

    directions: NDArray[np.float32]
    """[rank, features], orthonormal."""
    variances: NDArray[np.float32]
    """[rank], along them."""
    rest: float
    """Variance along every other direction."""

    def distance(self, deviations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Squared Mahalanobis distances [N] of ``deviations`` [N, features] from its middle."""
        along = deviations @ self.directions.T
        beside = np.maximum(np.square(deviations).sum(-1) - np.square(along).sum(-1), 0)
        found: NDArray[np.float32] = (np.square(along) / self.variances).sum(-1) + beside / self.rest
        return found


def fit_gaussian(deviations: NDArray[np.float32], freedom: int) -> Gaussian:
    """Of ``deviations`` [N, features] around its middle, with ``freedom`` degrees: N less the means that were taken off.

    The covariance is drawn towards a multiple of the identity as oracle approximating shrinkage has it (Chen et al. 2010,
    arXiv 0907.4698). Raises ValueError where all deviations are zero.
    """
    size = deviations.shape[1]
    _, spread, directions = np.linalg.svd(deviations.astype(np.float64), full_matrices=False)
    variances, freedom = spread**2 / max(1, freedom), max(1, freedom)
    trace, square = variances.sum(), np.square(variances).sum()
    if not trace > 0:
        msg = "all images give the same features"
        raise ValueError(msg)
    above, below = (1 - 2 / size) * square + trace**2, (freedom + 1 - 2 / size) * (square - trace**2 / size)
    shrinkage = 1.0 if below <= 0 else min(1.0, above / below)
    variances, floor = (1 - shrinkage) * variances, shrinkage * trace / size
    rank = min(RANK, len(variances), size - 1)
    rest = floor + variances[rank:].sum() / (size - rank)
    return Gaussian(
        directions=directions[:rank].astype(np.float32), variances=(variances[:rank] + floor).astype(np.float32), rest=float(rest)
    )
