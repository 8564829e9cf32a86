"""A sweep as a table of texts, as a plot and as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from edgevit.measure.comparison import Comparison, Row
from edgevit.measure.front import pareto
from edgevit.measure.recommend import is_worse, points
from edgevit.report import plots
from edgevit.report.figures import Figure
from edgevit.report.html import Report, Table, TableRow
from edgevit.report.plots import Point
from edgevit.report.sheet import Sheet
from edgevit.report.table import condition_rows
from edgevit.report.templating import rendered

NOTHING = "-"
PLANE = "Accuracy against latency"
CAPTION = (
    "Up and to the left is better. The line is the Pareto front; whiskers: 95 % intervals, of latency as ratios to the first."
)
LEGEND = (
    "front: nothing else is as accurate and faster (time), or as accurate and smaller (size)",
    "change: against the first row on the same images, in percentage points, with its 95 % interval; "
    "!: measurably worse (p < 0.05; without labels, agreement below 98 %)",
    "p50: half of the images take no longer; all points were timed in turns, when no worker ran",
)


@dataclass(frozen=True, kw_only=True)
class SweptPoint:
    """One point, measured or not."""

    name: str
    command: str
    """What builds it."""
    row: int | None = None
    """Its position in the comparison; None if it was not built."""
    reason: str = ""
    """Why it was not."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All points, and the comparison of those that were built."""

    points: tuple[SweptPoint, ...]
    comparison: Comparison
    notes: tuple[str, ...] = ()

    @property
    def fronts(self) -> dict[str, list[int]]:
        """Rows of the comparison on each Pareto front, from the cheapest: of ``time``, where it was measured, and of ``size``."""
        rows, gains = self.comparison.rows, [gain(row) for row in self.comparison.rows]
        times = [time for row in rows if (time := milliseconds(row)) is not None]
        found = {"time": pareto(times, gains)} if len(times) == len(rows) else {}
        return found | {"size": pareto([float(row.bytes) for row in rows], gains)}

    @property
    def best(self) -> SweptPoint:
        """The recommended point."""
        return next(point for point in self.points if point.row == self.comparison.recommendation.row)


def gain(row: Row) -> float:
    """What a front rises by: the difference of its score to the reference's; without labels the agreement with it."""
    if row.accuracy.score is None:
        return row.accuracy.agreement
    return row.change.difference if row.change else 0.0


def milliseconds(row: Row) -> float | None:
    """Of one image: the median, or where another machine is the target what the roofline estimates; None if neither is known."""
    return row.latency.p50_ms if row.latency else row.estimated_ms


def sweep_sheet(sweep: Sweep) -> Sheet:
    """A row a point in the order in which they were asked for; what was not built has its reason."""
    rows, fronts = sweep.comparison.rows, sweep.fronts
    metric = f"{rows[0].accuracy.metric} %" if rows[0].accuracy.score is not None else "agree %"
    cells = []
    for point in sweep.points:
        if point.row is None:
            cells.append((point.name, *[NOTHING] * 5, f"not built: {point.reason}"))
            continue
        row = rows[point.row]
        on = ", ".join(name for name, front in fronts.items() if point.row in front)
        cells.append((point.name, *_figures(row), on or NOTHING))
    columns = ("", metric, "change (95 %)", "p50 ms", "speed-up (95 %)", "MB", "front")
    return Sheet(title=f"{len(sweep.points)} points", columns=columns, rows=cells)


def _figures(row: Row) -> tuple[str, ...]:
    change, time, sure = row.change, milliseconds(row), row.speedup_interval
    score = row.accuracy.agreement if row.accuracy.score is None else row.accuracy.score
    differs = (
        "" if change is None else f"{points(change.difference)} ({points(change.interval[0])} to {points(change.interval[1])})"
    )
    return (
        f"{100 * score:.1f}",
        (differs or NOTHING) + ("!" if is_worse(row) else ""),
        NOTHING if time is None else f"{time:.3g}",
        NOTHING if row.speedup is None else f"{row.speedup:.2f}x" + (f" ({sure[0]:.2f} to {sure[1]:.2f})" if sure else ""),
        f"{row.bytes / 1e6:.1f}",
    )


def sweep_plot(sweep: Sweep, width: int = plots.WIDE) -> Markup | None:
    """Accuracy over time with both intervals, the front drawn; None where no times are known."""
    rows, best, front = sweep.comparison.rows, sweep.comparison.recommendation.row, sweep.fronts.get("time")
    if front is None:
        return None
    labelled, base = rows[0].accuracy.score is not None, milliseconds(rows[0])
    found = []
    names = {point.row: point.name for point in sweep.points}
    for i, row in enumerate(rows):
        low, high = row.change.interval if row.change else (0.0, 0.0) if labelled else row.accuracy.agreement_interval
        sure, time = row.speedup_interval, milliseconds(row) or 0.0
        near, far = (base / sure[1], base / sure[0]) if sure and base else (None, None)
        found.append(Point(name=names[i], x=time, y=100 * gain(row), low=100 * low, high=100 * high, chosen=i == best, near=near,
                           far=far))  # fmt: skip
    what = f"{rows[0].accuracy.metric} against {names[0]}, points" if labelled else f"agreement with {names[0]}, %"
    unit = "median of one image, ms" if rows[0].latency else "of one image, estimated, ms"
    return plots.plane(found, unit, what, 0.0 if labelled else None, front, width=width)


def sweep_html(sweep: Sweep, title: str) -> str:
    """The whole page: nothing in it is fetched."""
    found, sheet, best = sweep.comparison.recommendation, sweep_sheet(sweep), sweep.best
    drawings = {name: plot for name, width in plots.WIDTHS.items() if (plot := sweep_plot(sweep, width)) is not None}
    figure = Figure(title=PLANE, caption=CAPTION if drawings else "No plot: no times are known.", drawings=drawings)
    rows = [TableRow(cells=cells, kind="best" if point is best else "")
            for point, cells in zip(sweep.points, sheet.rows, strict=True)]  # fmt: skip
    report = Report(
        title=title, warnings=sweep.comparison.warnings, sure=found.enough, headline=found.headline,
        reasons=(*found.reasons, f"Build it: {best.command}"), variants_title="All points",
        variants=[Table(columns=["point", *sheet.columns[1:]], rows=rows)], legend="; ".join(LEGEND), figures=[figure],
        commands=[(point.name, point.command) for point in sweep.points], conditions=condition_rows(sweep.comparison),
        notes=sweep.notes, multi_label=sweep.comparison.multi_label,
    )  # fmt: skip
    return rendered("report.html.j2", report=report)
