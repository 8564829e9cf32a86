"""A comparison as one HTML file: nothing is fetched, no script runs, names are escaped, its size is bounded."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from edgevit.errors import needs_extra
from edgevit.images.dataset import ImageSet
from edgevit.measure.comparison import Comparison, Row
from edgevit.measure.details import ChangedImage, ChangedLabels, Layer, changed_images, changed_labels
from edgevit.measure.parts import PARTS, PartTime, by_part
from edgevit.measure.recommend import is_worse, points
from edgevit.plan.device_plan import device_lines, device_table
from edgevit.report import plots
from edgevit.report.page import PAGE, reading
from edgevit.report.plots import Bar, Point
from edgevit.report.table import (
    accuracy_table,
    conditions_line,
    device_plans,
    explained,
    legend,
    origin_lines,
    speed_table,
)

THUMBNAILS = 24  # changed images shown; at `SIDE` pixels a few kilobytes each
SIDE = 128
CLASSES = 40  # classes drawn at most: those with most changes
CHANGE = " class='change'"


@dataclass(frozen=True, kw_only=True)
class Background:
    """What a report shows beside the comparison itself."""

    title: str
    notes: tuple[str, ...] = ()
    layers: dict[str, tuple[Layer, ...]] = field(default_factory=dict)
    """By the name of a row, what quantization made of its GEMMs."""
    parts: dict[str, tuple[PartTime, ...]] = field(default_factory=dict)
    """By the name of a row, where its time goes."""


def to_html(comparison: Comparison, background: Background) -> str:
    """The whole page. Raises MissingPackageError without OpenCV, which makes the thumbnails."""
    found, row, several = comparison.recommendation, explained(comparison), comparison.multi_label
    sections = [
        section("All variants", *_tables(comparison)),
        section("On the device", *_device(comparison)),
        section("Accuracy against latency", _plane(comparison), "Up and to the left is better. Whiskers: 95 % interval."),
        section(
            "Latency of one image",
            _latency(comparison),
            "Bars end at the median; ticks are the 90th and 99th percentiles, where they are on the scale.",
        ),
        section(
            "Where the time goes",
            _parts(background),
            "Sums over all blocks by the engine's own profiler, which slows it: "
            "compare shares. What an engine fuses counts as the part that it names.",
        ),
        section(
            "Noise that quantization adds, by block",
            _sensitivity(comparison, background),
            "Signal to noise of each INT8 "
            "product's output on calibration images, in dB: 6 dB less is twice the error. Darker is worse.",
        ),
        section(f"By class: {row.name}" if row else "", _classes(comparison, row), _of_classes(comparison)),
        section(
            f"Images whose {'labels' if several else 'class'} changed: {row.name}" if row else "", _changed(comparison, row), ""
        ),
        section(
            "Conditions",
            f"<p>{escape(conditions_line(comparison))}</p>" + bullets((*origin_lines(comparison), *background.notes)),
            "",
        ),
    ]
    return PAGE.substitute(
        title=escape(background.title),
        warnings="".join(f"<p class='warning'>Check first: {escape(warning)}</p>" for warning in comparison.warnings),
        kind="answer" if found.enough else "answer unsure",
        headline=escape(found.headline),
        reasons=bullets(found.reasons),
        tiles=_tiles(comparison),
        sections="".join(sections),
        reading=reading(multi_label=several),
    )


def section(title: str, body: str, caption: str) -> str:
    """A section, or nothing where there is nothing to show."""
    if not body or not title:
        return ""
    tail = caption if caption.startswith("<") or not caption else f"<p class='small'>{escape(caption)}</p>"
    return f"<section><h2>{escape(title)}</h2>{body}{tail}</section>"


def bullets(texts: Sequence[str]) -> str:
    """A list, or nothing where there are no ``texts``."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def _tiles(comparison: Comparison) -> str:
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
    tiles.append((f"{row.bytes / 1e6:.1f} MB", f"model{smaller}"))
    return "".join(f"<div><b>{escape(figure)}</b><span>{escape(what)}</span></div>" for figure, what in tiles)


