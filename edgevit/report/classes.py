"""What became of each class: a table whose rows end in two bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.measure.comparison import Comparison, Row
from edgevit.measure.recommend import points
from edgevit.report.svg import cut

CLASSES = 40  # classes shown at most: those with most changes
CALLED = 48  # characters of a name


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class: cells, and its shares of right answers before and after in percent."""

    cells: Sequence[str]
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The table; without rows ``summary`` is all there is to tell."""

    title: str
    summary: str
    columns: Sequence[str] = ()
    rows: Sequence[ClassRow] = ()


def by_class(comparison: Comparison, row: Row) -> Classes | None:
    """The classes of ``row`` against the first row; None without labels."""
    if row.change is None:
        return None
    found, several = row.change.classes, comparison.multi_label
    title, name = f"By {'label' if several else 'class'}: {row.name}", "label" if several else "class"
    if not any(item.lost or item.won for item in found):
        same = "found" if several else "right"
        return Classes(
            title=title,
            summary=f"The same images are {same} as before, in each of {len(found)} {name}{'s' if several else 'es'}.",
        )
    shown = {item.label for item in sorted(found, key=lambda item: -(item.lost + item.won))[:CLASSES]}
    rows = []
    for item in found:
        if item.label in shown:
            before, after = f"{100 * item.before / item.images:.1f}", f"{100 * item.after / item.images:.1f}"
            change = points((item.after - item.before) / item.images)
            cells = (cut(item.label, CALLED), str(item.images), before, after, change, f"{item.lost} / {item.won}")
            rows.append(ClassRow(cells=cells, before=before, after=after))
    summary = (
        "Of the images that have a label, those on which it was found before and after, at a threshold of 0.5."
        if several
        else "Right answers of each class before and after."
    )
    if left_out := len(found) - len(rows):
        summary += f" {left_out} classes with fewer changes are not shown."
    columns = (name, "images", f"{comparison.rows[0].name} %", f"{row.name} %", "change, points", "lost / won")
    return Classes(title=title, summary=summary, columns=columns, rows=rows)
