"""``edgevit compare``: models and precisions side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputFile, Writing
from edgevit.cli.options import class_order_option, import_options, json_option, model_options, no_cache_option, threads_option
from edgevit.cli.say import say
from edgevit.files.own_kinds import COMPARISON, HTML, MARKDOWN

WIDTH = 100  # columns that sentences are folded to
KINDS = {"csv": COMPARISON, "html": HTML, "markdown": MARKDOWN}


@click.command(cls=Writing)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Images: a folder (class per subfolder) or an .npz.")
@click.option(
    "--precisions",
    help="Comma-separated: fp32, fp16, int8-linear, int8, each also pruned: int8+prune20. The first is the reference.",
)
@click.option("--engines", help="Comma-separated: openvino,onnxruntime. The bundle's own, or this machine's, by default.")
@click.option("--target", help="For a checkpoint: a board, or family. Its plans and estimated milliseconds, not this machine's.")
@click.option("--calibration", type=click.Path(path_type=Path), help="For a checkpoint: other images to calibrate on.")
@click.option("--limit", type=click.IntRange(1), default=1024, show_default=True, help="Evaluate at most so many images.")
@click.option("--runs", type=click.IntRange(5), default=100, show_default=True, help="Timed inferences of each variant.")
@click.option("--recipe", default="default", show_default=True, help="For a checkpoint: how to calibrate INT8.")
@click.option(
    "--html",
    "html_path",
    type=OutputFile(HTML, parents=True),
    help="Write a report to read in a browser: one file, nothing is fetched.",
)
@click.option("--markdown", "markdown_path", type=OutputFile(MARKDOWN, parents=True), help="Write the report as Markdown.")
@click.option("--csv", "csv_path", type=OutputFile(COMPARISON, parents=True), help="Write the rows as CSV.")
@model_options
@class_order_option
@threads_option
@no_cache_option
@json_option
def compare(**values: Any) -> None:
    """Compare precisions of bundles and checkpoints on the same images, and say which to use.

    Images that a model was calibrated on are left out. Latency is measured in turns. Stopped at any time, the same command goes
    on with the images that are left.
    """
    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, command_line, note, print_json
    from edgevit.commands.compare import find_field
    from edgevit.commands.compare_names import parse_precisions
    from edgevit.commands.compare_request import Request
    from edgevit.device.jetson import here
    from edgevit.engine import backend
    from edgevit.engine.check import summary
    from edgevit.errors import EdgevitError
    from edgevit.files.writing import write_whole
    from edgevit.progress import Progress
    from edgevit.recipe import load_recipe
    from edgevit.target import load_target
    from edgevit.workbench import Workbench

    as_json = values.pop("as_json")
    outputs = {kind: path for kind in KINDS if (path := values.pop(f"{kind}_path")) is not None}
    cache, options = Cache(enabled=not values.pop("no_cache"), note=note), import_options(values)
    engines, precisions = _names(values.pop("engines")), parse_precisions(_names(values.pop("precisions")))
    # What can be wrong is found now, not after minutes of measuring.
    for name in engines:
        _ = backend(name).version
    progress = Progress() if as_json else ConsoleProgress()
    request = Request(
        models=values["models"],
        data=values["data"],
        precisions=precisions,
        calibration=values["calibration"],
        limit=values["limit"],
        recipe=load_recipe(values["recipe"]),
        target=here(load_target(values["target"])) if values["target"] else None,
        class_order=values["class_order"],
        options=options,
    )
    target = request.target or load_target("cpu")
    bench = Workbench(target=target, cache=cache, progress=progress, threads=values["threads"])
    field = find_field(request, bench).checked(engines=engines, bench=bench)
    comparison = field.compare(runs=values["runs"], bench=bench, command=command_line())
    # What was measured is printed before anything is written: a full disk loses the file, not the figures.
    if as_json:
        checks = [item.to_dict() for item in field.verdicts]
        print_json({**comparison.to_dict(), "checks": checks, "notes": field.notes})
    else:
        print_warnings(comparison.warnings)
        for text in field.notes:
            note(text)
        print_comparison(comparison)
        if field.verdicts:
            say(f"{summary(field.verdicts)}.")
    failed = []
    for kind, path in outputs.items():
        text = _written(kind, comparison, field, bench)
        try:
            write_whole(path, text, kind=KINDS[kind], option=f"--{kind}")
        except EdgevitError as error:  # the others may lie elsewhere
            failed.append(error)
            continue
        if not as_json:
            say(f"Written: {path}")
    if failed:
        raise failed[0]


def _names(text: str | None) -> tuple[str, ...]:
    """The names of a comma-separated list, each once."""
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _written(kind: str, comparison: Any, field: Any, bench: Any) -> str:
    """The text of an output file."""
    from edgevit.report.html import to_html
    from edgevit.report.table import to_markdown

    if kind == "csv":
        text: str = comparison.to_csv()
        return text
    if kind == "markdown":
        return to_markdown(comparison, field.notes)
    return to_html(comparison, field.background(comparison, bench))


def print_warnings(warnings: Sequence[str]) -> None:
    """What makes the figures suspect, on stdout, before any of them."""
    for text in warnings:
        say(f"Check first: {text}", colour="yellow", bold=True)
    if warnings:
        say()


def print_comparison(comparison: Any) -> None:
    """The recommendation, the table and its conditions, on stdout."""
    from edgevit.cli.console import table
    from edgevit.plan.device_plan import device_lines, device_table
    from edgevit.report.table import (
        SHORT,
        conditions_line,
        device_plans,
        filled,
        images_line,
        legend,
        origin_lines,
        short_cells,
    )

    found = comparison.recommendation
    say(found.headline, bold=True)
    for reason in found.reasons:
        say(f"  {reason}")
    say()
    shown, rows = filled(SHORT, [short_cells(comparison, row) for row in comparison.rows])
    table(images_line(comparison), shown, rows, left=2)
    if plans := device_plans(comparison):
        say()
        columns, cells = device_table(plans)
        table("On the device", columns, cells)
        for text in device_lines(plans):
            say(*textwrap.wrap(text, WIDTH))
        say()
    for text in legend(comparison, shown, rows):
        say(f"{text}.")
    say(conditions_line(comparison))
    for text in origin_lines(comparison):
        say(text)
