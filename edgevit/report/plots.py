"""Plots as SVG elements: no library, no script; they take the page's text colour, so that they fit light and dark.

Each is drawn for a width. A page holds it in all of `WIDTHS` and shows the one that fits, so that text has its size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from edgevit.files.own_kinds import PLOT_MARK
from edgevit.report.placing import Box, Name, placed
from edgevit.report.svg import CHARACTER, circle, cut, drawing, line, polyline, rect, text

WIDTHS = {"wide": 1040, "medium": 640, "narrow": 340}
"""Units, by the name that the style sheet knows them under: of a page's whole width, of a tablet's, of a phone's."""
WIDE, ROOMY = WIDTHS["wide"], WIDTHS["medium"]
"""The width of a plot if nothing else is said; and the least at which names fit beside what they name."""
COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999", "#b8a800", "#7f6000", "#5b4fbf", "#888888")
"""Okabe and Ito's, told apart by color-blind readers, and a few more."""
AXIS = 30
"""Units below a scale, for its numbers."""
LINE = 20
"""Units of a line of text with its spacing."""
EDGE = 4
"""Units that are left free at each side."""


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


def at_widths(plot: Callable[[int], Markup]) -> dict[str, Markup]:
    """``plot`` drawn at each of `WIDTHS`, by their names."""
    return {name: plot(width) for name, width in WIDTHS.items()}


