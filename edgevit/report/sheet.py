"""A table before it is rendered: a terminal, a notebook and a page show the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.measure.comparison import Comparison
from edgevit.plan.device_plan import device_table
from edgevit.report.table import SHORT, device_plans, filled, images_line, short_cells


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Columns and rows of texts."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    """Columns, counted from the first, that are left-aligned."""


def short_sheet(comparison: Comparison) -> Sheet:
    """A row for each variant, in columns that fit a terminal."""
    columns, rows = filled(SHORT, [short_cells(comparison, row) for row in comparison.rows])
    return Sheet(title=images_line(comparison), columns=columns, rows=rows, left=2)


def device_sheet(comparison: Comparison) -> Sheet | None:
    """Plans and estimated milliseconds on the device; None where nothing was compiled for it."""
    plans = device_plans(comparison)
    if not plans:
        return None
    columns, rows = device_table(plans)
    return Sheet(title="On the device", columns=columns, rows=rows)


def percent(share: float | None) -> str:
    """A share 0..1 as a percentage, or a dash."""
    return "-" if share is None else f"{100 * share:.1f} %"


def megabytes(size: int) -> str:
    """Bytes as MB with one decimal."""
    return f"{size / 1e6:.1f} MB"
