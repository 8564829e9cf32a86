"""What `edgevit compare` does: find the precisions of a bundle or a checkpoint, and the images to compare them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.bundle import MODEL, REFERENCE, is_bundle, open_bundle
from edgevit.cache import Cache
from edgevit.engine import runs_here
from edgevit.errors import ConfigError, DataError, needs_extra
from edgevit.images import ImageSet, load_images
from edgevit.preprocess import Preprocessing
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.report.compare import Candidate, compare
from edgevit.report.rows import Comparison
from edgevit.target import load_target


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is compared: graphs by precision, the reference first, and the images none was calibrated on."""

    models: dict[str, bytes]
    images: ImageSet
    contract: Preprocessing
    labels: tuple[str, ...]
    engine: str
    notes: tuple[str, ...]

    def compare(self, *, engines: Sequence[str], runs: int, threads: int | None, cache: Cache, progress: Progress) -> Comparison:
        """Every precision on every engine; see `edgevit.report.compare.compare`."""
        candidates = [
            Candidate(precision=precision, engine=engine, model=model)
            for engine in engines or [self.engine]
            for precision, model in self.models.items()
        ]
        return compare(
            candidates, self.images, self.contract, self.labels, runs=runs, threads=threads, cache=cache, progress=progress
        )


def find_subject(
    model: Path, data: Path, *, limit: int, recipe: Recipe, options: Mapping[str, Any], cache: Cache, progress: Progress
) -> Subject:
    """The subject that ``model`` is: a bundle brings everything, a checkpoint is quantized by ``recipe`` first.

    At most ``limit`` images are compared on. ``options`` are keyword arguments of `load_checkpoint`; a
    bundle takes none.
    """
    images = load_images(data)
    if is_bundle(model) or model.suffix in (".edgevit", ".zip"):
        return _of_bundle(model, images, limit, options, progress)
    return _of_checkpoint(model, images, limit, recipe, options, cache, progress)


def _of_bundle(path: Path, images: ImageSet, limit: int, options: Mapping[str, Any], progress: Progress) -> Subject:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    if any(options.values()):
        given = ", ".join(sorted(key for key, value in options.items() if value))
        msg = f"{path}: a bundle brings its own settings; {given} can only be given for a checkpoint."
        raise ConfigError(msg)
    graphs = {"fp32": REFERENCE, manifest.precision: MODEL}
    with progress.stage("verify bundle"):
        models = {precision: bundle.read(name) for precision, name in graphs.items() if name in manifest.files}
    notes, engine = [], manifest.engine
    if not runs_here(engine):
        engine = load_target("cpu").engine()
        notes.append(f"{manifest.engine} does not run here: compared on {engine}, whose milliseconds are not the device's")
    if "fp32" not in models:
        notes.append(f"{path} was built with --no-reference: there is no FP32 in it to compare with")
    calibrated = set(manifest.provenance.get("calibration_images", ()))
    held_out = images.held_out(limit, 0, calibrated)
    missing = min(limit, len(images)) - len(held_out)
    if missing:
        notes.append(f"{missing} images of {images.source} were calibrated on and are left out")
    return Subject(
        models=models,
        images=held_out,
        contract=manifest.preprocessing,
        labels=manifest.labels,
        engine=engine,
        notes=tuple(notes),
    )


def _of_checkpoint(
    path: Path,
    images: ImageSet,
    limit: int,
    recipe: Recipe,
    options: Mapping[str, Any],
    cache: Cache,
    progress: Progress,
) -> Subject:
    with needs_extra("build"):
        from edgevit.model.checkpoint import load_checkpoint
        from edgevit.variants import fp32_variant, int8_variant
    with progress.stage("import model"):
        checkpoint = load_checkpoint(path, **options)
    calibration, _ = images.split(recipe.calibrate.images, recipe.calibrate.seed)
    held_out = images.held_out(limit, recipe.calibrate.seed, calibration.fingerprints())
    if not len(held_out):
        msg = f"{images.source}: calibration takes all {len(images)} images. Give more, or build a bundle and compare that."
        raise DataError(msg)
    variants = [fp32_variant(checkpoint), int8_variant(checkpoint, calibration, recipe, cache, progress)]
    return Subject(
        models={variant.precision: variant.model for variant in variants},
        images=held_out,
        contract=checkpoint.preprocessing,
        labels=checkpoint.labels,
        engine=load_target("cpu").engine(),
        notes=checkpoint.notes,
    )