def plane(
    points: Sequence[Point], x_label: str, y_label: str, zero: float | None = None, front: Sequence[int] = (), *,
    width: int = WIDE,
) -> Markup:  # fmt: skip
    """A scatter of ``points`` with their intervals and names; a line marks y = ``zero``, another joins those of the ``front``."""
    left, right, top, tall = 52, 18, 34, 300 if width < ROOMY else 360
    lows, highs = [point.low for point in points], [point.high for point in points]
    y_ticks = ticks(min(*lows, *([] if zero is None else [zero]), *highs), max(*highs, *lows))
    x_ticks = ticks(0, max(point.x for point in points) * 1.12, 5 if width >= ROOMY else 4)
    bottom = top + tall

    def across(x: float) -> float:
        return left + (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (width - left - right)

    def up(y: float) -> float:
        return bottom - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * tall

    parts = [text(EDGE, 15, y_label, "start", "soft")]
    parts += [line(left, up(y), width - right, up(y), "grid") + text(left - 8, up(y) + 4, f"{y:g}", "end") for y in y_ticks]
    parts += [text(across(x), bottom + 20, f"{x:g}", "middle") for x in x_ticks]
    parts.append(line(left, bottom, width - right, bottom, "axis"))
    drawn = [Box(left, up(y) - 1, width - right, up(y) + 1) for y in y_ticks]
    if zero is not None:
        parts.append(line(left, up(zero), width - right, up(zero), "zero"))
        drawn.append(Box(left, up(zero) - 1, width - right, up(zero) + 1))
    parts.append(text(width - right, bottom + 42, x_label, "end", "soft"))
    if len(front) > 1:
        parts.append(polyline([(across(points[i].x), up(points[i].y)) for i in front], "front"))
    for point in points:
        x, kind, radius = across(point.x), "chosen" if point.chosen else "other", 7 if point.chosen else 5
        if point.near is not None and point.far is not None:
            end = across(min(point.far, x_ticks[-1]))  # one interval that is far longer would flatten all else
            parts.append(line(across(point.near), up(point.y), end, up(point.y), f"whisker {kind}"))
            drawn.append(Box(across(point.near), up(point.y) - 1, end, up(point.y) + 1))
        parts.append(line(x, up(point.low), x, up(point.high), f"whisker {kind}"))
        ends = (point.low, point.high) if point.low < point.high else ()
        parts += [line(x - 4, up(end), x + 4, up(end), f"whisker {kind}") for end in ends]
        parts.append(circle(x, up(point.y), radius, kind))
        drawn.append(Box(x - 5, up(point.high) - 1, x + 5, up(point.low) + 1))
        drawn.append(Box(x - radius, up(point.y) - radius, x + radius, up(point.y) + radius))
    places = [(across(point.x), up(point.y)) for point in points]
    names, numbered = _named(points, places, drawn, Box(left, top, width - EDGE, bottom), width)
    below, height = _numbers(points, bottom + 54, width) if numbered else ([], bottom + 54)
    return drawing(width, height, f"{y_label} over {x_label}", [*parts, *names, *below])


def bars(items: Sequence[Bar], unit: str, title: str, *, width: int = WIDE) -> Markup:
    """Horizontal bars; ``marks`` are ticks on their scale, ``text`` stands behind.

    The scale holds every bar and every first mark; marks beyond it are left out, or one outlier would flatten the rest.
    """
    room = max(len(item.text) for item in items) * CHARACTER + 16
    rows = _Rows([item.name for item in items], width, top=8, behind=room)
    scale = ticks(0, max(max(item.value, *item.marks[:1]) if item.marks else item.value for item in items), rows.ticks)
    parts = rows.scale(scale, unit)
    for i, item in enumerate(items):
        kind, end = "chosen" if item.chosen else "other", rows.across(item.value, scale)
        parts += rows.name(i, item.name, "strong" if item.chosen else "")
        parts.append(rect(rows.left, rows.bar(i), max(1.0, end - rows.left), rows.thick, kind=kind))
        marks = [rows.across(mark, scale) for mark in item.marks if mark <= scale[-1]]
        parts += [line(x, rows.bar(i) - 2, x, rows.bar(i) + rows.thick + 2, "mark") for x in marks]
        parts.append(text(width - EDGE, rows.baseline(i), item.text, "end"))
    return drawing(width, rows.height, title, parts)


def stacks(rows: Mapping[str, Mapping[str, float]], order: Sequence[str], unit: str, title: str, *, width: int = WIDE) -> Markup:
    """One stacked bar per row, of parts in ``order``, with a legend of those that occur and the sum behind."""
    names = [part for part in order if any(part in row for row in rows.values())]
    legend, top = _legend(names, width)
    places = _Rows(list(rows), width, top=top + 8, behind=70)
    scale = ticks(0, max(sum(row.values()) for row in rows.values()), places.ticks)
    parts = [*legend, *places.scale(scale, unit)]
    for i, (name, row) in enumerate(rows.items()):
        parts += places.name(i, name)
        start = 0.0
        for part, value in row.items():
            x, color = places.across(start, scale), COLORS[names.index(part) % len(COLORS)]
            told = f"{part}: {value:.2f} {unit}"
            parts.append(rect(x, places.bar(i), places.across(start + value, scale) - x, places.thick, fill=color, title=told))
            start += value
        parts.append(text(width - EDGE, places.baseline(i), f"{start:.1f} {unit}", "end"))
    return drawing(width, places.height, title, parts)


def heat(
    cells: Mapping[tuple[str, str], float], unit: str, title: str, *, worst: float, best: float, width: int = WIDE
) -> Markup:
    """A grid of ``cells`` by (row, column), each with its number; ``worst`` and below is darkest, ``best`` and above clear."""
    rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    left, top, tall = _margin(rows, width), 26, 24
    wide = (width - left - EDGE) / len(columns)
    parts = [
        text(left + wide * (i + 0.5), 16, cut(column, _characters(wide)), "middle", "soft") for i, column in enumerate(columns)
    ]
    for i, row in enumerate(rows):
        parts.append(text(left - 10, top + tall * i + 16, cut(row, _characters(left - 10)), "end"))
        for j, column in enumerate(columns):
            if (value := cells.get((row, column))) is None:
                continue
            strength = min(1.0, max(0.0, (best - value) / (best - worst)))
            x, y = left + wide * j, top + tall * i
            parts.append(rect(x + 1, y + 1, wide - 2, tall - 2, kind="cell", fill="#d55e00", opacity=0.75 * strength))
            parts.append(text(x + wide / 2, y + 16, f"{value:.0f}", "middle", "inside"))
    return drawing(width, top + tall * len(rows) + 6, f"{title}, {unit}", parts)


def alone(plot: Markup) -> str:
    """A plot as a file of its own: with colours for light and for dark backgrounds, which on a page the page gives."""
    style = (
        "text{fill:#5d6670}.grid{stroke:#99999955}.axis,.zero{stroke:#888}.zero{stroke-dasharray:5 4}.strong{font-weight:700}"
        ".leader{stroke:#888;stroke-width:.7}.mark{stroke:#5d6670}circle.other,rect.other{fill:#9aa7b3}"
        "circle.chosen,rect.chosen{fill:#0072b2}.whisker{stroke:#9aa7b3;stroke-width:1.6}.whisker.chosen{stroke:#0072b2}"
        ".front{fill:none;stroke:#0072b2;stroke-opacity:.5;stroke-width:1.5}.soft{fill:#5d6670}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {PLOT_MARK} font-family="sans-serif" font-size="13" '
    return f"{str(plot).replace('<svg ', head, 1).replace('>', f'><style>{style}</style>', 1)}\n"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers that span ``low`` to ``high``, at least two."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


class _Rows:
    """Rows of a bar each: the name before it, or on a narrow plot above it, and a text behind it."""

    def __init__(self, names: Sequence[str], width: int, *, top: float, behind: float) -> None:
        self._above, self._width, self._top, self._count = width < ROOMY, width, top, len(names)
        self.left = float(EDGE if self._above else _margin(names, width))
        self._right = EDGE + 14 if self._above else behind
        self._step = 46 if self._above else 28
        self._names = _characters(width - behind if self._above else self.left - 10)
        self.thick = 16 if self._above else 18
        self.ticks = 3 if self._above else 5

    @property
    def height(self) -> float:
        """Of the plot, its scale included."""
        return self._top + self._step * self._count + AXIS

    def across(self, value: float, scale: Sequence[float]) -> float:
        """x of ``value``."""
        return self.left + value / scale[-1] * (self._width - self.left - self._right)

    def bar(self, i: int) -> float:
        """y of the upper edge of bar ``i``."""
        return self._top + self._step * i + (22 if self._above else 5)

    def baseline(self, i: int) -> float:
        """y of the texts of row ``i``."""
        return self._top + self._step * i + (15 if self._above else 19)

    def name(self, i: int, name: str, kind: str = "") -> list[Markup]:
        """The name of row ``i``."""
        x, anchor = (EDGE, "start") if self._above else (self.left - 10, "end")
        return [text(x, self.baseline(i), cut(name, self._names), anchor, kind)]  # type: ignore[arg-type]

    def scale(self, scale: Sequence[float], unit: str) -> list[Markup]:
        """Lines behind the bars alone, where no name is, and numbers below."""
        found, bottom = [], self._top + self._step * self._count
        for value in scale:
            x, kind = self.across(value, scale), "grid" if value else "axis"
            pieces = [(self.bar(i) - 3, self.bar(i) + self.thick + 3) for i in range(self._count)] if self._above else []
            found += [line(x, start, x, end, kind) for start, end in pieces or [(self._top, bottom)]]
        last = self.across(scale[-1], scale)
        found += [
            text(self.across(value, scale), bottom + 18, f"{value:g}", "middle" if value else "start") for value in scale[:-1]
        ]
        return [
            *found,
            text(min(last, self._width - EDGE), bottom + 18, f"{scale[-1]:g} {unit}", "end" if self._above else "middle"),
        ]


def _named(
    points: Sequence[Point], places: Sequence[tuple[float, float]], drawn: Sequence[Box], area: Box, width: int
) -> tuple[list[Markup], bool]:
    """The points' names where they are free to be read, else their numbers; and whether it is numbers."""
    longest = _characters(width / 2)
    told = [[cut(point.name, longest) for point in points]] * (width >= ROOMY) + [[str(i + 1) for i in range(len(points))]]
    for texts in told:
        names = [Name(x=x, y=y, text=name) for (x, y), name in zip(places, texts, strict=True)]
        found = placed(names, drawn, area)
        if not any(place.covered for place in found):
            break
    parts = []
    for point, name, place in zip(points, names, found, strict=True):
        if abs(place.away) > LINE:
            end = {"start": place.x - 2, "end": place.x + 2, "middle": place.x}[place.anchor]
            parts.append(line(name.x, name.y, end, name.y + place.away, "leader"))
        parts.append(text(place.x, place.y, name.text, place.anchor, "strong" if point.chosen else ""))
    return parts, texts is told[-1]


def _numbers(points: Sequence[Point], top: float, width: int) -> tuple[list[Markup], float]:
    """What the numbers in a plane stand for, in columns, and where they end."""
    longest = max(len(point.name) for point in points) + 4
    columns = max(1, min(len(points), _characters(width) // longest))
    rows = -(-len(points) // columns)
    found = []
    for i, point in enumerate(points):
        x, y = EDGE + (i // rows) * width / columns, top + LINE * (i % rows) + 14
        told = cut(f"{i + 1}  {point.name}", _characters(width / columns))
        found.append(text(x, y, told, "start", "strong" if point.chosen else ""))
    return found, top + LINE * rows + 4


def _legend(names: Sequence[str], width: int) -> tuple[list[Markup], float]:
    """Squares with names, in as many lines as they need, and the height of all lines."""
    parts, x, y = list[Markup](), float(EDGE), float(EDGE)
    for i, name in enumerate(names):
        wide = 18 + len(name) * CHARACTER + 14
        if x + wide > width and x > EDGE:
            x, y = float(EDGE), y + LINE
        parts.append(rect(x, y, 12, 12, fill=COLORS[i % len(COLORS)]))
        parts.append(text(x + 17, y + 11, name, "start"))
        x += wide
    return parts, y + LINE


def _margin(names: Sequence[str], width: int) -> int:
    """Room for names on the left, at most a third of the plot."""
    return round(min(width / 3, max(len(name) for name in names) * 1.05 * CHARACTER + 16))


def _characters(room: float) -> int:
    """How many fit into so many units."""
    return max(1, int(room / CHARACTER))
