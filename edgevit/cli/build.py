"""``edgevit build``: a checkpoint becomes a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import OutputBundle, Writing
from edgevit.cli.options import (
    class_order_option,
    device_option,
    json_option,
    model_options,
    no_cache_option,
    prune_options,
    threads_option,
)
from edgevit.cli.say import say
from edgevit.cli.shares import Points
from edgevit.target import PRECISIONS

if TYPE_CHECKING:
    from edgevit.commands.build_result import BuildResult


def _out(values: dict[str, Any]) -> Path:
    from edgevit.commands.arguments import bundle_named_after

    return bundle_named_after(values["model"])


@click.command(cls=Writing)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", default="cpu", show_default=True, help="Device: a name in targets/, or a .toml path.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Images to calibrate on: a folder (class per subfolder) or an .npz."
)
@click.option("--eval-data", type=click.Path(path_type=Path), help="Images to measure accuracy on; else what calibration leaves.")
@click.option("--eval-limit", type=click.IntRange(1), default=1024, show_default=True, help="Measure on at most so many images.")
@click.option(
    "-o",
    "--out",
    type=OutputBundle(otherwise=_out),
    help="Bundle folder, or .zip; MODEL.edgevit here by default.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", *reversed(PRECISIONS)]),
    help="What GEMMs compute in: all INT8 (the default), FP16 (GPUs), FP32, or auto: INT8 as far as --max-drop allows.",
)
@click.option(
    "--max-drop",
    type=Points(),
    metavar="POINTS",
    help="Points of top-1 (several labels: of mAP; without labels: of agreement with FP32) that pruning and INT8 together may "
    "cost; what costs more stays in floating point. --precision auto alone means 0.5, --prune auto 1.",
)
@click.option("--recipe", default="default", show_default=True, help="Calibration: a name in calibration/, or a .toml path.")
@click.option(
    "--reference/--no-reference",
    default=True,
    show_default=True,
    help="Keep the FP32 graph for 'compare', and check engines on a few calibration images that the bundle then holds. "
    "Without: neither, and the frames are synthetic.",
)
@click.option(
    "--features",
    is_flag=True,
    help="The bundle gives what the head sees, too, for search and clustering: edgevit run --features.",
)
@click.option(
    "--unknown",
    is_flag=True,
    help="The bundle tells what is unlike the images of --data: edgevit run --unknown auto.",
)
@prune_options
@model_options
@class_order_option
@threads_option
@device_option
@no_cache_option
@click.option("--dry-run", is_flag=True, help="Print the stages and what is cached, and do nothing.")
@json_option
def build(**values: Any) -> None:
    """Turn the trained ViT MODEL into a bundle for a target.

    Stages are cached by content: run the same command again after an interruption and it goes on.
    """
    from edgevit.errors import needs_extra

    with needs_extra("build"):
        from edgevit.commands.build import build as build_bundle
        from edgevit.commands.plan import plan

    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, command_line, note, print_json
    from edgevit.progress import Progress

    as_json, dry_run, cache = values.pop("as_json"), values.pop("dry_run"), Cache(enabled=not values.pop("no_cache"), note=note)
    if dry_run:
        planned = plan(**values, cache=cache)
        _print_plan(planned.stages, as_json=as_json)
        for text in () if as_json else planned.notes:
            note(text)
        return
    progress = Progress() if as_json else ConsoleProgress()
    result = build_bundle(**values, cache=cache, progress=progress, command=command_line())
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result)


def _print(result: BuildResult) -> None:
    from edgevit.cli.compare import print_comparison, print_warnings
    from edgevit.cli.console import note
    from edgevit.engine.check import verdict_summary
    from edgevit.engines import traits_of

    manifest = result.bundle.manifest
    print_warnings(result.comparison.warnings if result.comparison else ())
    for text in result.notes:
        note(text)
    for part, reason in manifest.reasons.items():
        if not part.endswith("attention"):
            note(f"{part} stays in floating point: {reason}")
    if result.comparison:
        print_comparison(result.comparison)
    if result.compiled.preflight:
        from edgevit.cli.preflight import print_preflight

        print_preflight(result.compiled, result.target)
    say(f"{verdict_summary(result.verdicts)}.")
    say(f"{result.bundle.path}  {result.bundle.bytes / 1e6:.1f} MB, input {manifest.input}")
    if traits_of(manifest.engine).ahead_of_time and not result.compiled.files:
        say(f"Copy it to the device, and there: edgevit compile {result.bundle.path}")
    say(f"Classify with it: edgevit run {result.bundle.path} 0   (camera 0; or a video, a folder, an image)")


def _print_plan(stages: Sequence[Any], *, as_json: bool) -> None:
    from dataclasses import asdict

    from edgevit.cli.console import print_json, table

    if as_json:
        print_json([asdict(stage) for stage in stages])
    else:
        rows = [(stage.name, stage.what, "cached" if stage.cached else "") for stage in stages]
        table("Plan", ("stage", "what", ""), rows, left=3)
