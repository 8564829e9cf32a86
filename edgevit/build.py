"""The pipeline: checkpoint and images in, bundle out. Every slow stage is cached by content."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import edgevit
from edgevit.advice import budget_note, calibration_notes
from edgevit.budget import within_budget
from edgevit.bundle import MODEL, REFERENCE, REPORT, Bundle, Manifest, check_replaceable, check_writable, write_bundle
from edgevit.cache import Cache
from edgevit.engine import backend
from edgevit.errors import ConfigError, DataError
from edgevit.images import ImageSet, load_images
from edgevit.model.checkpoint import Checkpoint, load_checkpoint
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.report.compare import Candidate, Comparison, compare
from edgevit.target import Target
from edgevit.variants import Variant, fp32_variant, int8_from, quantization, quantize_key

RUNS = 60  # timed inferences per precision
SEARCHED = 512  # images that a search for a mixed-precision plan measures on, at most
PACKAGES = ("torch", "onnx", "openvino", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a build is asked to do."""

    model: Path
    target: Target
    recipe: Recipe
    out: Path
    precision: str = "int8"
    data: Path | None = None
    """Images to calibrate on; those left over are evaluated on, unless ``eval_data`` has others."""
    eval_data: Path | None = None
    eval_limit: int = 1024
    """Images evaluated at most."""
    max_drop: float | None = None
    """Points of top-1 (of agreement, without labels) that INT8 may cost; more than that, and parts stay in FP32."""
    reference: bool = True
    """Keep the FP32 graph in the bundle, so that `compare` works from the bundle alone."""
    threads: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `load_checkpoint`."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A request with its files read."""

    checkpoint: Checkpoint
    calibration: ImageSet | None
    held_out: ImageSet | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a dry run."""

    name: str
    what: str
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """A finished build."""

    bundle: Bundle
    comparison: Comparison | None
    seconds: dict[str, float]
    """Wall time of each stage."""


class _Timed(Progress):
    """Passes on to ``inner`` and keeps the seconds of every stage."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.seconds: dict[str, float] = {}

    def begin(self, stage: Any) -> None:
        self.inner.begin(stage)

    def advance(self, stage: Any, steps: int) -> None:
        self.inner.advance(stage, steps)

    def end(self, stage: Any) -> None:
        self.seconds[stage.name] = round(stage.seconds, 3)
        self.inner.end(stage)


def read_inputs(request: BuildRequest, progress: Progress) -> Inputs:
    """Load the checkpoint and choose the images. Raises for everything that can be wrong with them."""
    if request.precision not in request.target.precisions:
        msg = f"target {request.target.name} offers {', '.join(request.target.precisions)}, not {request.precision}"
        raise ConfigError(msg)
    if request.precision == "int8" and request.data is None:
        msg = "INT8 needs images to calibrate on: pass --data DIR (a folder of images, or an .npz), or --precision fp32."
        raise DataError(msg)
    check_replaceable(request.out)
    check_writable(request.out)
    _ = backend(request.target.engine()).version  # a package that is missing is missed now
    with progress.stage("import model"):
        checkpoint = load_checkpoint(request.model, **request.options)
    calibration, held_out, notes = _choose_images(request)
    if calibration is not None:
        notes += calibration_notes(calibration, len(checkpoint.labels))
    if held_out is not None and held_out.targets is not None and held_out.targets_for(checkpoint.labels) is None:
        notes.append(
            f"accuracy: the {len(held_out.class_names)} classes of {held_out.source} are not the model's "
            f"{len(checkpoint.labels)} labels, so top-1 is unknown; pass --labels"
        )
    return Inputs(checkpoint=checkpoint, calibration=calibration, held_out=held_out, notes=(*checkpoint.notes, *notes))


