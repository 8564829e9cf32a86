"""``edgevit attention``: where a model looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputFile, Writing
from edgevit.cli.options import json_option, model_options, no_cache_option, threads_option
from edgevit.cli.say import say


@click.command(cls=Writing)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=OutputFile(otherwise=lambda values: Path(f"{values['image'].stem}-attention.png")),
              help="A picture; .npy for the maps, .npz for all weights. IMAGE-attention.png here by default.")  # fmt: skip
@click.option("--blocks", help="Comma-separated numbers, from 0; all by default, of which the picture has the last.")
@click.option("--all", "all_heads", is_flag=True, help="Draw every head of these blocks, not the mean over heads.")
@click.option("--data", type=click.Path(path_type=Path), help="For a checkpoint: images to calibrate INT8 on, to see that, too.")
@click.option("--recipe", default="default", show_default=True, help="For a checkpoint: how to calibrate INT8.")
@model_options
@threads_option
@no_cache_option
@json_option
def attention(**values: Any) -> None:
    """Draw where MODEL, a bundle or a checkpoint, looks in IMAGE; FP32 beside INT8 where there are both.

    A map is the class token's attention to the patches; without a class token, the mean over all patches' attention.
    "rollout" follows it through all blocks.
    """
    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, note, print_json
    from edgevit.commands.attention import attention as look
    from edgevit.progress import Progress

    as_json, cache = values.pop("as_json"), Cache(enabled=not values.pop("no_cache"), note=note)
    document = look(**values, cache=cache, progress=Progress() if as_json else ConsoleProgress()).to_dict()
    if as_json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    from edgevit.cli.console import table

    for view in document["views"]:
        say(f"{view['precision']}: {view['label']} {100 * view['confidence']:.1f} %")
    if document["moved"]:
        names = " against ".join(view["precision"] for view in reversed(document["views"]))
        say("", f"Attention that goes elsewhere, {names}, % of each query's weights")
        rows = [
            (block, f"{100 * sum(shares) / len(shares):.2f}", f"{100 * max(shares):.2f}")
            for block, shares in document["moved"].items()
        ]
        table("", ("block", "mean of heads", "worst head"), rows)
        if document["rollout_correlation"] is not None:
            say(f"Rollouts correlate at {document['rollout_correlation']:.4f}.")
    rows_columns = "x".join(map(str, document["grid"]))
    say(f"Maps of {rows_columns} patches, {document['map']}. Written: {document['written']}")
