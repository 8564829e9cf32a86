"""A comparison as a table of texts, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.files.own_kinds import COMMENT
from edgevit.measure.comparison import Comparison, Row
from edgevit.measure.doubt import is_few
from edgevit.measure.recommend import is_worse, p_value, points
from edgevit.plan.device_plan import DevicePlan, device_lines, device_table
from edgevit.printable import printable

SHORT = (
    "", "engine", "top-1 %", "balanced %", "mAP %", "F1 %", "change", "agree %", "SQNR dB", "p50/p90/p99 ms", "speed-up", "MB",
)  # fmt: skip
"""Columns that fit a terminal, as far as they are filled: a model has top-1 or mAP."""
ACCURACY = (
    "variant", "engine", "top-1 % (95 %)", "balanced %", "mAP %", "F1 %",
    "change, points (95 %)", "lost/won", "McNemar p", "bootstrap p", "agreement %", "SQNR dB", "ECE %",
)  # fmt: skip
SPEED = ("variant", "engine", "p50 / p90 / p99 ms", "images/s", "speed-up (95 %)", "size MB", "start s", "memory MiB")
"""Columns of a document's two tables."""
LEGEND = {
    "balanced": "mean of the classes' shares of right answers",
    "mAP": "mean over labels of the average precision",
    "F1": "over all labels of all images, at a threshold of 0.5",
    "change": "top-1 against the first row on the same images, in percentage points",
    "agree": "how often the class is the first row's",
    "SQNR": "logits against the first row's",
    "ECE": "expected calibration error",
    "speed-up": "p50 against the first row of the same engine; ~: inside the noise",
    "start": "a fresh process to its first result",
    "memory": "the most that process held",
}
"""What a column means, by how its name begins."""
LEGEND_OF_LABELS = LEGEND | {
    "change": "mAP against the first row on the same images, in percentage points",
    "lost/won": "images with fewer and with more right labels",
    "agree": "of the labels that a row or the first one gives, the share that both give",
}
"""The same of multi-label models."""
WORSE = "!: measurably worse ({}, p < 0.05; without labels, agreement below 98 %)"


def legend(comparison: Comparison, columns: Sequence[str], cells: Sequence[Sequence[str]] = ()) -> list[str]:
    """What ``columns`` of ``comparison`` mean, and the mark of a worse row where ``cells`` have one."""
    several = comparison.multi_label
    meanings = LEGEND_OF_LABELS if several else LEGEND
    named = {start: column for start in meanings for column in columns if column.startswith(start)}
    found = [f"{column.split()[0].rstrip(',')}: {meanings[start]}" for start, column in named.items()]
    worse = WORSE.format("by the bootstrap" if several else "McNemar's exact test")
    return found + [worse] * any(cell.endswith("!") for row in cells for cell in row)


def short_cells(comparison: Comparison, row: Row) -> tuple[str, ...]:
    """``row`` under `SHORT`."""
    label = f"{row.subject} {row.precision}".strip()
    reference = row is comparison.rows[0]
    change = "-" if row.change is None else points(row.change.difference) + ("!" if is_worse(row) else "")
    return (
        label,
        row.engine.split()[0],
        _percent(row.accuracy.top1),
        _percent(row.accuracy.balanced),
        _percent(row.accuracy.mean_average_precision),
        _percent(row.accuracy.f1),
        change,
        _percent(row.accuracy.agreement),
        "-" if reference else _decibel(row.accuracy.sqnr_db),
        _milliseconds(row, "/"),
        _speedup(row),
        f"{row.bytes / 1e6:.1f}",
    )


def accuracy_cells(comparison: Comparison, row: Row) -> tuple[str, ...]:
    """``row`` under `ACCURACY`."""
    change, interval = row.change, row.accuracy.top1_interval
    top1 = _percent(row.accuracy.top1) + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")
    return (
        f"{row.subject} {row.precision}".strip(),
        row.engine,
        top1,
        _percent(row.accuracy.balanced),
        _percent(row.accuracy.mean_average_precision),
        _percent(row.accuracy.f1),
        "-" if change is None else f"{points(change.difference)} ({points(change.interval[0])} to {points(change.interval[1])})",
        "-" if change is None else f"{change.lost} / {change.won}",
        "-" if change is None or comparison.multi_label else p_value(change.p),
        "-" if change is None or not comparison.multi_label else p_value(change.p),
        _percent(row.accuracy.agreement),
        "-" if row is comparison.rows[0] else _decibel(row.accuracy.sqnr_db),
        "-" if is_few(row) else _percent(row.accuracy.calibration_error),  # of few images it reads far too high
    )


