"""``edgevit sweep``: many ways of building a model, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputFolder, Writing
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

if TYPE_CHECKING:
    from edgevit.commands.sweep_plan import PlannedSweep
    from edgevit.commands.sweep_result import SweepResult


@click.command(cls=Writing)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Images to calibrate, prune and merge on.")
@click.option("--eval-data", type=click.Path(path_type=Path), help="Images to compare on; else what no point was fitted to.")
@click.option("--eval-limit", type=click.IntRange(1), default=1024, show_default=True, help="Compare on at most so many images.")
@click.option("--grid", type=click.Path(path_type=Path), help="A .toml file of the five axes below; options come before it.")
@click.option("--recipes", multiple=True, metavar="NAMES", help="Comma-separated: names in calibration/, or .toml paths.")
@click.option("--prune", multiple=True, metavar="SHARES", help="Comma-separated: 0,0.2,auto.")
@click.option(
    "--merge", multiple=True, metavar="SHARES", help="Comma-separated: none,0.35; or a schedule: 64@2,64@5. Repeatable."
)
@click.option("--speedup", multiple=True, metavar="X", help="Comma-separated: 1.5,2; points of their own.")
@click.option("--precisions", multiple=True, metavar="NAMES", help="Comma-separated: int8 (the default), fp16, fp32, auto.")
@click.option("--max-drop", type=click.FloatRange(0, 100), metavar="POINTS", help="Points of accuracy that auto may cost.")
@click.option("--target", default="cpu", show_default=True, help="Device: a name in targets/, or a .toml path.")
@click.option("-o", "--out", type=OutputFolder(), default=Path("sweep"), show_default=True, help="Folder for bundles and report.")
@click.option("--runs", type=click.IntRange(5), default=100, show_default=True, help="Timed inferences of each point.")
@model_options
@class_order_option
@threads_option
@device_option
@executor_options
@no_cache_option
@click.option("--dry-run", is_flag=True, help="Print the points and an estimate, and do nothing.")
@json_option
def sweep(**values: Any) -> None:
    """Build MODEL in every combination of recipes, pruning and merging, compare all, and say which to use.

    What is built stays: killed and begun again, the same command does what is missing. A point that cannot be built is a row
    with its reason. Latency is measured in turns when nothing else runs.
    """
    from edgevit.errors import needs_extra

    with needs_extra("build"):
        from edgevit.commands.sweep import sweep as sweep_models

    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, command_line, note, print_json
    from edgevit.progress import Progress

    as_json, dry_run, models = values.pop("as_json"), values.pop("dry_run"), values.pop("models")
    cache = Cache(enabled=not values.pop("no_cache"), note=note)
    if dry_run:
        _print_plan(_planned(models, values, cache), as_json=as_json)
        return
    progress = Progress() if as_json else ConsoleProgress()
    found = sweep_models(*models, **values, cache=cache, progress=progress, command=command_line())
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)


def _planned(models: tuple[Path, ...], values: dict[str, Any], cache: Any) -> PlannedSweep:
    from edgevit.cli.options import EXECUTOR_NAMES
    from edgevit.commands.sweep import sweep_request
    from edgevit.commands.sweep_plan import plan_sweep

    own = ("data", "eval_data", "eval_limit", "grid", "max_drop", "target", "out", "runs", "class_order", "threads", "device",
           "recipes", "prune", "merge", "speedup", "precisions")  # fmt: skip
    options = {name: value for name, value in values.items() if name not in (*own, *EXECUTOR_NAMES)}
    request = sweep_request(
        models, **{name: values[name] for name in own}, cache=cache, progress=None, command="", options=options
    )
    return plan_sweep(request)


def _print_plan(planned: PlannedSweep, *, as_json: bool) -> None:
    from dataclasses import asdict

    from edgevit.cli.console import print_json, table
    from edgevit.commands.expected import duration

    if as_json:
        print_json({**asdict(planned), "summary": planned.summary()})
        return
    rows = [
        (point.name, "built" if point.done else point.reason or f"about {duration(point.seconds or 0)}", point.command)
        for point in planned.points
    ]
    table("Points", ("point", "takes", "what builds it"), rows, left=3)
    say(f"{planned.summary()}.")


def _print(found: SweepResult) -> None:
    from edgevit.cli.compare import print_warnings
    from edgevit.cli.console import note, print_sheet
    from edgevit.report.sweep import LEGEND, sweep_sheet
    from edgevit.report.table import conditions_line, origin_lines

    comparison = found.sweep.comparison
    print_warnings(comparison.warnings)
    for text in found.sweep.notes:
        note(text)
    say(found.recommendation.headline, bold=True)
    for reason in found.recommendation.reasons:
        say(f"  {reason}")
    say()
    print_sheet(sweep_sheet(found.sweep))
    for text in LEGEND:
        say(f"{text}.")
    say(conditions_line(comparison))
    for text in origin_lines(comparison)[:1]:
        say(text)
    say(f"Written: {', '.join(str(found.folder / name) for name in ('sweep.html', 'sweep.json'))}, and a bundle of each point")
    say(f"Build {found.best.name} with its FP32 graph: {found.best.command}")
