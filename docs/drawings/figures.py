"""Figures of the drawings, read from the tables of the pages that report them: no number is written down twice."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table behind the line that begins with ``heading``, without its head and without marks of emphasis."""
    lines = iter((DOCS / page).read_text(encoding="utf-8").splitlines())
    found: list[list[str]] = []
    if not any(line.startswith(heading) for line in lines):
        msg = f"{page}: no line begins with {heading!r}"
        raise LookupError(msg)
    for line in lines:
        if line.startswith("|"):
            found.append([re.sub(r"[*`]", "", cell).strip() for cell in line.strip("|").split("|")])
        elif found:
            break
    return found[2:]


def number(cell: str) -> float:
    """The first number of a cell."""
    found = re.search(r"-?[\d.]+", cell)
    if found is None:
        msg = f"no number in {cell!r}"
        raise LookupError(msg)
    return float(found[0])