def _tables(comparison: Comparison) -> tuple[str, str]:
    """Both tables, and what their columns mean."""
    accuracy, speed = accuracy_table(comparison), speed_table(comparison)
    meaning = f"<p class='small'>{escape('; '.join(legend(comparison, (*accuracy[0], *speed[0]))))}.</p>"
    return _rows(comparison, *accuracy) + _rows(comparison, *speed), meaning


def _rows(comparison: Comparison, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head, lines = "".join(f"<th>{escape(column)}</th>" for column in columns), []
    for i, (row, own) in enumerate(zip(comparison.rows, cells, strict=True)):
        kind = " class='best'" if i == comparison.recommendation.row else " class='worse'" if is_worse(row) else ""
        drawn = zip(columns, own, strict=True)
        marked = "".join(f"<td{CHANGE if column.startswith('change') else ''}>{escape(cell)}</td>" for column, cell in drawn)
        lines.append(f"<tr{kind}>{marked}</tr>")
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _plane(comparison: Comparison) -> str:
    rows, best = comparison.rows, comparison.recommendation.row
    times = [row.latency.p50_ms if row.latency else row.estimated_ms for row in rows]
    labelled = rows[0].accuracy.score is not None
    found = []
    for i, row in enumerate(rows):
        if labelled:
            y, (low, high) = (row.change.difference, row.change.interval) if row.change else (0.0, (0.0, 0.0))
        else:
            y, (low, high) = row.accuracy.agreement, row.accuracy.agreement_interval
        if (x := times[i]) is None:
            return ""
        found.append(Point(name=row.name, x=x, y=100 * y, low=100 * low, high=100 * high, chosen=i == best))
    if len({point.y for point in found}) == 1:
        return ""  # all on one line: the bars of latency say as much
    what = f"{rows[0].accuracy.metric} against {rows[0].name}, points" if labelled else f"agreement with {rows[0].name}, %"
    device = rows[0].device.best if rows[0].device else None
    estimated = f"estimated on {device.target} in mode {device.mode}, ms" if device else ""
    return plots.plane(found, "median of one image, ms" if rows[0].latency else estimated, what, 0.0 if labelled else 100.0)


def _latency(comparison: Comparison) -> str:
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
    return plots.bars(items, "ms", "Latency by variant") if items else ""


def _parts(background: Background) -> str:
    rows = {name: by_part(times) for name, times in background.parts.items() if times}
    return plots.stacks(rows, PARTS, "ms", "Time by part of the model") if rows else ""


def _sensitivity(comparison: Comparison, background: Background) -> str:
    """The first quantized variant that its GEMMs are known of, the recommended one before others."""
    names = [comparison.rows[comparison.recommendation.row].name, *background.layers]
    layers = next((found for name in names if (found := background.layers.get(name))), ())
    cells = {}
    for layer in layers:
        cells[f"block {layer.part.block}", layer.part.kind] = layer.sqnr_db
    return plots.heat(cells, "dB", "Signal to quantization noise", worst=10, best=50) if cells else ""


def _classes(comparison: Comparison, row: Row | None) -> str:
    if row is None or row.change is None:
        return ""
    found = sorted(row.change.classes, key=lambda item: -(item.lost + item.won))
    shown = {item.label for item in found[:CLASSES]}
    lines = []
    for item in row.change.classes:
        if item.label not in shown:
            continue
        before, after = 100 * item.before / item.images, 100 * item.after / item.images
        lines.append(
            f"<tr><td>{escape(_short(item.label))}</td><td>{item.images}</td><td>{before:.1f}</td><td>{after:.1f}</td>"
            f"<td>{points((item.after - item.before) / item.images)}</td><td>{item.lost} / {item.won}</td>"
            f"<td class='meter'><i style='width:{before:.1f}%'></i><i class='after' style='width:{after:.1f}%'></i></td></tr>"
        )
    left_out = len(found) - len(lines)
    more = f"<p class='small'>{left_out} classes with fewer changes are not shown.</p>" if left_out else ""
    names = f"<th>{escape(comparison.rows[0].name)} %</th><th>{escape(row.name)} %</th>"
    what = "label" if comparison.multi_label else "class"
    head = f"<tr><th>{what}</th><th>images</th>{names}<th>change, points</th><th>lost / won</th><th>before, after</th></tr>"
    return f"<div class='wide'><table><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table></div>{more}"


def _changed(comparison: Comparison, row: Row | None) -> str:
    if row is None:
        return ""
    seen = comparison.evidence
    place = next(i for i, other in enumerate(comparison.rows) if other is row)
    if comparison.multi_label:
        return _changed_labels(comparison, changed_labels(seen.logits[place], seen.logits[0], seen.targets))
    found = changed_images(seen.logits[place], seen.logits[0], seen.targets, len(seen.images))
    if not found:
        return "<p>None: every image has the class it had.</p>"
    shown = found[:THUMBNAILS]
    count = f"{len(found)} of {len(seen.images):,} images" + (f", {len(shown)} of them here" if len(shown) < len(found) else "")
    order = "; those that were right first, surest first" if seen.targets is not None else "; surest first"
    figures = "".join(_figure(image, seen.images, seen.labels) for image in shown)
    return f"<p>{count}{order}.</p><div class='gallery'>{figures}</div>"


def _figure(image: ChangedImage, images: ImageSet, labels: Sequence[str]) -> str:
    name = images.names[image.index]
    before, after = escape(_short(labels[image.before])), escape(_short(labels[image.after]))
    truth = "" if image.target is None else f"<br>is {escape(_short(labels[image.target]))}"
    picture = f"<img src='{thumbnail(images, image.index)}' alt='{escape(name, quote=True)}'>"
    return (
        f"<figure class='{image.outcome.replace(' ', '-')}'>{picture}<figcaption>"
        f"<em>{image.outcome}</em>{truth}<br>{before} {100 * image.before_confidence:.0f} % &rarr; {after} "
        f"{100 * image.after_confidence:.0f} %<br><span>{escape(_short(name))}</span></figcaption></figure>"
    )


def _of_classes(comparison: Comparison) -> str:
    if comparison.multi_label:
        return "Of the images that have a label, those on which it was found before and after, at a threshold of 0.5."
    return "Right answers of each class before and after."


def _changed_labels(comparison: Comparison, found: Sequence[ChangedLabels]) -> str:
    if not found:
        return "<p>None: every image has the labels it had.</p>"
    seen, shown = comparison.evidence, found[:THUMBNAILS]
    count = f"{len(found)} of {len(seen.images):,} images" + (f", {len(shown)} of them here" if len(shown) < len(found) else "")
    order = "those that lost right labels first" if seen.targets is not None else "those with most changes first"
    figures = []
    for image in shown:
        name = seen.images.names[image.index]
        words = [
            f"{sign} {escape(_short(seen.labels[i]))}" for sign, own in (("&minus;", image.gone), ("+", image.new)) for i in own
        ]
        picture = f"<img src='{thumbnail(seen.images, image.index)}' alt='{escape(name, quote=True)}'>"
        figures.append(
            f"<figure class='{image.outcome}'>{picture}<figcaption><em>{image.outcome}</em><br>{', '.join(words)}"
            f"<br><span>{escape(_short(name))}</span></figcaption></figure>"
        )
    return f"<p>{count}; {order}.</p><div class='gallery'>{''.join(figures)}</div>"


def thumbnail(images: ImageSet, index: int) -> str:
    """Image ``index`` as a JPEG data URI whose longer side has `SIDE` pixels, or fewer if the image has."""
    with needs_extra("cpu"):
        import cv2
    frame = images.frame(index)
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in frame.shape[1::-1])
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _device(comparison: Comparison) -> tuple[str, str]:
    """Plans and estimates as a table, and whose they are."""
    plans = device_plans(comparison)
    if not plans:
        return "", ""
    columns, cells = device_table(plans)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    table = f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return table, " ".join(device_lines(plans))


def _short(text: str) -> str:
    return text if len(text) <= 48 else f"{text[:45]}..."
