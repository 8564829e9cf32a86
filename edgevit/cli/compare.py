"""``edgevit compare``: models and precisions side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFile, Writing
from edgevit.cli.options import (
    class_order_option,
    device_option,
    executor_options,
    json_option,
    model_options,
    no_cache_option,
    threads_option,
)
from edgevit.cli.say import say
from edgevit.files.own_kinds import COMPARISON, HTML, MARKDOWN

if TYPE_CHECKING:
    from edgevit.commands.compare_result import CompareResult

WIDTH = 100  # columns that sentences are folded to
KINDS = {"csv": COMPARISON, "html": HTML, "markdown": MARKDOWN}


@click.command(cls=Writing)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Images: a folder (class per subfolder) or an .npz.")
@click.option(
    "--precisions",
    help="Comma-separated: fp32, fp16, int8-linear, int8, each also pruned, with tokens merged, or both, "
    "int8+prune20+merge35, or as fast as wanted: int8+speedup1.5. The first is the reference.",
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
@device_option
@executor_options
@no_cache_option
@json_option
def compare(**values: Any) -> None:
    """Compare precisions of bundles and checkpoints on the same images, and say which to use.

    Images that a model was calibrated on are left out. Latency is measured in turns. Stopped at any time, the same command goes
    on with the images that are left.
    """
    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, command_line, note, print_json
    from edgevit.commands.compare import compare as compare_models
    from edgevit.engine.check import verdict_summary
    from edgevit.progress import Progress

    as_json, models = values.pop("as_json"), values.pop("models")
    outputs = {kind: path for kind in KINDS if (path := values.pop(f"{kind}_path")) is not None}
    cache, progress = Cache(enabled=not values.pop("no_cache"), note=note), Progress() if as_json else ConsoleProgress()
    found = compare_models(*models, **values, cache=cache, progress=progress, command=command_line())
    # What was measured is printed before anything is written: a full disk loses the file, not the figures.
    if as_json:
        print_json(found.to_dict())
    else:
        print_warnings(found.warnings)
        for text in found.notes:
            note(text)
        print_comparison(found.comparison)
        if found.verdicts:
            say(f"{verdict_summary(found.verdicts)}.")
    _write(found, outputs, quiet=as_json)


def _write(found: CompareResult, outputs: dict[str, Path], *, quiet: bool) -> None:
    """Write each of ``outputs``. What cannot be written is raised when the others, which may lie elsewhere, are."""
    from edgevit.errors import EdgevitError
    from edgevit.files.writing import write_whole

    rendered = {"csv": found.to_csv, "html": found.to_html, "markdown": found.to_markdown}
    failed = []
    for kind, path in outputs.items():
        text = rendered[kind]()
        try:
            write_whole(path, text, kind=KINDS[kind], option=f"--{kind}")
        except EdgevitError as error:
            failed.append(error)
            continue
        if not quiet:
            say(f"Written: {path}")
    if failed:
        raise failed[0]


def print_warnings(warnings: Sequence[str]) -> None:
    """What makes the figures suspect, on stdout, before any of them."""
    for text in warnings:
        say(f"Check first: {text}", colour="yellow", bold=True)
    if warnings:
        say()


def print_comparison(comparison: Any) -> None:
    """The recommendation, the table and its conditions, on stdout."""
    from edgevit.cli.console import print_sheet
    from edgevit.plan.device_plan import device_lines
    from edgevit.report.sheet import device_sheet, short_sheet
    from edgevit.report.table import conditions_line, device_plans, legend, origin_lines

    found, sheet = comparison.recommendation, short_sheet(comparison)
    say(found.headline, bold=True)
    for reason in found.reasons:
        say(f"  {reason}")
    say()
    print_sheet(sheet)
    if device := device_sheet(comparison):
        say()
        print_sheet(device)
        for text in device_lines(device_plans(comparison)):
            say(*textwrap.wrap(text, WIDTH))
        say()
    if meanings := legend(comparison, sheet.columns, sheet.rows):
        say(*textwrap.wrap(f"{'; '.join(meanings)}.", WIDTH))
    say(conditions_line(comparison))
    for text in origin_lines(comparison):
        say(text)
