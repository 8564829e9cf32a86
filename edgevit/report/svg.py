"""Elements of SVG plots. Texts are escaped as they are put in; sizes are in units of which a page shows about one a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup

from edgevit.printable import printable

CHARACTER = 7.2
"""Units of an average character; the page's style sheet draws text 13 units high."""
LONGEST = 60
"""Characters of a text at most."""
Anchor = Literal["start", "middle", "end"]


def text(x: float, y: float, content: str, anchor: Anchor, kind: str = "") -> Markup:
    """One line of text whose baseline is at ``y``."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, kind, cut(printable(content), LONGEST)
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def polyline(corners: Sequence[tuple[float, float]], kind: str) -> Markup:
    """Straight lines from each of ``corners`` to the next."""
    return Markup('<polyline points="{}" class="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in corners), kind)


def circle(x: float, y: float, radius: float, kind: str) -> Markup:
    """A point."""
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" class="{}"/>').format(x, y, radius, kind)


def rect(x: float, y: float, width: float, height: float, *, kind: str = "", fill: str = "", opacity: float = 1,
         title: str = "") -> Markup:  # fmt: skip
    """A rectangle; ``title`` is shown when it is pointed at."""
    inside = Markup("<title>{}</title>").format(printable(title)) if title else Markup("")
    paint = Markup(' fill="{}" fill-opacity="{:.2f}"').format(fill, opacity) if fill else Markup("")
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"{}>{}</rect>').format(
        x, y, width, height, kind, paint, inside
    )


def drawing(width: float, height: float, title: str, parts: Sequence[Markup]) -> Markup:
    """The whole: ``title`` is what it shows, for who cannot see it."""
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, printable(title), Markup("").join(parts)
    )


def cut(content: str, longest: int) -> str:
    """``content``, or its beginning with dots."""
    return content if len(content) <= longest else f"{content[: max(1, longest - 1)].rstrip()}…"
