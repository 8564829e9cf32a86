"""The filters in order: why a frame is left out, or that it is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from edgevit.runtime.collecting.difference import CHANGE, difference
from edgevit.runtime.collecting.earlier import ALIKE, Earlier
from edgevit.runtime.collecting.look import Look
from edgevit.runtime.collecting.sharp import AUTO, Sharpness, SharpnessFilter

Reason = Literal["too soon", "dark", "overexposed", "flat", "blurred", "unchanged", "duplicate", "certain"]
EVERY = 1.0
EARLY = 1e-6  # seconds: time stamps are rounded


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is asked of a frame."""

    every: float = EVERY
    """Seconds since the last one that was kept."""
    change: float = CHANGE
    """`difference` from it, at least."""
    sharp: Sharpness = AUTO
    alike: float = ALIKE
    """See `Earlier`."""
    any_light: bool = False
    """Whether dark, overexposed and flat frames pass."""


class Chooser:
    """Judges frames in the order in which a source gives them, and counts those that it leaves out by their first reason."""

    def __init__(self, filters: Filters, earlier: Earlier) -> None:
        self.left_out: Counter[Reason] = Counter()
        self.earlier = earlier
        self._filters = filters
        self._sharp = SharpnessFilter(filters.sharp)
        self._last: Look | None = None
        self._kept_at: float | None = None

    def passes(self, look: Look, at: float | None) -> bool:
        """Whether a frame of so many seconds, None where time means nothing, is worth keeping; if not, it is counted."""
        reason = self.reason(look, at)
        if reason is not None:
            self.left_out[reason] += 1
        return reason is None

    def keep(self, name: str, look: Look, at: float | None) -> None:
        """The frame was kept as ``name``: others are held against it."""
        self.earlier.add(name, look.thumbnail)
        self._last, self._kept_at = look, at

    def change_of(self, look: Look) -> float | None:
        """`difference` from the last frame that was kept; None before there is one."""
        return None if self._last is None else difference(self._last.thumbnail, look.thumbnail)

    def forget_last(self) -> None:
        """The frame that was kept last was thrown away after all."""
        self.earlier.forget_last()
        self._last = self._kept_at = None

    def reason(self, look: Look, at: float | None) -> Reason | None:
        """Why a frame should be left out, if it should; its sharpness is remembered for those that follow."""
        exposure = None if self._filters.any_light else look.exposure
        # Also of frames that come too soon: the median of all is steadier.
        blurred = exposure is None and self._sharp.is_blurred(look)
        if at is not None and self._kept_at is not None and at - self._kept_at < self._filters.every - EARLY:
            return "too soon"
        if exposure is not None:
            return exposure
        if blurred:
            return "blurred"
        change = self.change_of(look)
        if change is not None and change < self._filters.change:
            return "unchanged"
        return "duplicate" if self.earlier.like(look.thumbnail) is not None else None
