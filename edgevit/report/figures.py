"""The plots of a report, and the sentence in place of one that would show nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from markupsafe import Markup

from edgevit.measure.comparison import Comparison
from edgevit.measure.details import Layer
from edgevit.measure.parts import PARTS, PartTime
from edgevit.measure.parts import by_part as sums_of
from edgevit.report import plots
from edgevit.report.plots import Bar, Point, at_widths

SEEN = 0.05
"""Percentage points: what differs by less reads the same with one decimal."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot at several widths, by their names, and what to know of it; without a plot ``caption`` is all there is to tell."""

    title: str
    caption: str
    drawings: Mapping[str, Markup] = field(default_factory=dict)


def plane(comparison: Comparison) -> Figure | None:
    """Accuracy against latency; None where either is unknown, or there is but one variant."""
    rows, best = comparison.rows, comparison.recommendation.row
    times = [row.latency.p50_ms if row.latency else row.estimated_ms for row in rows]
    if len(rows) < 2 or None in times:
        return None
    labelled, found = rows[0].accuracy.score is not None, []
    for i, (row, time) in enumerate(zip(rows, times, strict=True)):
        if labelled:
            y, (low, high) = (row.change.difference, row.change.interval) if row.change else (0.0, (0.0, 0.0))
        else:
            y, (low, high) = row.accuracy.agreement, row.accuracy.agreement_interval
        found.append(Point(name=row.name, x=time or 0.0, y=100 * y, low=100 * low, high=100 * high, chosen=i == best))
    title, heights = "Accuracy against latency", [point.y for point in found]
    metric = rows[0].accuracy.metric if labelled else f"agreement with {rows[0].name}"
    if max(heights) - min(heights) < SEEN:
        return Figure(
            title=title, caption=f"No plot: {metric} is the same for all variants here; they differ in latency alone, below."
        )
    device = rows[0].device.best if rows[0].device else None
    estimated = f"estimated on {device.target} in mode {device.mode}, ms" if device else ""
    draw = partial(
        plots.plane, found, "median of one image, ms" if rows[0].latency else estimated,
        f"{metric} against {rows[0].name}, points" if labelled else f"{metric}, %", 0.0 if labelled else 100.0,
    )  # fmt: skip
    caption = "Up and to the left is better. Whiskers: 95 % interval."
    return Figure(title=title, caption=caption, drawings=at_widths(lambda width: draw(width=width)))


def latency(comparison: Comparison) -> Figure | None:
    """Bars of every variant that was timed; None if none was."""
    best = comparison.recommendation.row
    items = [
        Bar(
            name=row.name,
            value=row.latency.p50_ms,
            marks=(row.latency.p90_ms, row.latency.p99_ms),
            text=f"{row.latency.p50_ms:.3g} / {row.latency.p90_ms:.3g} / {row.latency.p99_ms:.3g}",
            chosen=i == best,
        )
        for i, row in enumerate(comparison.rows)
        if row.latency
    ]
    title = "Latency of one image"
    if not items:
        return None
    if len(items) == 1:
        return Figure(title=title, caption=f"{items[0].name}: p50 / p90 / p99 {items[0].text} ms.")
    caption = "Bars end at the median; ticks are the 90th and 99th percentiles, where they are on the scale."
    return Figure(title=title, caption=caption, drawings=at_widths(lambda width: plots.bars(items, "ms", title, width=width)))


def time_by_part(parts: Mapping[str, tuple[PartTime, ...]]) -> Figure | None:
    """Stacked bars of the parts of each profiled variant; None if none was."""
    rows = {name: sums_of(times) for name, times in parts.items() if times}
    if not rows:
        return None
    caption = (
        "Sums over all blocks by the engine's own profiler, which slows it: compare shares. "
        "What an engine fuses counts as the part that it names."
    )
    title = "Where the time goes"
    return Figure(
        title=title, caption=caption, drawings=at_widths(lambda width: plots.stacks(rows, PARTS, "ms", title, width=width))
    )


def noise(comparison: Comparison, layers: Mapping[str, tuple[Layer, ...]]) -> Figure | None:
    """Of the first quantized variant that its GEMMs are known of, the recommended one before others; None if there is none."""
    names = [comparison.rows[comparison.recommendation.row].name, *layers]
    name = next((name for name in names if layers.get(name)), None)
    if name is None:
        return None
    cells = {(f"block {layer.part.block}", layer.part.kind): layer.sqnr_db for layer in layers[name]}
    caption = (
        f"{name}: signal to noise of each INT8 product's output on calibration images, in dB; 6 dB less is twice the error. "
        "Darker is worse."
    )
    draw = partial(plots.heat, cells, "dB", "Signal to quantization noise", worst=10, best=50)
    drawings = at_widths(lambda width: draw(width=width))
    return Figure(title="Noise that quantization adds, by block", caption=caption, drawings=drawings)
