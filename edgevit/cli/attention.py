"""``edgevit attention``: where a model looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputFile, Writing
from edgevit.cli.options import import_options, json_option, model_options, no_cache_option, threads_option
from edgevit.cli.say import say

PICTURES = (".jpeg", ".jpg", ".png", ".webp")


@click.command(cls=Writing)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=OutputFile(otherwise=lambda values: Path(f"{values['image'].stem}-attention.png")),
              help="A picture; .npy for the maps, .npz for all weights. IMAGE-attention.png here by default.")  # fmt: skip
@click.option("--blocks", help="Comma-separated numbers, from 0; all by default.")
@click.option("--data", type=click.Path(path_type=Path), help="For a checkpoint: images to calibrate INT8 on, to see that, too.")
@click.option("--recipe", default="default", show_default=True, help="For a checkpoint: how to calibrate INT8.")
@model_options
@threads_option
@no_cache_option
@json_option
def attention(**values: Any) -> None:
    """Draw what every head of MODEL, a bundle or a checkpoint, attends to in IMAGE; FP32 beside INT8 where there are both.

    A map is the class token's attention to the patches; without a class token, the mean over all patches' attention.
    "rollout" follows it through all blocks.
    """
    from edgevit.cache import Cache
    from edgevit.cli.console import ConsoleProgress, note, print_json
    from edgevit.commands.attention import look_at, read_model
    from edgevit.files.own_kinds import MAPS, require_kind
    from edgevit.files.writing import write_whole
    from edgevit.progress import Progress
    from edgevit.recipe import load_recipe
    from edgevit.workbench import Workbench

    as_json, image = values.pop("as_json"), values["image"]
    cache, options = Cache(enabled=not values.pop("no_cache"), note=note), import_options(values)
    out = values["out"]
    _check_suffix(out)
    require_kind(out, MAPS)
    bench = Workbench(cache=cache, progress=Progress() if as_json else ConsoleProgress(), threads=values["threads"])
    model = read_model(values["model"], values["data"], load_recipe(values["recipe"]), options, bench)
    with bench.stage("look"):
        frame, views = look_at(model, image, threads=values["threads"])
    blocks = _blocks(values["blocks"], views)
    content = _content(out, frame, views, blocks)
    write_whole(out, content, kind=MAPS, option="-o")
    document = _document(views, blocks, out)
    if as_json:
        print_json(document)
    else:
        _print(document)


def _check_suffix(out: Path) -> None:
    from edgevit.errors import ConfigError

    known = (*PICTURES, ".npy", ".npz")
    if out.suffix.lower() not in known:
        msg = f"{out}: cannot write this kind of file. Choose a name that ends in {', '.join(known)}."
        raise ConfigError(msg)


def _blocks(text: str | None, views: list[Any]) -> list[int]:
    """The blocks asked for, all of them by default. Raises ConfigError for one that has no attention."""
    from edgevit.errors import ConfigError

    known = sorted({block for view in views for block in view.attention.weights})
    if text is None:
        return known
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not name.isdecimal() or int(name) not in known:
            msg = f"--blocks: {name!r} is no block with attention. Known: {', '.join(map(str, known))}."
            raise ConfigError(msg)
    if not names:
        msg = f"--blocks: names none. Known: {', '.join(map(str, known))}."
        raise ConfigError(msg)
    return list(dict.fromkeys(map(int, names)))


def _content(out: Path, frame: Any, views: list[Any], blocks: list[int]) -> bytes:
    """The bytes of the output file, by its name's ending."""
    import io

    import cv2
    import numpy as np

    from edgevit.attention_maps.maps import distance, stacked
    from edgevit.attention_maps.picture import Panel, draw_attention

    stream, kind = io.BytesIO(), out.suffix.lower()
    if kind == ".npy":
        np.save(stream, stacked([view.attention for view in views])[:, blocks], allow_pickle=False)
        return stream.getvalue()
    if kind == ".npz":
        arrays = {
            f"{view.precision}/block{i}": view.attention.weights[i]
            for view in views
            for i in blocks
            if i in view.attention.weights
        }
        arrays |= {f"{view.precision}/rollout": view.attention.rollout() for view in views}
        np.savez_compressed(stream, frame=frame, **arrays)
        return stream.getvalue()
    panels = [Panel(title=_title(view), attention=view.attention) for view in views]
    moved = distance(views[0].attention, views[-1].attention) if len(views) > 1 else {}
    notes = {block: f"moved {100 * float(shares.mean()):.1f} %" for block, shares in moved.items()}
    picture = draw_attention(frame, panels, blocks, notes)
    return bytes(cv2.imencode(kind, picture)[1])


def _title(view: Any) -> str:
    return f"{view.precision}: {view.prediction.label} {100 * view.prediction.confidence:.1f} %"


def _document(views: list[Any], blocks: list[int], out: Path) -> dict[str, Any]:
    """What was found, JSON-ready."""
    from edgevit.attention_maps.maps import correlation, distance

    first, last = views[0].attention, views[-1].attention
    moved = distance(first, last) if len(views) > 1 else {}
    return {
        "written": str(out),
        "grid": list(first.grid),
        "prefix_tokens": first.prefix,
        "map": "class token" if first.class_token else "mean over patches",
        "views": [
            {
                "precision": view.precision,
                "label": view.prediction.label,
                "confidence": view.prediction.confidence,
                "shapes": {
                    str(block): list(view.attention.weights[block].shape) for block in blocks if block in view.attention.weights
                },
            }
            for view in views
        ],
        "moved": {str(block): [float(share) for share in moved[block]] for block in blocks if block in moved} or None,
        "rollout_correlation": correlation(first.rollout(), last.rollout()) if len(views) > 1 else None,
    }


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
