"""``edgevit prune``: a smaller checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputFile, Writing
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


def _out(values: dict[str, Any]) -> Path:
    from edgevit.commands.arguments import pruned_named_after

    return pruned_named_after(values["model"])


@click.command(cls=Writing)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Images to prune on: a folder, or an .npz.")
@click.option("--eval-data", type=click.Path(path_type=Path), help="Images to measure accuracy on; else what pruning leaves.")
@click.option("--eval-limit", type=click.IntRange(1), default=1024, show_default=True, help="Measure on at most so many images.")
@click.option("-o", "--out", type=OutputFile(otherwise=_out),
              help="Where to write; MODEL-pruned.safetensors here by default.")  # fmt: skip
@click.option("--target", default="cpu", show_default=True, help="Device whose layer times count: in targets/, or a .toml path.")
@click.option("--precision", type=click.Choice(PRECISIONS[::-1]), help="What layer times are taken in; int8 if it can.")
@click.option(
    "--max-drop",
    type=Points(),
    metavar="POINTS",
    help="With --prune auto: points of top-1 (several labels: of mAP; without labels: of agreement) that pruning may cost; "
    "0.5 by default.",
)
@prune_options
@model_options
@class_order_option
@threads_option
@device_option
@no_cache_option
@json_option
def prune(**values: Any) -> None:
    """Remove heads, hidden neurons, whole halves of blocks and tokens from the trained ViT MODEL.

    What is left is refitted in closed form to do what the whole model did; labels are not needed. The result is an
    ordinary checkpoint: build, compare and prune take it again.
    """
    from edgevit.errors import needs_extra

    with needs_extra("build"):
        from edgevit.commands.prune import prune as prune_model

    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, command_line, note, print_json, print_sheet
    from edgevit.progress import Progress

    as_json, cache = values.pop("as_json"), Cache(enabled=not values.pop("no_cache"), note=note)
    progress = Progress() if as_json else ConsoleProgress()
    share = values.pop("prune")
    done = prune_model(**values, share=share, cache=cache, progress=progress, command=command_line())
    if as_json:
        print_json(done.to_dict())
        return
    from edgevit.cli.compare import print_comparison, print_warnings

    print_warnings(done.comparison.warnings if done.comparison else ())
    for text in done.notes:
        note(text)
    print_sheet(done.sheet())
    if done.comparison:
        print_comparison(done.comparison)
    say(f"{done.path}  {done.path.stat().st_size / 1e6:.1f} MB")
    say(f"Build with it: edgevit build {done.path} --data DIR")