def speed_cells(row: Row) -> tuple[str, ...]:
    """``row`` under `SPEED`."""
    sure = row.speedup_interval
    return (
        f"{row.subject} {row.precision}".strip(),
        row.engine,
        _milliseconds(row, " / "),
        f"{row.latency.per_second:.1f}" if row.latency else "-",
        _speedup(row) + (f" ({sure[0]:.2f} to {sure[1]:.2f})" if sure else ""),
        f"{row.bytes / 1e6:.1f}",
        f"{row.startup.seconds:.1f}" if row.startup else "-",
        f"{row.startup.peak_mib:.0f}" if row.startup else "-",
    )


def speed_table(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What of `SPEED` was measured, and energy, with the cells."""
    cells = [speed_cells(row) for row in comparison.rows]
    energies = [f"{row.energy.joules_per_image:.3g} ({row.energy.watts:.1f} W)" if row.energy else "-" for row in comparison.rows]
    return filled((*SPEED, "J/image, whole board"), [(*own, energy) for own, energy in zip(cells, energies, strict=True)])


def accuracy_table(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What of `ACCURACY` is known, with the cells."""
    return filled(ACCURACY, [accuracy_cells(comparison, row) for row in comparison.rows])


def filled(columns: Sequence[str], cells: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns that say something in at least one row."""
    kept = [i for i in range(len(columns)) if any(row[i] != "-" for row in cells)]
    return tuple(columns[i] for i in kept), [tuple(row[i] for i in kept) for row in cells]


def device_plans(comparison: Comparison) -> list[tuple[str, DevicePlan]]:
    """Names of rows and their plans, of those that have one."""
    return [(row.name, row.device) for row in comparison.rows if row.device is not None]


def conditions_line(comparison: Comparison) -> str:
    """What the figures were measured under, one sentence."""
    at = comparison.conditions
    return (
        f"{images_line(comparison)}{_left_out(comparison)}; batch {at['batch']}, {at['threads']} threads, {at['device']} "
        f"({at['clock']}, load {at['load']:g} before), {at['engine']}; {at['order']}"
        f"{'; accuracy by ' + at['evaluated_on'] if 'evaluated_on' in at else ''}."
    )


def images_line(comparison: Comparison) -> str:
    """Which images: ``200 of 1,024 images of test, drawn in proportion to their classes, seed 0``."""
    at = comparison.conditions
    part = "" if at["population"] == at["images"] else f"of {at['population']:,} "
    return f"{at['images']:,} {part}images of {at['source']}{', ' + at['drawn'] if at['drawn'] else ''}"


def origin_lines(comparison: Comparison) -> list[str]:
    """When, with what and of which models the figures were made."""
    at = comparison.conditions
    named = {f"{row.subject} {row.precision}".strip(): row.sha256[:16] for row in comparison.rows}  # on all engines the same
    graphs = ", ".join(f"{name} {digest}" for name, digest in named.items())
    made = f"{at['date']} by edgevit {at['edgevit']}{': ' + at['command'] if at['command'] else ''}"
    models = [f"{item['kind']} {item['name']} {item['sha256'][:16]}" for item in at.get("models", ())]
    return [made, f"SHA-256: {', '.join([*models, f'graphs {graphs}'])}"]


def condition_rows(comparison: Comparison) -> list[tuple[str, str]]:
    """The same and what the figures were measured under, a name and a text each, digests whole."""
    at = comparison.conditions
    graphs = {f"graph of {row.subject} {row.precision}".replace("  ", " "): row.sha256 for row in comparison.rows}
    timed = f"{at['order']}; batch {at['batch']}, {at['threads']} threads"
    return [
        ("date", str(at["date"])),
        ("edgevit", str(at["edgevit"])),
        ("command", str(at["command"]) or "from Python"),
        *((f"{item['kind']} {item['name']}", f"SHA-256 {item['sha256']}") for item in at.get("models", ())),
        *((name, f"SHA-256 {digest}") for name, digest in graphs.items()),
        ("images", f"{images_line(comparison)}{_left_out(comparison)}; {'with' if at['labels'] else 'no'} labels"),
        ("engines", str(at["engine"])),
        ("device", f"{at['device']}, {at['clock']}, load {at['load']:g} before"),
        ("timing", timed),
        *([("accuracy by", str(at["evaluated_on"]))] if "evaluated_on" in at else []),
    ]


def _left_out(comparison: Comparison) -> str:
    unseen = comparison.conditions.get("labels_on_no_image", [])
    shown = f"{', '.join(unseen[:5])}{', ...' if len(unseen) > 5 else ''}"
    return f"; on none of them {shown}, which mAP leaves out" if unseen else ""


def to_markdown(comparison: Comparison, notes: Sequence[str] = ()) -> str:
    """The recommendation, the tables, classes of the recommended variant and the conditions."""
    found, rows = comparison.recommendation, comparison.rows
    lines = [line for warning in comparison.warnings for line in (f"> Check first: {escape(warning)}", "")]
    lines += [f"**{escape(found.headline)}**", "", *(f"- {escape(reason)}" for reason in found.reasons), ""]
    lines[0] += f" {COMMENT}"
    accuracy, speed = accuracy_table(comparison), speed_table(comparison)
    lines += [*_table(*accuracy), "", *_table(*speed), ""]
    lines += [*(f"- {escape(text)}" for text in legend(comparison, (*accuracy[0], *speed[0]))), ""]
    if plans := device_plans(comparison):
        columns, cells = device_table(plans)
        lines += ["On the device:", "", *_table(columns, cells), "", *(f"- {escape(text)}" for text in device_lines(plans)), ""]
    row = explained(comparison)
    if row is not None and row.change is not None:
        cells = [(item.label, str(item.images), _share(item.before, item.images), _share(item.after, item.images),
                  f"{item.lost} / {item.won}") for item in row.change.classes]  # fmt: skip
        header = ("label" if comparison.multi_label else "class", "images", f"{rows[0].name} %", f"{row.name} %", "lost / won")
        found_by = "Found by label" if comparison.multi_label else "Right by class"
        lines += [f"{found_by}, {escape(rows[0].name)} and {escape(row.name)}:", "", *_table(header, cells), ""]
    lines += [
        escape(conditions_line(comparison)),
        "",
        *(f"- {escape(text)}" for text in origin_lines(comparison)),
        *(f"- {escape(note)}" for note in notes),
    ]
    return "\n".join(lines).strip() + "\n"


def explained(comparison: Comparison) -> Row | None:
    """The row that details are shown of: the recommended one, or where that is the reference the first other; None if none is."""
    best = comparison.recommendation.row or 1
    return comparison.rows[best] if best < len(comparison.rows) else None


def escape(text: str) -> str:
    """``text`` as Markdown shows it literally, on one line: names come from folders and files."""
    flat = printable(" ".join(text.split()))
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#~" else char for char in flat)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    divider = ["---", "---", *["---:"] * (len(columns) - 2)]
    return [_line(columns), _line(divider, raw=True), *(_line(row) for row in rows)]


def _line(cells: Sequence[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else [escape(cell) for cell in cells])} |"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"


def _decibel(value: float | None) -> str:
    return "identical" if value is None else f"{value:.1f}"


def _milliseconds(row: Row, divider: str) -> str:
    if row.latency is None:
        return "-"
    return divider.join(f"{time:.3g}" for time in (row.latency.p50_ms, row.latency.p90_ms, row.latency.p99_ms))


def _speedup(row: Row) -> str:
    return "-" if row.speedup is None else f"{'~' if row.inside_noise else ''}{row.speedup:.2f}x"