def _choose_images(request: BuildRequest) -> tuple[ImageSet | None, ImageSet | None, list[str]]:
    notes: list[str] = []
    calibration, held_out = None, None
    if request.data is not None:
        held_out, settings = load_images(request.data), request.recipe.calibrate
    if held_out is not None and request.precision == "int8":
        calibration, held_out = held_out.split(settings.images, settings.seed)
        if len(calibration) < settings.images:
            notes.append(f"calibration: {request.data} has {len(calibration)} images, the recipe asks for {settings.images}")
    if request.eval_data is not None:
        held_out = load_images(request.eval_data)
    if held_out is not None:
        used = calibration.fingerprints() if calibration else set()
        held_out = held_out.held_out(request.eval_limit, request.recipe.calibrate.seed, used)
    if held_out is None or not len(held_out):
        notes.append("accuracy: not measured, no images are left for it; pass --eval-data DIR")
        return calibration, None, notes
    return calibration, held_out, notes


def plan(request: BuildRequest, cache: Cache) -> list[PlannedStage]:
    """What `build` would do, and what of it is cached already. Computes nothing slow, writes nothing."""
    inputs = read_inputs(request, Progress())
    checkpoint, engine = inputs.checkpoint, request.target.engine()
    config = checkpoint.model.config
    stages = [PlannedStage(name="import model", what=f"{checkpoint.family}, {len(config.blocks)} blocks of width {config.width}")]
    if request.precision == "int8" and inputs.calibration is not None:
        key = quantize_key(checkpoint, inputs.calibration, request.recipe)
        images = f"{len(inputs.calibration)} images of {request.data}"
        cached = cache.find("quantize", **key) is not None
        stages.append(PlannedStage(name="quantize", what=f"recipe {request.recipe.name}, {images}", cached=cached))
        if request.max_drop is not None:
            stages.append(PlannedStage(name="search", what=f"the most INT8 that loses at most {request.max_drop:g} points"))
    stages.append(PlannedStage(name="compile", what=f"{request.precision} with {backend(engine).version}"))
    if inputs.held_out is not None:
        stages.append(
            PlannedStage(name="evaluate", what=f"fp32 and {request.precision} on {len(inputs.held_out)} held-out images")
        )
        stages.append(PlannedStage(name="measure latency", what=f"{RUNS} inferences of each, interleaved"))
    return [*stages, PlannedStage(name="write bundle", what=str(request.out))]


def build(request: BuildRequest, cache: Cache, progress: Progress) -> BuildResult:
    """Run all stages and write the bundle to ``request.out``.

    Interrupted, it leaves no bundle, and every stage that had finished is found in the cache next time.
    Raises EdgevitError for whatever a user can put right.
    """
    timed = _Timed(progress)
    inputs = read_inputs(request, timed)
    cache.check()
    engine = request.target.engine()
    with timed.stage("write graph"):
        reference = fp32_variant(inputs.checkpoint)
    variant = reference
    if request.precision == "int8" and inputs.calibration is not None:
        result = quantization(inputs.checkpoint, inputs.calibration, request.recipe, cache, timed)
        variant = int8_from(result.plan, result.report)
        if request.max_drop is not None:
            inputs, images = _spare_images(request, inputs)
            variant = within_budget(
                inputs.checkpoint, result, images, request.max_drop, engine=engine, threads=request.threads, cache=cache,
                progress=timed,
            )  # fmt: skip
    with timed.stage(f"compile with {engine}"):
        backend(engine).compile(variant.model, threads=request.threads)
    comparison = _compared(request, inputs, [reference] if variant is reference else [reference, variant], cache, timed)
    if comparison and request.max_drop:
        flips = 1 - comparison.rows[-1].accuracy.agreement
        note = budget_note(request.max_drop, flips, comparison.rows[-1].accuracy.images)
        inputs = replace(inputs, notes=(*inputs.notes, note)) if note else inputs
    with timed.stage("write bundle"):
        bundle = _write(request, inputs, reference, variant, comparison, timed.seconds)
    return BuildResult(bundle=bundle, comparison=comparison, seconds=timed.seconds)


