"""How far two thumbnails are from each other, whatever the light did meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Levels = NDArray[np.float32]

MOST_CHANGED = 0.05
"""Share of the cells whose mean is the difference: all cells together would hardly notice a small part on a belt."""
FITTED = 0.75
"""Share of the cells that the light is fitted on, those that fit best: the rest may be what changed."""
CHANGE = 0.05
"""Difference from which on a picture is another, if nobody says: noise, flicker and a clock in it stay below half of that."""
BRIGHTEST = 2.0
"""The light changes by at most this factor, either way."""
ROUNDS = 3
STILL, NOISE = 0.85, 0.006
"""A background stayed if such a share of the cells differs by less, as a share of the range from black to white: a level and a
half, as MPEG-4 makes of a still picture; of a slow pan over a wide sky, 98 % differ by more."""


def cell_differences(one: Levels, other: Levels) -> Levels:
    """Absolute differences of two thumbnails, float32 [32, 32] each, as shares of the range from black to white.

    First ``other`` is brought to the brightness and contrast of ``one``: by a factor and an offset, least squares over the three
    quarters of the cells that fit best.
    """
    target, levels = one.reshape(-1), other.reshape(-1)
    inside = np.ones(len(levels), bool)
    rest = np.abs(target - levels)
    for _ in range(ROUNDS):
        factor, offset = _light(levels[inside], target[inside])
        rest = np.abs(factor * levels + offset - target)
        inside = rest <= np.quantile(rest, FITTED)
    return (rest / 255).reshape(one.shape)


def difference(one: Levels, other: Levels) -> float:
    """Mean absolute difference, 0 to 1, of the twentieth of the cells that differ most, after `cell_differences`."""
    cells = np.sort(cell_differences(one, other), axis=None)
    return float(cells[-max(1, round(MOST_CHANGED * len(cells))) :].mean())


def is_local(one: Levels, other: Levels, change: float) -> bool:
    """Whether something came, went or moved, by at least ``change`` and `CHANGE`, before a background that stayed."""
    cells = cell_differences(one, other)
    return float(np.quantile(cells, STILL)) < NOISE and difference(one, other) >= max(change, CHANGE)


def _light(levels: Levels, target: Levels) -> tuple[float, float]:
    """The factor and offset that bring ``levels`` nearest to ``target``."""
    centred = levels - levels.mean()
    spread = float(centred @ centred)
    factor = float(centred @ (target - target.mean())) / spread if spread > len(levels) else 1.0
    factor = float(np.clip(factor, 1 / BRIGHTEST, BRIGHTEST))
    return factor, float(target.mean() - factor * levels.mean())
