"""Names beside points: where nothing else is drawn, and as near as that allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgevit.report.svg import CHARACTER, Anchor

TALL = 15
"""Units of a line of text."""
RISE = 11
"""Of those, above the baseline."""
REACH = 400
"""Units that a name is moved away from its point at most."""
STEP = 3
APART = 10
"""Units between a point and its name."""


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: Box) -> float:
        """The area of what lies in both."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        tall = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * tall if wide > 0 and tall > 0 else 0.0

    def holds(self, other: Box) -> bool:
        """Whether ``other`` lies in it as a whole."""
        return self.left <= other.left and self.top <= other.top and other.right <= self.right and other.bottom <= self.bottom


@dataclass(frozen=True, kw_only=True)
class Name:
    """A text to put beside the point (x, y)."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a name's baseline begins, or ends."""

    x: float
    y: float
    anchor: Anchor
    box: Box
    away: float
    """Units between the point's height and the text's middle."""
    covered: float = 0.0
    """The area of what is drawn there already."""


def placed(names: Sequence[Name], drawn: Sequence[Box], area: Box) -> list[Place]:
    """A place in ``area`` for each of ``names``, in their order: the nearest that touches nothing of ``drawn`` nor another name.

    Where there is none, the one that covers least.
    """
    taken, found = list(drawn), dict[int, Place]()
    for i in sorted(range(len(names)), key=lambda i: (names[i].y, names[i].x)):
        best: Place | None = None
        for place in _candidates(names[i], area):
            covered = sum(place.box.shared(box) for box in taken)
            if best is None or covered < best.covered:
                best = replace(place, covered=covered)
            if not covered:
                break
        assert best is not None
        found[i] = best
        taken.append(best.box)
    return [found[i] for i in range(len(names))]


def _candidates(name: Name, area: Box) -> list[Place]:
    """All places beside, above and below the point, the nearest first."""
    wide = len(name.text) * CHARACTER
    moves = sorted((step * sign for step in range(0, REACH, STEP) for sign in (1, -1)), key=abs)
    found = []
    for move in moves:
        sides: list[tuple[float, Anchor]] = [(name.x + APART, "start"), (name.x - APART, "end")]
        if abs(move) > TALL:
            sides.append((name.x, "middle"))
        for x, anchor in sides:
            left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
            middle = name.y + move
            box = Box(left, middle - TALL / 2, left + wide, middle + TALL / 2)
            if area.holds(box):
                found.append(Place(x=x, y=box.top + RISE, anchor=anchor, box=box, away=move))
    if found:
        return found
    left = min(max(area.left, name.x - wide / 2), max(area.left, area.right - wide))  # wider than there is room for
    box = Box(left, name.y - TALL / 2, left + wide, name.y + TALL / 2)
    return [Place(x=left, y=box.top + RISE, anchor="start", box=box, away=0.0)]