def _spare_images(request: BuildRequest, inputs: Inputs) -> tuple[Inputs, ImageSet]:
    """Images for the search of a mixed-precision plan, and ``inputs`` without them: what chose a plan must not judge it.

    What ``data`` has left beside separate ``eval_data``, else half of the held-out images. Raises DataError if there are none.
    """
    calibration, held_out, spare = inputs.calibration, inputs.held_out, None
    if request.eval_data is not None and request.data is not None and calibration is not None:
        seen = calibration.fingerprints() | (held_out.fingerprints() if held_out else set())
        spare = load_images(request.data).held_out(SEARCHED, request.recipe.calibrate.seed, seen)
    if (spare is None or len(spare) < len(held_out or ()) // 2) and held_out is not None:
        half = min(SEARCHED, len(held_out) // 2)
        spare, held_out = held_out.split(half, request.recipe.calibrate.seed)
    if spare is None or not len(spare):
        msg = "--max-drop needs images beside those of calibration, and none are left. Pass --eval-data DIR, or more --data."
        raise DataError(msg)
    return replace(inputs, held_out=held_out), spare


def _compared(
    request: BuildRequest, inputs: Inputs, variants: list[Variant], cache: Cache, progress: Progress
) -> Comparison | None:
    if inputs.held_out is None:
        return None
    engine = request.target.engine()
    return compare(
        [Candidate(precision=variant.precision, engine=engine, model=variant.model) for variant in variants],
        inputs.held_out,
        inputs.checkpoint.preprocessing,
        inputs.checkpoint.labels,
        runs=RUNS,
        threads=request.threads,
        cache=cache,
        progress=progress,
    )


def _write(
    request: BuildRequest,
    inputs: Inputs,
    reference: Variant,
    variant: Variant,
    comparison: Comparison | None,
    seconds: dict[str, float],
) -> Bundle:
    checkpoint = inputs.checkpoint
    rows = {row.precision: row for row in comparison.rows} if comparison else {}
    conditions = comparison.conditions if comparison else {}
    manifest = Manifest(
        name=request.out.stem,
        family=checkpoint.family,
        model=checkpoint.model.config.to_dict(),
        preprocessing=checkpoint.preprocessing,
        labels=checkpoint.labels,
        precision=variant.precision,
        reasons=_reasons(variant),
        blocks=variant.blocks,
        recipe=request.recipe.to_dict(),
        target=request.target.to_dict(),
        engine=request.target.engine(),
        accuracy={**{name: asdict(row.accuracy) for name, row in rows.items()}, "conditions": conditions} if rows else None,
        latency={**{name: asdict(row.latency) for name, row in rows.items()}, "conditions": conditions} if rows else None,
        provenance=_provenance(request, inputs),
        notes=inputs.notes,
        edgevit=edgevit.__version__,
    )
    report = {**variant.report, "seconds": seconds, "notes": inputs.notes,
              "comparison": comparison.to_dict() if comparison else None}  # fmt: skip
    files = {MODEL: variant.model, REPORT: (json.dumps(report, indent=2) + "\n").encode()}
    if request.reference and variant is not reference:
        files[REFERENCE] = reference.model
    return write_bundle(request.out, manifest, files)


def _reasons(variant: Variant) -> dict[str, str]:
    """Why parts of an INT8 model are in floating point."""
    noise = "INT8 would add {:.1f} times the noise of the block's own proj (full), {:.1f} times (scores alone)"
    refused = {item["name"]: noise.format(item["noise"]["full"], item["noise"]["scores"])
               for item in variant.report.get("attention", ()) if item["products"] == "off"}  # fmt: skip
    return refused | variant.report.get("reverted", {})


def _provenance(request: BuildRequest, inputs: Inputs) -> dict[str, Any]:
    calibration = inputs.calibration
    return {
        "weights": {"file": request.model.name, "sha256": inputs.checkpoint.digest},
        # One per image, so that a later comparison can leave them out.
        "calibration_images": sorted(calibration.fingerprint(i) for i in range(len(calibration))) if calibration else [],
        "versions": {"edgevit": edgevit.__version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
