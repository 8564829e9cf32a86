"""How usual a frame is among the images that the model knows, and from where on it is called unknown."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import ConfigError
from edgevit.share import meant_by, share_of

if TYPE_CHECKING:
    from edgevit.engine.base import Features
    from edgevit.known.known import Known

AUTO = "auto"
USUAL_RATE = 0.01
"""False alarms that ``auto`` allows: of 100 frames of what is known, one is called unknown."""
FORM = "write auto, or the share of known frames that may be called unknown, such as 0.02 or 2%"


@dataclass(frozen=True, kw_only=True)
class Rarity:
    """Of one frame, or of the last few together."""

    distance: float
    """`edgevit.known.known.Known.distance`."""
    typicality: float
    """The share of known images that are as far away or farther: 0.5 is usual, below 0.01 is one of 100."""
    unknown: bool
    """Whether it is called unknown."""


def rate_of(asked: str | float | None, known: Known | None) -> float | None:
    """From which typicality on a frame is called unknown; None if none is.

    ``asked`` is ``auto``, a share, or a text such as ``2%``. Raises ConfigError for anything else, for a share that ``known`` is
    too few images to tell, and where there is no ``known``.
    """
    if asked is None:
        return None
    if known is None:
        msg = "--unknown: this bundle does not tell what is unknown. Build it with: edgevit build MODEL --data DIR --unknown"
        raise ConfigError(msg)
    if asked == AUTO:
        return max(USUAL_RATE, known.least)
    rate = share_of(str(asked))
    if rate is None or not 0 < rate < 1:
        msg = f"--unknown {asked}: {FORM}.{meant_by(str(asked))}"
        raise ConfigError(msg)
    if rate < known.least:
        msg = (
            f"--unknown {asked}: this bundle was judged by {len(known.distances)} images, of which the rarest is one in "
            f"{len(known.distances) + 1}. Ask for {known.least:.2g} or more, or build it with more images."
        )
        raise ConfigError(msg)
    return rate


class Watch:
    """Says of frames, in order, how rare they are."""

    def __init__(self, known: Known, rate: float | None = None, frames: int = 1) -> None:
        """Call those unknown whose typicality is at most ``rate``, of the mean distance of ``frames`` frames."""
        self._known, self._rate = known, rate
        self._distances: deque[float] = deque(maxlen=frames)

    def __call__(self, features: Features, seen: int) -> Rarity:
        """Of a frame with ``features`` [features], whose likeliest class is number ``seen``."""
        self._distances.append(float(self._known.distance(features[None], np.array([seen]))[0]))
        distance = sum(self._distances) / len(self._distances)
        typicality = self._known.typicality(distance)
        return Rarity(distance=distance, typicality=typicality, unknown=self._rate is not None and typicality <= self._rate)

    def reset(self) -> None:
        """Forget the frames before."""
        self._distances.clear()
