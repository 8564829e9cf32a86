"""Elements of SVG for the drawings: colours that fit a light page and a dark one, text in the reader's own font."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
STYLE = (
    "svg{--ink:#24292f;--soft:#6a737d;--line:#c4c9d0;--int8:#0b7f96;--float:#c2620c;--gone:#8a63d2;--ground:#fff}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6e9ee;--soft:#9aa3ad;--line:#4a525c;--int8:#35b6cf;--float:#f0953f;--gone:#b79bf0;--ground:#1b1f24}}"
    "text{fill:var(--ink);font:13px system-ui,sans-serif}.soft{fill:var(--soft)}.small{font-size:12px}.bold{font-weight:600}"
    ".on{fill:var(--ground);font-weight:600}.line{stroke:var(--line);stroke-width:1.5;fill:none}.ink{stroke:var(--ink);stroke-width:1.5;fill:none}"
    ".box{fill:var(--ground);stroke:var(--line);stroke-width:1.5}.int8{fill:var(--int8)}.float{fill:var(--float)}.gone{fill:var(--gone)}.tip{fill:var(--ink)}"
)
"""Custom properties with values of their own, which the site's stylesheet replaces by the page's."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a bar chart."""

    name: str
    value: float
    text: str
    kind: str = "float"


def drawing(height: float, title: str, parts: Sequence[str]) -> str:
    """A whole file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}"><title>{escape(title)}</title>'
    return f"{head}<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text; ``kind`` names classes of the style."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, words: str = "", kind: str = "box", below: str = "") -> str:
    """A rectangle with a line of text in its middle, and perhaps a second one."""
    middle, inside = x + width / 2, "on" if kind != "box" else ""
    rows = [f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>']
    if words:
        rows.append(text(middle, y + height / 2 + (-3 if below else 5), words, inside, "middle"))
    if below:
        rows.append(text(middle, y + height / 2 + 14, below, f"{inside or 'soft'} small", "middle"))
    return "".join(rows)


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """A line along an axis, with a tip."""
    across = to_x != x
    back = 6 if (to_x > x or to_y > y) else -6
    tip = (
        f"{to_x:g},{to_y:g} {to_x - back:g},{to_y - 4:g} {to_x - back:g},{to_y + 4:g}" if across
        else f"{to_x:g},{to_y:g} {to_x - 4:g},{to_y - back:g} {to_x + 4:g},{to_y - back:g}"
    )  # fmt: skip
    return f'<path d="M{x:g} {y:g}L{to_x:g} {to_y:g}" class="ink"/><polygon points="{tip}" class="tip"/>'


def bars(top: float, left: float, rows: Sequence[Bar], room: float = 150) -> list[str]:
    """Horizontal bars from ``top`` on, 26 units each, names to the left of ``left`` and figures in the ``room`` behind."""
    scale = (WIDTH - left - room) / max(row.value for row in rows)
    parts = []
    for i, row in enumerate(rows):
        y = top + 26 * i
        parts.append(text(left - 10, y + 14, row.name, "small", "end"))
        parts.append(f'<rect x="{left:g}" y="{y:g}" width="{row.value * scale:.1f}" height="18" rx="2" class="{row.kind}"/>')
        parts.append(text(left + row.value * scale + 8, y + 14, row.text, "small"))
    return parts
