"""``edgevit train``: from photos to a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputBundle, Writing
from edgevit.cli.options import device_option, json_option, model_options, no_cache_option
from edgevit.cli.say import say


class Blocks(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    """A number of blocks from 1, or ``all``."""

    name = "blocks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Parse; fails with the value that was given."""
        if value == "all" or isinstance(value, int):
            return value
        if not str(value).isdecimal() or not int(value):
            self.fail(f"{value!r} is no number of blocks: write 2, or all.", param, ctx)
        return int(value)


@click.command(cls=Writing)
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--backbone", required=True, type=click.Path(path_type=Path), help="Checkpoint whose features are used: any that "
              "build reads, with a head or without.")  # fmt: skip
@click.option("-o", "--out", type=OutputBundle(), help="The folder to write; PHOTOS-model here by default.")
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="Parts of the cross-validation.")
@click.option("--flip/--no-flip", default=True, show_default=True, help="Train on mirrored photos, too.")
@click.option("--crops", type=click.IntRange(0, 16), default=2, show_default=True, help="Small crops of each photo, too.")
@click.option("--balanced", is_flag=True, help="Every class counts the same, however many photos it has.")
@click.option("--add-class", multiple=True, metavar="NAME=FOLDER", help="Photos of one more class, or more of one, that lie "
              "elsewhere; repeatable.")  # fmt: skip
@click.option("--unfreeze", type=Blocks(), metavar="N|all", help="Fine-tune the last N blocks, too, or everything; kept if it is "
              "better on photos that it did not see.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1, 1000), help="Of fine-tuning, at most.  [default: 15]")
@click.option("--lr", type=float, help="Peak learning rate of fine-tuning.  [default: 0.04 / width of the model]")
@model_options
@device_option
@no_cache_option
@json_option
def train(**values: Any) -> None:
    """Train a classifier for PHOTOS, a folder with a subfolder per class: a linear head on frozen features, in minutes; with
    --unfreeze the last blocks learn, too.

    Cross-validation chooses the regularisation and tells how sure the result is, what it confuses, which labels look wrong and
    whether more photos would help. Features are kept: with more photos, or another class, run it again. Every epoch of
    fine-tuning is kept: after an interruption the same command goes on.
    """
    from edgevit.errors import needs_extra

    with needs_extra("build"):
        from edgevit.commands.train import train as train_photos

    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, note, print_json, print_sheet
    from edgevit.commands.train_result import worst_sheet
    from edgevit.progress import Progress

    as_json, cache = values.pop("as_json"), Cache(enabled=not values.pop("no_cache"), note=note)
    progress = Progress() if as_json else ConsoleProgress()
    result = train_photos(values.pop("photos"), **values, cache=cache, progress=progress)
    if as_json:
        print_json(result.to_dict())
        return
    for text in result.notes:
        note(text)
    print_sheet(result.sheet())
    if (epochs := result.epochs_sheet()) is not None:
        print_sheet(epochs)
    if result.findings.worst:
        print_sheet(worst_sheet(result.findings.worst))
    say(*result.lines(), result.headline)
    say(f"{result.path}  the head reads {' and '.join(result.pooling)} features; {result.seconds:.0f} s")
    say(f"Build with it: edgevit build {result.path} --data PHOTOS")
