"""What `edgevit attention` does: run each precision of a model on an image and keep where it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.attention_maps.maps import Attention
from edgevit.attention_maps.probe import Probe
from edgevit.bundle import MODEL, REFERENCE, is_bundle, open_bundle
from edgevit.errors import ConfigError, needs_extra
from edgevit.images.dataset import load_images, read_image
from edgevit.preprocess import Preprocessing, prepare
from edgevit.recipe import Recipe
from edgevit.runtime.classify import Prediction, top_k
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.preprocess import Frame


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one precision made of the image."""

    precision: str
    prediction: Prediction
    attention: Attention


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model's graphs by precision, and how frames reach them."""

    graphs: dict[str, bytes]
    config: Mapping[str, Any]
    contract: Preprocessing
    labels: tuple[str, ...]
    problem_type: str


def look_at(model: Model, image: Path, *, threads: int | None = None) -> tuple[Frame, list[View]]:
    """The prepared image, uint8 [H, W, 3] BGR, and how each precision of ``model`` sees it. Raises DataError for no image."""
    frame = prepare(read_image(image), model.contract)
    views = []
    for precision, graph in model.graphs.items():
        logits, attention = Probe(graph, model.config, threads=threads).look(frame)
        views.append(
            View(precision=precision, prediction=top_k(logits, model.labels, 1, model.problem_type)[0], attention=attention)
        )
    return frame, views


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
