"""The clock of a Jetson's GPU: whether it is locked, as `jetson_clocks` does, or follows its load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevit.device.files import number
from edgevit.device.jetson import GPU_CLOCKS, ROOT


@dataclass(frozen=True, kw_only=True)
class GpuClock:
    """In MHz."""

    lowest: float
    highest: float
    now: float | None

    @property
    def locked(self) -> bool:
        """Whether it cannot change."""
        return self.lowest == self.highest

    def __str__(self) -> str:
        """One line for people, with what to do about a clock that is free."""
        if self.locked:
            return f"GPU clock locked at {self.highest:.0f} MHz"
        now = "" if self.now is None else f", {self.now:.0f} when it was timed"
        return (
            f"GPU clock free between {self.lowest:.0f} and {self.highest:.0f} MHz{now}: kernels are chosen by their times at "
            "whatever it was. Lock it and compile again: sudo jetson_clocks"
        )


def gpu_clock(root: Path = ROOT) -> GpuClock | None:
    """The clock of this machine's GPU as the kernel tells it (devfreq); None where it does not. ``root`` is the file system's."""
    for folder in GPU_CLOCKS:
        lowest, highest, now = (number(root / folder / name) for name in ("min_freq", "max_freq", "cur_freq"))
        if lowest and highest:
            return GpuClock(lowest=lowest / 1e6, highest=highest / 1e6, now=now / 1e6 if now else None)
    return None
