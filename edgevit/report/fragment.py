"""Parts of a page that a notebook shows below a cell: no script, no style sheet, names escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

from edgevit.measure.comparison import Comparison
from edgevit.plan.device_plan import device_lines
from edgevit.printable import printable
from edgevit.report.sheet import Sheet, device_sheet, short_sheet
from edgevit.report.table import conditions_line, device_plans, legend


def fragment(*parts: str) -> str:
    """``parts``, which are HTML, in one element."""
    return f"<div>{''.join(parts)}</div>"


def strong(text: object) -> str:
    """A line in bold."""
    return f"<p><b>{_text(text)}</b></p>"


def lines(texts: Iterable[object]) -> str:
    """A list, or nothing where there are no ``texts``."""
    items = "".join(f"<li>{_text(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table(sheet: Sheet | None) -> str:
    """``sheet`` with its title as caption, or nothing where there is none."""
    if sheet is None:
        return ""
    head = "".join(f"<th>{_text(column)}</th>" for column in sheet.columns) if any(sheet.columns) else ""
    rows = "".join(f"<tr>{''.join(_cell(cell, i < sheet.left) for i, cell in enumerate(row))}</tr>" for row in sheet.rows)
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table><caption>{_text(sheet.title)}</caption>{top}<tbody>{rows}</tbody></table>"


def picture(png: bytes, description: str) -> str:
    """A PNG, inlined."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{_text(description)}">'


def comparison_parts(comparison: Comparison) -> str:
    """What makes the figures suspect, the recommendation, the tables, what they mean and how they were measured."""
    found, sheet = comparison.recommendation, short_sheet(comparison)
    meanings = legend(comparison, sheet.columns, sheet.rows)
    return "".join((
        *(strong(f"Check first: {warning}") for warning in comparison.warnings),
        strong(found.headline),
        lines(found.reasons),
        table(sheet),
        table(device_sheet(comparison)),
        lines((*device_lines(device_plans(comparison)), *meanings, conditions_line(comparison))),
    ))  # fmt: skip


def _cell(cell: object, left: bool) -> str:
    return f'<td style="text-align: {"left" if left else "right"}">{_text(cell)}</td>'


def _text(text: object) -> str:
    return escape(printable(text))
