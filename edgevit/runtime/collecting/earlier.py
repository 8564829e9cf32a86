"""Pictures that were kept, now or in earlier sessions, and whether a frame is nearly the same as one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.runtime.collecting.difference import is_local

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Levels = NDArray[np.float32]

ALIKE = 0.95
"""Correlation of 16 x 16 gray thumbnails from which on two pictures are nearly the same, for `train`, too."""
GROWTH = 256
"""Rows that are added at a time."""


def pattern_of(thumbnail: Levels) -> Levels:
    """What of a thumbnail [32, 32] is correlated: float32 [256], 16 x 16 levels less their mean, of length 1 or 0."""
    half = thumbnail.reshape(16, 2, 16, 2).mean((1, 3)).reshape(-1)
    half = half - half.mean()
    length = float(np.linalg.norm(half))
    return (half / length if length > 1e-6 else np.zeros_like(half)).astype(np.float32)


class Earlier:
    """Finds the first picture that a frame is nearly the same as.

    That is one with a correlation of at least ``alike``, unless something came, went or moved before a background that stayed
    (`is_local`, by ``change``): on a fixed stage all pictures correlate, and the part on it is what they are taken for.
    """

    def __init__(self, *, alike: float = ALIKE, change: float) -> None:
        self.names: list[str] = []
        self._alike, self._change = alike, change
        self._patterns = np.zeros((GROWTH, 256), np.float32)
        self._thumbnails: list[Levels] = []

    def add(self, name: str, thumbnail: Levels) -> None:
        """Remember a picture's thumbnail, float32 [32, 32]."""
        if len(self.names) == len(self._patterns):
            self._patterns = np.concatenate([self._patterns, np.zeros_like(self._patterns)])
        self._patterns[len(self.names)] = pattern_of(thumbnail)
        self._thumbnails.append(thumbnail)
        self.names.append(name)

    def forget_last(self) -> None:
        """Forget the picture that was added last."""
        self.names.pop()
        self._thumbnails.pop()

    def like(self, thumbnail: Levels) -> str | None:
        """The name of a picture that this one, float32 [32, 32], is nearly the same as; None if there is none."""
        likeness = self._patterns[: len(self.names)] @ pattern_of(thumbnail)
        for index in np.flatnonzero(likeness >= min(self._alike, 1 - 1e-6)):
            if not is_local(self._thumbnails[index], thumbnail, self._change):
                return self.names[index]
        return None
