"""``edgevit prune``: a smaller checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputFile, Writing, own_name
from edgevit.cli.options import (
    class_order_option,
    import_options,
    json_option,
    model_options,
    no_cache_option,
    prune_options,
    threads_option,
)
from edgevit.cli.say import say
from edgevit.target import PRECISIONS


@click.command(cls=Writing)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Images to prune on: a folder, or an .npz.")
@click.option("--eval-data", type=click.Path(path_type=Path), help="Images to measure accuracy on; else what pruning leaves.")
@click.option("--eval-limit", type=click.IntRange(1), default=1024, show_default=True, help="Measure on at most so many images.")
@click.option("-o", "--out", type=OutputFile(otherwise=lambda values: Path(f"{own_name(values['model'])}-pruned.safetensors")),
              help="Where to write; MODEL-pruned.safetensors here by default.")  # fmt: skip
@click.option("--target", default="cpu", show_default=True, help="Device whose layer times count: in targets/, or a .toml path.")
@click.option("--precision", type=click.Choice(PRECISIONS[::-1]), help="What layer times are taken in; int8 if it can.")
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    metavar="POINTS",
    help="With --prune auto: points of top-1 (several labels: of mAP; without labels: of agreement) that pruning may cost; "
    "0.5 by default.",
)
@prune_options
@model_options
@class_order_option
@threads_option
@no_cache_option
@json_option
def prune(**values: Any) -> None:
    """Remove heads, hidden neurons and whole halves of blocks from the trained ViT MODEL.

    What is left is refitted in closed form to do what the whole model did; labels are not needed. The result is an
    ordinary checkpoint: build, compare and prune take it again.
    """
    from edgevit.errors import needs_extra

    with needs_extra("build"):
        from edgevit.commands.prune import prune_checkpoint

    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, note, print_json
    from edgevit.progress import Progress

    as_json, cache = values.pop("as_json"), Cache(enabled=not values.pop("no_cache"), note=note)
    done = prune_checkpoint(_request(values), cache, Progress() if as_json else ConsoleProgress())
    if as_json:
        print_json({"checkpoint": str(done.path), "bytes": done.path.stat().st_size, "pruning": done.report,
                    "comparison": done.comparison.to_dict() if done.comparison else None, "notes": done.notes})  # fmt: skip
        return
    from edgevit.cli.compare import print_comparison, print_warnings

    print_warnings(done.comparison.warnings if done.comparison else ())
    for text in done.notes:
        note(text)
    _print_sublayers(done.report)
    if done.comparison:
        print_comparison(done.comparison)
    say(f"{done.path}  {done.path.stat().st_size / 1e6:.1f} MB")
    say(f"Build with it: edgevit build {done.path} --data DIR")


def _request(values: dict[str, Any]) -> Any:
    from edgevit.cli.console import command_line
    from edgevit.cli.options import prune_settings
    from edgevit.commands.build_request import BuildRequest
    from edgevit.device.jetson import here
    from edgevit.recipe import load_recipe
    from edgevit.target import load_target

    target = here(load_target(values.pop("target")))
    if values["max_drop"] is not None and values["prune"] is None and values["speedup"] is None:
        values["prune"] = "auto"
    settings = prune_settings(values, target.multiple)
    if settings is None:
        msg = "Say how much: --prune 0.2 (a share of the MACs), --speedup 1.2, or --prune auto --max-drop 0.5."
        raise click.UsageError(msg)
    if settings.auto and values["max_drop"] is None:
        values["max_drop"] = 0.5
    if not settings.auto and values["max_drop"] is not None:
        msg = "--max-drop bounds --prune auto; a share or a speed-up leaves it nothing to choose."
        raise click.UsageError(msg)
    options = import_options(values)
    values["precision"] = values["precision"] or ("int8" if "int8" in target.precisions else "fp32")
    recipe = load_recipe("default")
    return BuildRequest(**values, target=target, recipe=recipe, prune=settings, options=options, command=command_line())


def _print_sublayers(report: dict[str, Any]) -> None:
    from edgevit.cli.console import table

    rows = []
    for attention, mlp in zip(report["halves"][::2], report["halves"][1::2], strict=True):
        rows.append((attention["name"].rpartition(".")[0], _left(attention), _left(mlp), f"{100 * mlp['error']:.2f} %"))
    table("What is left", ("block", "heads", "hidden neurons", "error of the stream"), rows, left=1)


def _left(half: dict[str, Any]) -> str:
    if half["left"] != "part":
        return f"{half['before']} -> {'an affine map' if half['left'] == 'map' else 'a bias'}"
    return str(half["before"]) if half["before"] == half["after"] else f"{half['before']} -> {half['after']}"
