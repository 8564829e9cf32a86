"""What the images cannot tell: sentences for where too few of them were looked at. Pure functions over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.measure.statistics import images_needed

if TYPE_CHECKING:
    from edgevit.measure.comparison import Row

FEW = 100
"""Images below which a comparison tells too little to recommend by: without any change they leave 3.7 points possible."""
POINT = 1.0
"""Percentage points that a reader cares about: if the images cannot rule out losing that many, say so."""


def possible_loss(row: Row) -> float:
    """Percentage points that ``row`` may lose as far as its images tell, 0 or more: of its score; without labels of agreement.

    The end of the 95 % interval. Of mAP that is the bootstrap's, which is 0 where no order changed: see `too_few`.
    """
    low = row.accuracy.agreement_interval[0] - 1 if row.change is None else row.change.interval[0]
    return max(0.0, -100 * low)


def is_few(row: Row) -> bool:
    """Whether ``row`` was measured on fewer than `FEW` images."""
    return row.accuracy.images < FEW


def too_few(row: Row) -> str:
    """The start of a headline: how much ``row`` may lose unseen."""
    loss, several = possible_loss(row), row.accuracy.multi_label
    start = f"Too few images to tell: {count(row.accuracy.images)} cannot rule out that {row.name}"
    if row.change is None:
        return f"{start} gives {f'{loss:.0f} % of its labels otherwise' if several else f'other answers to {loss:.0f} % of them'}"
    if several and loss < POINT:  # the bootstrap cannot see what none of these images shows
        return f"{start} loses {row.accuracy.metric} on others"
    return f"{start} loses {loss:.0f} {row.accuracy.unit}"


def doubts(row: Row) -> list[str]:
    """What the images cannot tell about a ``row`` that seems to lose nothing."""
    loss, seen = possible_loss(row), row.accuracy
    if loss <= POINT or row.change is None:
        return []
    unsure = f"{count(seen.images)} cannot rule out that {row.name} loses up to {loss:.1f} {seen.unit}"
    if seen.multi_label:  # how many would tell is known of single classes alone
        return [f"{unsure}."]
    needed = images_needed(POINT, (row.change.lost + row.change.won) / seen.images)
    return [f"{unsure}; to tell a loss of {POINT:g} point takes about {needed:,}."]


def budget_note(max_drop: float, row: Row, judged: int = 0) -> str | None:
    """A line if the images cannot tell whether ``row`` keeps a budget of ``max_drop`` points, else None.

    ``judged`` is the number of other images on which what to keep was decided.
    """
    loss, seen = possible_loss(row), row.accuracy
    if loss <= max_drop or not max_drop:
        return None
    decided = f", and the {judged:,} that it was judged on can no better" if 0 < judged <= seen.images else ""
    unsure = f"accuracy: {count(seen.images)} cannot rule out a loss of {loss:.1f} {seen.unit}{decided}"
    if seen.multi_label:
        return unsure
    changed = 1 - seen.agreement if row.change is None else (row.change.lost + row.change.won) / seen.images
    return f"{unsure}; to be sure of a budget of {max_drop:g} takes about {images_needed(max_drop, changed):,}"


def count(images: int) -> str:
    """``1,024 images``."""
    return f"{images:,} image{'' if images == 1 else 's'}"
