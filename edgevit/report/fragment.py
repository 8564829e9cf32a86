"""Parts of a page that a notebook shows below a cell: no script, no style sheet."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from markupsafe import Markup

from edgevit.measure.comparison import Comparison
from edgevit.plan.device_plan import device_lines
from edgevit.report.sheet import Sheet, device_sheet, short_sheet
from edgevit.report.table import conditions_line, device_plans, legend
from edgevit.report.templating import macro

TEMPLATE = "fragment.html.j2"


def fragment(*parts: Markup) -> str:
    """``parts`` in one element."""
    return str(macro(TEMPLATE, "fragment", parts))


def strong(text: object) -> Markup:
    """A line in bold."""
    return macro(TEMPLATE, "strong", text)


def lines(texts: Iterable[object]) -> Markup:
    """A list, or nothing where there are no ``texts``."""
    return macro(TEMPLATE, "lines", tuple(texts))


def table(sheet: Sheet | None) -> Markup:
    """``sheet`` with its title as caption, or nothing where there is none."""
    return Markup("") if sheet is None else macro(TEMPLATE, "table", sheet)


def picture(png: bytes, description: str) -> Markup:
    """A PNG, inlined."""
    return macro(TEMPLATE, "picture", base64.b64encode(png).decode(), description)


def comparison_parts(comparison: Comparison | None) -> Markup:
    """What makes the figures suspect, the recommendation, the tables, their meaning and conditions; nothing of None."""
    if comparison is None:
        return Markup("")
    found, sheet = comparison.recommendation, short_sheet(comparison)
    meanings = legend(comparison, sheet.columns, sheet.rows)
    return Markup("").join((
        *(strong(f"Check first: {warning}") for warning in comparison.warnings),
        strong(found.headline),
        lines(found.reasons),
        table(sheet),
        table(device_sheet(comparison)),
        lines((*device_lines(device_plans(comparison)), *meanings, conditions_line(comparison))),
    ))  # fmt: skip
