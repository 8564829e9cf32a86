"""Whether a frame is sharp, by what its source showed before, or by a number."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import ConfigError
from edgevit.runtime.collecting.difference import cell_differences
from edgevit.runtime.collecting.earlier import pattern_of
from edgevit.runtime.collecting.look import BLOCKS, THUMBNAIL, Look
from edgevit.share import share_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

HISTORY = 256
"""Sharp frames that are remembered."""
FEWEST, FEWEST_OF_SCENE = 5, 2
"""Of them, to compare with."""
SAME_SCENE = 0.7
"""Correlation from which on two frames show the same scene, and so have as much detail."""
OTHER_SCENE = 0.25
"""Part of the share that is asked for where no frame of the same scene is known: scenes differ in detail several times over."""
LEAST = 10.0
"""Less than any sharp picture: what is asked for where nothing is known of the source yet."""
NEAREST = 8
"""Frames of the scene, the likest, that blocks are compared with."""
SAME_BLOCK = 0.05
"""Mean difference of the thumbnail's cells up to which a block shows the same."""
FEWEST_BLOCKS = 6
LONGEST = 20
"""Characters of a number that is asked for."""
PATIENCE = 600
"""Blurred frames in a row after which the source is taken to have changed: what was sharp once does not count any more."""


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """What is asked of a frame: both, or nothing."""

    share: float = 0.0
    """Of the running median of the frames before it."""
    least: float = 0.0
    """In absolute numbers, see `Look.sharpness`."""


AUTO = Sharpness(share=0.4, least=LEAST)


def parse_sharpness(text: str) -> Sharpness:
    """``auto``, ``off``, a share of the running median such as ``40%``, or a number. Raises ConfigError."""
    word = text.strip().lower()
    if word in ("auto", "off"):
        return AUTO if word == "auto" else Sharpness()
    share = share_of(word)
    if share is None or (word.endswith("%") and share > 1) or len(word) > LONGEST:
        msg = f"--sharp {text!r}: write auto, off, a share of the running median such as 40%, or a number such as 150."
        raise ConfigError(msg)
    return Sharpness(share=share) if word.endswith("%") else Sharpness(least=share)


class SharpnessFilter:
    """Tells blurred frames. The running median is that of the latest frames of the same scene that were not blurred.

    Either the whole picture has less than the share of it, or half of those blocks have that show the same and had detail: a
    clock that the camera writes into the picture is as sharp as ever. Where fewer than two frames of the scene are known, a
    quarter of the share of the median of all is asked for.
    """

    def __init__(self, wanted: Sharpness = AUTO) -> None:
        self._wanted = wanted
        self._history: deque[Look] = deque(maxlen=HISTORY)
        self._patterns: deque[NDArray[np.float32]] = deque(maxlen=HISTORY)
        self._in_a_row = 0

    def is_blurred(self, look: Look) -> bool:
        """Judge a frame, and remember it for those that follow."""
        pattern = pattern_of(look.thumbnail)
        blurred = look.sharpness < self._wanted.least or self._is_less_sharp(look, pattern)
        self._in_a_row = self._in_a_row + 1 if blurred else 0
        if self._in_a_row > PATIENCE:
            self._history.clear()
            self._patterns.clear()
            self._in_a_row = 0
        if not blurred:
            self._history.append(look)
            self._patterns.append(pattern)
        return blurred

    def _is_less_sharp(self, look: Look, pattern: NDArray[np.float32]) -> bool:
        share = self._wanted.share
        if not share or len(self._history) < FEWEST:
            return False
        values = np.array([each.sharpness for each in self._history])
        likeness = np.stack(self._patterns) @ pattern
        scene = np.flatnonzero(likeness >= SAME_SCENE)
        if len(scene) < FEWEST_OF_SCENE:
            return look.sharpness < OTHER_SCENE * share * float(np.median(values))
        if look.sharpness < share * float(np.median(values[scene])):
            return True
        nearest = scene[np.argsort(-likeness[scene], kind="stable")[:NEAREST]]
        shares = [each for index in nearest if (each := detail_left(self._history[index], look)) is not None]
        return len(shares) >= FEWEST_OF_SCENE and float(np.median(shares)) < share


def detail_left(before: Look, now: Look) -> float | None:
    """The median share of their detail that blocks have now, of those that had some and show the same; None if too few do."""
    cells = cell_differences(before.thumbnail, now.thumbnail)
    same = cells.reshape(BLOCKS, THUMBNAIL // BLOCKS, BLOCKS, THUMBNAIL // BLOCKS).mean((1, 3)) < SAME_BLOCK
    compared = same & (before.blocks >= LEAST)
    return float(np.median(now.blocks[compared] / before.blocks[compared])) if compared.sum() >= FEWEST_BLOCKS else None
