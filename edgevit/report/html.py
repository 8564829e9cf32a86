"""A comparison as one HTML file: nothing is fetched, no script runs, its size is bounded. How it says it is in ``templates``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgevit.measure.comparison import Comparison
from edgevit.measure.details import Layer
from edgevit.measure.parts import PartTime
from edgevit.measure.recommend import is_worse, points
from edgevit.plan.device_plan import device_lines, device_table
from edgevit.report.changed import Changed, changed
from edgevit.report.classes import Classes, by_class
from edgevit.report.figures import Figure, latency, noise, plane, time_by_part
from edgevit.report.table import accuracy_table, condition_rows, device_plans, explained, legend, speed_table
from edgevit.report.templating import rendered


@dataclass(frozen=True, kw_only=True)
class Background:
    """What a report shows beside the comparison itself."""

    title: str
    notes: tuple[str, ...] = ()
    layers: Mapping[str, tuple[Layer, ...]] = field(default_factory=dict)
    """By the name of a row, what quantization made of its GEMMs."""
    parts: Mapping[str, tuple[PartTime, ...]] = field(default_factory=dict)
    """By the name of a row, where its time goes."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """Cells, and ``best``, ``worse`` or nothing."""

    cells: Sequence[str]
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Names of columns and rows under them."""

    columns: Sequence[str]
    rows: Sequence[TableRow]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that ``report.html.j2`` is filled with."""

    title: str
    warnings: Sequence[str]
    sure: bool
    headline: str
    reasons: Sequence[str]
    tiles: Sequence[tuple[str, str]] = ()
    """A figure and what it is."""
    variants_title: str = "All variants"
    variants: Sequence[Table]
    """Accuracy and speed."""
    legend: str
    device: Table | None = None
    device_notes: str = ""
    figures: Sequence[Figure]
    commands: Sequence[tuple[str, str]] = ()
    """A point of a sweep and what builds it."""
    classes: Classes | None = None
    changed: Changed | None = None
    conditions: Sequence[tuple[str, str]]
    notes: Sequence[str]
    multi_label: bool


def to_html(comparison: Comparison, background: Background) -> str:
    """The whole page. Raises MissingPackageError without OpenCV, which makes the thumbnails."""
    return rendered("report.html.j2", report=_report(comparison, background))


def _report(comparison: Comparison, background: Background) -> Report:
    found, row, plans = comparison.recommendation, explained(comparison), device_plans(comparison)
    accuracy, speed = accuracy_table(comparison), speed_table(comparison)
    figures = (plane(comparison), latency(comparison), time_by_part(background.parts), noise(comparison, background.layers))
    return Report(
        title=background.title,
        warnings=comparison.warnings,
        sure=found.enough,
        headline=found.headline,
        reasons=found.reasons,
        tiles=_tiles(comparison),
        variants=[_of_variants(comparison, *accuracy), _of_variants(comparison, *speed)],
        legend="; ".join(legend(comparison, (*accuracy[0], *speed[0]))),
        device=table_of(*device_table(plans)) if plans else None,
        device_notes=" ".join(device_lines(plans)) if plans else "",
        figures=[figure for figure in figures if figure is not None],
        classes=by_class(comparison, row) if row is not None else None,
        changed=changed(comparison, row) if row is not None else None,
        conditions=condition_rows(comparison),
        notes=background.notes,
        multi_label=comparison.multi_label,
    )


def _tiles(comparison: Comparison) -> list[tuple[str, str]]:
    """The recommended row's figures, large."""
    rows, found = comparison.rows, comparison.recommendation
    first, row, base, tiles = rows[0], rows[found.row], rows[found.baseline], []
    if row.latency and base.latency:
        against = "" if row is base else f", {base.latency.p50_ms / row.latency.p50_ms:.2f}x as fast as {base.name}"
        tiles.append((f"{row.latency.p50_ms:.3g} ms", f"an image{against}"))
    elif row.device and row.device.best and base.estimated_ms:
        where = f"an image, estimated on {row.device.best.target} in mode {row.device.best.mode}"
        against = "" if row is base else f", {base.estimated_ms / row.device.best.milliseconds:.2f}x as fast as {base.name}"
        tiles.append((f"{row.device.best.milliseconds:.3g} ms", where + against))
    if row.accuracy.score is not None:
        change = "" if row.change is None else f", {points(row.change.difference)} points against {first.name}"
        tiles.append((f"{100 * row.accuracy.score:.1f} %", f"{row.accuracy.metric}{change}"))
    if row is not first:
        alike = f"of labels shared with {first.name}" if comparison.multi_label else f"of images in the class of {first.name}"
        tiles.append((f"{100 * row.accuracy.agreement:.1f} %", alike))
    smaller = "" if row.bytes >= first.bytes else f", {first.bytes / row.bytes:.1f}x smaller than {first.name}"
    return [*tiles, (f"{row.bytes / 1e6:.1f} MB", f"model{smaller}")]


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table in which no row stands out."""
    return Table(columns=columns, rows=[TableRow(cells=cells) for cells in rows])


def _of_variants(comparison: Comparison, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """A table of one row a variant, in which the recommended and the worse ones stand out."""
    best = comparison.recommendation.row
    kinds = ["best" if i == best else "worse" if is_worse(row) else "" for i, row in enumerate(comparison.rows)]
    return Table(columns=columns, rows=[TableRow(cells=own, kind=kind) for own, kind in zip(cells, kinds, strict=True)])
