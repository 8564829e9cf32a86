"""``edgevit attention`` as a library call: run each precision of a model on an image and keep where it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.attention_maps.probe import Probe
from edgevit.bundle import MODEL, REFERENCE, is_bundle, open_bundle
from edgevit.cache import Cache
from edgevit.commands.arguments import cache_of, known_options, names_of, number_or_none, path_of, path_or_none, recipe_of
from edgevit.commands.attention_result import AttentionResult, View, check_output
from edgevit.commands.import_options import ImportOptions, import_options
from edgevit.errors import ConfigError, needs_extra
from edgevit.images.dataset import load_images
from edgevit.images.pictures import Picture, frame_of
from edgevit.preprocess import Preprocessing, prepare
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.runtime.classify import top_k
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edgevit.preprocess import Frame


def attention(
    model: str | Path,
    image: Picture,
    *,
    out: str | Path | None = None,
    blocks: str | Sequence[int] | None = None,
    all_heads: bool = False,
    data: str | Path | None = None,
    recipe: str | Path | Recipe = "default",
    threads: int | None = None,
    cache: Cache | bool = True,
    progress: Progress | None = None,
    **options: Unpack[ImportOptions],
) -> AttentionResult:
    """What every head of a model attends to in an image; FP32 beside INT8 where there are both.

    >>> seen = edgevit.attention("out.edgevit", "image.jpg")
    >>> seen.views[0].attention.maps(block=3)

    Args:
        model: a bundle or a checkpoint.
        image: the path of an image; a Pillow image; or an array uint8 [H, W, 3] BGR, as OpenCV delivers it.
        out: a file to write, too: a picture (.png, .jpg, .webp), .npy for the maps, .npz for all weights.
        blocks: numbers from 0, a list or a text with commas; all by default, of which a picture has the last that all
            precisions have.
        all_heads: a picture of every head of these blocks, not of the mean over heads.
        data: for a checkpoint: images to calibrate INT8 on, to see that, too.
        recipe: for a checkpoint: how to calibrate INT8.
        threads, cache, progress: as `edgevit.build` takes them.
        options: for a checkpoint: how to read it, see `ImportOptions`.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        ValueError: an array of another shape or dtype.
        EdgevitError: whatever else a user can put right. Messages name an argument as the command line does.
    """
    written = path_or_none(out, "out")
    if written is not None:
        check_output(written)
    bench = Workbench(cache=cache_of(cache), progress=progress or Progress(), threads=number_or_none(threads, "threads", 1))
    how = import_options(known_options(dict(options), ImportOptions))
    found = read_model(path_of(model, "model"), path_or_none(data, "data"), recipe_of(recipe), how, bench)
    with bench.stage("look"):
        frame, views = look_at(found, image, threads=bench.threads)
    chosen = _blocks(blocks, views)
    drawn = chosen if all_heads or blocks is not None else last_of_all(chosen, views)
    result = AttentionResult(frame=frame, views=views, blocks=chosen, drawn=drawn, all_heads=all_heads, written=written)
    if written is not None:
        result.save(written)
    return result


def last_of_all(blocks: Sequence[int], views: Sequence[View]) -> tuple[int, ...]:
    """The last of ``blocks`` in which every view looks, else the last: pruning may have left one without attention."""
    everywhere = [block for block in blocks if all(block in view.attention.weights for view in views)]
    return tuple((everywhere or blocks)[-1:])


def _blocks(asked: str | Sequence[int] | None, views: Sequence[View]) -> tuple[int, ...]:
    """The blocks asked for, all of them by default. Raises ConfigError for one that has no attention."""
    known = sorted({block for view in views for block in view.attention.weights})
    if asked is None:
        return tuple(known)
    names = names_of(asked if isinstance(asked, str) else [str(block) for block in asked], "blocks")
    for name in names:
        if not name.isdecimal() or int(name) not in known:
            msg = f"--blocks: {name!r} is no block with attention. Known: {', '.join(map(str, known))}."
            raise ConfigError(msg)
    if not names:
        msg = f"--blocks: names none. Known: {', '.join(map(str, known))}."
        raise ConfigError(msg)
    return tuple(dict.fromkeys(map(int, names)))


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model's graphs by precision, and how frames reach them."""

    graphs: dict[str, bytes]
    config: Mapping[str, Any]
    contract: Preprocessing
    labels: tuple[str, ...]
    problem_type: str


def look_at(model: Model, image: Picture, *, threads: int | None = None) -> tuple[Frame, tuple[View, ...]]:
    """The prepared image, uint8 [H, W, 3] BGR, and how each precision of ``model`` sees it. Raises as `frame_of` does."""
    frame = prepare(frame_of(image), model.contract)
    views = []
    for precision, graph in model.graphs.items():
        logits, attention = Probe(graph, model.config, threads=threads).look(frame)
        views.append(
            View(precision=precision, prediction=top_k(logits, model.labels, 1, model.problem_type)[0], attention=attention)
        )
    return frame, tuple(views)


def read_model(path: Path, data: Path | None, recipe: Recipe, options: Mapping[str, Any], bench: Workbench) -> Model:
    """A bundle in all it holds, or a checkpoint in FP32, and in INT8 if there is ``data`` to calibrate on."""
    if is_bundle(path) or path.suffix in (".edgevit", ".zip"):
        return _of_bundle(path, data, options)
    with needs_extra("build"):
        from edgevit.export.variants import fp32_variant
        from edgevit.model.checkpoint import load_checkpoint
        from edgevit.quantize.quantize import int8_variant
    with bench.stage("import model"):
        checkpoint = load_checkpoint(path, **options)
    variants = [fp32_variant(checkpoint)]
    if data is not None:
        images = load_images(data)
        images.check()
        calibration, _ = images.split(recipe.calibrate.images, recipe.calibrate.seed)
        variants.append(int8_variant(checkpoint, calibration, recipe, bench))
    return Model(
        graphs={variant.precision: variant.model for variant in variants},
        config=checkpoint.model.config.to_dict(),
        contract=checkpoint.preprocessing,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
    )


def _of_bundle(path: Path, data: Path | None, options: Mapping[str, Any]) -> Model:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    given = sorted(["data"] * (data is not None) + [key for key, value in options.items() if value])
    if given:
        msg = f"{path}: a bundle brings its own settings; {', '.join(given)} can only be given for a checkpoint."
        raise ConfigError(msg)
    files = {"fp32": REFERENCE, manifest.precision: MODEL}
    return Model(
        graphs={precision: bundle.read(file) for precision, file in files.items() if file in manifest.files},
        config=manifest.model,
        contract=manifest.preprocessing,
        labels=manifest.labels,
        problem_type=manifest.problem_type,
    )
