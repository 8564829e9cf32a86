"""Plots as SVG elements: no library, no script; they take the page's text colour, so that they fit light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from edgevit.files.own_kinds import PLOT_MARK

WIDTH = 720  # units of every plot's width; the page scales it
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999", "#b8a800", "#7f6000", "#5b4fbf", "#888888")
"""Okabe and Ito's, told apart by color-blind readers, and a few more."""
CHARACTER = 6.6  # units of an average character at 12 units of height


@dataclass(frozen=True, kw_only=True)
class Point:
    """One variant in a plane: something to be low on x and high on y."""

    name: str
    x: float
    y: float
    low: float
    high: float
    """The interval of y."""
    chosen: bool = False
    near: float | None = None
    """The interval of x; None: not known."""
    far: float | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar, with further marks on its scale."""

    name: str
    value: float
    marks: tuple[float, ...] = ()
    text: str = ""
    chosen: bool = False


def plane(
    points: Sequence[Point], x_label: str, y_label: str, zero: float | None = None, front: Sequence[int] = ()
) -> str:  # fmt: skip
    """A scatter of ``points`` with their intervals and names; a line marks y = ``zero``, another joins those of the ``front``."""
    left, right, top, bottom, height = 62, 24, 16, 46, 340
    lows, highs = [point.low for point in points], [point.high for point in points]
    y_ticks = ticks(min(*lows, *([] if zero is None else [zero]), *highs), max(*highs, *lows))
    x_ticks = ticks(0, max(point.x for point in points) * 1.12)

    def across(x: float) -> float:
        return left + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (WIDTH - left - right)

    def up(y: float) -> float:
        return height - bottom - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (height - top - bottom)

    parts = [_line(left, up(y), WIDTH - right, up(y), "grid") + _text(left - 8, up(y) + 4, f"{y:g}", "end") for y in y_ticks]
    parts += [_text(across(x), height - bottom + 18, f"{x:g}", "middle") for x in x_ticks]
    parts.append(_line(left, height - bottom, WIDTH - right, height - bottom, "axis"))
    if zero is not None:
        parts.append(_line(left, up(zero), WIDTH - right, up(zero), "zero"))
    parts.append(_text((left + WIDTH - right) / 2, height - 8, x_label, "middle"))
    middle = (height - bottom + top) / 2
    parts.append(f'<text transform="translate(14 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    if len(front) > 1:
        corners = " ".join(f"{across(points[i].x):.1f},{up(points[i].y):.1f}" for i in front)
        parts.append(f'<polyline points="{corners}" class="front"/>')
    for point in points:
        x, kind = across(point.x), "chosen" if point.chosen else "other"
        if point.near is not None and point.far is not None:
            end = across(min(point.far, x_ticks[-1]))  # one interval that is far longer would flatten all else
            parts.append(_line(across(point.near), up(point.y), end, up(point.y), f"whisker {kind}"))
        parts.append(_line(x, up(point.low), x, up(point.high), f"whisker {kind}"))
        parts += [
            _line(x - 4, up(end), x + 4, up(end), f"whisker {kind}") for end in (point.low, point.high) if point.low < point.high
        ]
        parts.append(f'<circle cx="{x:.1f}" cy="{up(point.y):.1f}" r="{7 if point.chosen else 5}" class="{kind}"/>')
    parts += _labels([(across(point.x), up(point.y), point.name, point.chosen) for point in points], top + 8, height - bottom - 4)
    return _svg(height, f"{y_label} over {x_label}", parts)


def bars(items: Sequence[Bar], unit: str, title: str) -> str:
    """Horizontal bars; ``marks`` are ticks on their scale, ``text`` stands behind.

    The scale holds every bar and every first mark; marks beyond it are left out, or one outlier would flatten the rest.
    """
    left = _margin([item.name for item in items])
    room = max(len(item.text) for item in items) * CHARACTER + 16
    top, row = 8, 26
    scale = ticks(0, max(max(item.value, *item.marks[:1]) if item.marks else item.value for item in items))
    height = top + row * len(items) + 34

    def across(value: float) -> float:
        return left + value / scale[-1] * (WIDTH - left - room)

    parts = _scale(scale, across, top, height - 34, unit)
    for i, item in enumerate(items):
        y = top + row * i
        kind, end = "chosen" if item.chosen else "other", across(item.value)
        parts.append(_text(left - 8, y + 17, item.name, "end", "strong" if item.chosen else ""))
        parts.append(
            f'<rect x="{left}" y="{y + 4}" width="{max(1.0, end - left):.1f}" height="{row - 8}" rx="2" class="{kind}"/>'
        )
        parts += [_line(across(mark), y + 3, across(mark), y + row - 3, "mark") for mark in item.marks if mark <= scale[-1]]
        parts.append(_text(WIDTH - 4, y + 17, item.text, "end"))
    return _svg(height, title, parts)


def stacks(rows: Mapping[str, Mapping[str, float]], order: Sequence[str], unit: str, title: str) -> str:
    """One stacked bar per row, of parts in ``order``, with a legend of those that occur."""
    names = [part for part in order if any(part in row for row in rows.values())]
    left, right, line = _margin(list(rows)), 62, 26
    legend, legend_height = _legend(names)
    top = legend_height + 6
    scale = ticks(0, max(sum(row.values()) for row in rows.values()))
    height = top + line * len(rows) + 34

    def across(value: float) -> float:
        return left + value / scale[-1] * (WIDTH - left - right)

    parts = [*legend, *_scale(scale, across, top, height - 34, unit)]
    for i, (name, row) in enumerate(rows.items()):
        y, start = top + line * i, 0.0
        parts.append(_text(left - 8, y + 17, name, "end"))
        for part, value in row.items():
            x, wide = across(start), across(start + value) - across(start)
            color = COLORS[names.index(part) % len(COLORS)]
            parts.append(f'<rect x="{x:.1f}" y="{y + 4}" width="{wide:.1f}" height="{line - 8}" fill="{color}">'
                         f"<title>{escape(part)}: {value:.2f} {escape(unit)}</title></rect>")  # fmt: skip
            start += value
        parts.append(_text(across(start) + 6, y + 17, f"{start:.1f}", "start"))
    return _svg(height, title, parts)


def heat(cells: Mapping[tuple[str, str], float], unit: str, title: str, *, worst: float, best: float) -> str:
    """A grid of ``cells`` by (row, column), each with its number; ``worst`` and below is darkest, ``best`` and above clear."""
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    left, top, tall = _margin(rows), 24, 22
    wide = (WIDTH - left - 8) / len(columns)
    parts = [_text(left + wide * (i + 0.5), 16, column, "middle") for i, column in enumerate(columns)]
    for i, row in enumerate(rows):
        parts.append(_text(left - 8, top + tall * i + 15, row, "end"))
        for j, column in enumerate(columns):
            if (value := cells.get((row, column))) is None:
                continue
            strength = min(1.0, max(0.0, (best - value) / (best - worst)))
            x, y = left + wide * j, top + tall * i
            parts.append(f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{wide - 2:.1f}" height="{tall - 2}" rx="2" fill="#d55e00" '
                         f'fill-opacity="{0.75 * strength:.2f}" class="cell"/>')  # fmt: skip
            parts.append(_text(x + wide / 2, y + 15, f"{value:.0f}", "middle"))
    return _svg(top + tall * len(rows) + 6, f"{title}, {unit}", parts)


def alone(svg: str) -> str:
    """A plot as a file of its own: with colours for light and for dark backgrounds, which on a page the page gives."""
    style = (
        "text{fill:#5d6670}.grid{stroke:#99999955}.axis,.zero{stroke:#888}.zero{stroke-dasharray:5 4}.strong{font-weight:700}"
        ".leader{stroke:#888;stroke-width:.7}.mark{stroke:#5d6670}circle.other,rect.other{fill:#9aa7b3}"
        "circle.chosen,rect.chosen{fill:#0072b2}.whisker{stroke:#9aa7b3;stroke-width:1.6}.whisker.chosen{stroke:#0072b2}"
        ".front{fill:none;stroke:#0072b2;stroke-opacity:.5;stroke-width:1.5}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {PLOT_MARK} font-family="sans-serif" font-size="12" '
    return f"{svg.replace('<svg ', head, 1).replace('>', f'><style>{style}</style>', 1)}\n"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers that span ``low`` to ``high``, at least two."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _scale(scale: Sequence[float], across: Callable[[float], float], top: float, bottom: float, unit: str) -> list[str]:
    parts = [_line(across(x), top, across(x), bottom, "grid") for x in scale]
    parts += [_text(across(x), bottom + 16, f"{x:g}", "middle") for x in scale[:-1]]
    return [*parts, _text(across(scale[-1]), bottom + 16, f"{scale[-1]:g} {unit}", "middle")]


def _legend(names: Sequence[str]) -> tuple[list[str], float]:
    """Squares with names, in as many lines as they need, and the height of all lines."""
    parts, x, y = [], 4.0, 4.0
    for i, name in enumerate(names):
        wide = 18 + len(name) * CHARACTER + 14
        if x + wide > WIDTH:
            x, y = 4.0, y + 20
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="12" height="12" fill="{COLORS[i % len(COLORS)]}"/>')
        parts.append(_text(x + 17, y + 10.5, name, "start"))
        x += wide
    return parts, y + 22


def _labels(items: Sequence[tuple[float, float, str, bool]], top: float, bottom: float) -> list[str]:
    """Names beside points, pushed apart where they would overlap, with a thin line back to a point that lost its own."""
    placed: list[tuple[float, float, float]] = []
    parts = []
    for x, y, name, chosen in sorted(items, key=lambda item: item[1]):
        wide = len(name) * CHARACTER
        before = x + 12 + wide > WIDTH - 4
        start = x - 12 - wide if before else x + 12
        at = max(top, y + 4)
        while any(abs(at - other) < 14 and start < end and begin < start + wide for begin, end, other in placed):
            at += 2
        if at > bottom:  # no room below: go up from the point instead
            at = y + 4
            while any(abs(at - other) < 14 and start < end and begin < start + wide for begin, end, other in placed):
                at -= 2
        placed.append((start, start + wide, at))
        if abs(at - y - 4) > 6:
            parts.append(_line(x, y, x - 10 if before else x + 10, at - 4, "leader"))
        parts.append(_text(x - 12 if before else x + 12, at, name, "end" if before else "start", "strong" if chosen else ""))
    return parts


def _margin(names: Sequence[str]) -> int:
    """Room for names on the left, at most a third of the plot."""
    return round(min(WIDTH / 3, max(len(name) for name in names) * 1.12 * CHARACTER + 16))


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    shown = text if len(text) <= 60 else text[:57] + "..."
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(shown)}</text>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
