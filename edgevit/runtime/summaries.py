"""What a run of several cameras did: each by itself, and all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgevit.runtime.cameras import Camera
from edgevit.runtime.faults import Faults
from edgevit.runtime.loop import Result
from edgevit.runtime.summary import Summary

SHOWN_LABELS = 2
OF_ONE = ("policy", "first_skipped", "faults")
"""What a summary says of a source, and nobody can say of several."""


class Summaries:
    """A `Summary` of each camera and one of all."""

    def __init__(self, cameras: Sequence[Camera]) -> None:
        self._cameras = {camera.name: camera for camera in cameras}
        self._each = {camera.name: Summary(camera.source) for camera in cameras}
        self._all = Summary(_Together(cameras=tuple(cameras)))
        self._lost: dict[str, str] = {}

    def add(self, result: Result) -> None:
        """Count one result."""
        self._each[result.camera].add(result)
        self._all.add(result)

    def lose(self, name: str, error: str) -> None:
        """Note that a camera is gone for good, or never came, and why."""
        self._lost[name] = error

    @property
    def frames(self) -> int:
        """Of all cameras."""
        return self._all.frames

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: a summary of all, ``fairness`` among them, and in ``cameras`` one of each, with why it was lost."""
        every = {key: value for key, value in self._all.to_dict().items() if key not in OF_ONE}
        each = [{"camera": name, "lost": self._lost.get(name or ""), **one.to_dict()} for name, one in self._each.items()]
        absent = [{"camera": name, "lost": error, "frames": 0} for name, error in self._lost.items() if name not in self._each]
        return {**every, "fairness": fairness([one.frames for one in self._each.values()]), "cameras": [*each, *absent]}

    def lines(self) -> list[str]:
        """The same for people: all, then a row of each, then the stages of all."""
        first, *rest = self._all.lines()
        wide = max(len("camera"), *(len(name or "") for name in (*self._each, *self._lost)))
        rows = [f"{'camera':<{wide}}  {'frames':>8} {'fps':>7} {'dropped':>8} {'p50 ms':>8} {'p99 ms':>8}  labels"]
        rows += [f"{name or '':<{wide}}  {_row(one)}" for name, one in self._each.items()]
        notes = []
        for name, camera in self._cameras.items():
            if camera.source.faults and (faults := camera.source.faults.line()):
                notes.append(f"{name}: {faults}")
        notes += [f"{name}: lost for good: {error}" for name, error in self._lost.items()]
        return [first, *rows, *notes, *rest]


def fairness(counts: Sequence[int]) -> float | None:
    """Jain's index of what each got: 1 if all got the same, 1/n if one got all; None of nothing.

    R. Jain, D. Chiu, W. Hawe: A quantitative measure of fairness and discrimination for resource allocation, DEC-TR-301, 1984.
    """
    squares = len(counts) * sum(count * count for count in counts)
    return sum(counts) ** 2 / squares if squares else None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Together:
    """Several sources as one, as far as a summary asks."""

    cameras: tuple[Camera, ...]
    policy: str = ""
    first_skipped: str | None = None
    faults: Faults | None = None

    @property
    def description(self) -> str:
        return f"{len(self.cameras)} cameras"

    @property
    def skipped(self) -> int:
        return sum(camera.source.skipped for camera in self.cameras)


def _row(one: Summary) -> str:
    at = one.percentiles()
    times = f"{at.p50:8.2f} {at.p99:8.2f}" if at else f"{'-':>8} {'-':>8}"
    shown = ", ".join(f"{label} {count}" for label, count in one.labels.most_common(SHOWN_LABELS))
    more = f", {len(one.labels) - SHOWN_LABELS} more" if len(one.labels) > SHOWN_LABELS else ""
    fps = f"{one.fps:7.1f}" if one.fps else f"{'-':>7}"
    return f"{one.frames:8} {fps} {one.dropped:8} {times}  {shown}{more}".rstrip()
