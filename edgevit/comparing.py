"""What `edgevit compare` does: find the precisions of bundles and checkpoints, and images that none was calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.bundle import MODEL, REFERENCE, REPORT, Bundle, is_bundle, open_bundle
from edgevit.cache import Cache
from edgevit.engine import runs_here
from edgevit.engine.profiling import layer_times
from edgevit.errors import ConfigError, DataError, did_you_mean, needs_extra
from edgevit.images import ImageSet, load_images
from edgevit.preprocess import Preprocessing
from edgevit.progress import Progress
from edgevit.recipe import Recipe
from edgevit.report.compare import Candidate, compare
from edgevit.report.details import Layer, layers_of
from edgevit.report.html import Background
from edgevit.report.parts import PartTime, part_times
from edgevit.report.rows import Comparison
from edgevit.target import load_target

if TYPE_CHECKING:
    from edgevit.model.checkpoint import Checkpoint
    from edgevit.precision.variants import Variant
    from edgevit.preprocess import Frame

PRECISIONS = ("fp32", "fp16", "int8-linear", "int8")
"""What a checkpoint can be compared in. A bundle holds what it was built with."""
DEFAULT_PRECISIONS = ("fp32", "int8")
PROFILED = 10  # inferences of each row under its engine's profiler


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model to compare: its graphs by precision, the reference first."""

    name: str
    models: dict[str, bytes]
    contract: Preprocessing
    labels: tuple[str, ...]
    engine: str
    calibrated: frozenset[str]
    """Fingerprints of the images it was calibrated on."""
    notes: tuple[str, ...] = ()
    layers: dict[str, tuple[Layer, ...]] = field(default_factory=dict)
    """By precision, what quantization made of each GEMM."""
    compiled: dict[str, Any] | None = None
    """What compiling for the bundle's own target showed: the plan's figures and estimates per board."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """All subjects, and the images that none of them was calibrated on."""

    subjects: tuple[Subject, ...]
    images: ImageSet
    notes: tuple[str, ...]

    def compare(self, *, engines: Sequence[str], runs: int, threads: int | None, cache: Cache, progress: Progress) -> Comparison:
        """Every precision of every subject on ``engines``, or on its own if there are none; `edgevit.report.compare.compare`."""
        several, first = len(self.subjects) > 1, self.subjects[0]
        pairs = [(engine, subject) for engine in engines for subject in self.subjects]
        candidates = [
            Candidate(
                precision=precision,
                engine=engine,
                model=model,
                subject=subject.name if several else "",
                contract=subject.contract,
            )
            for engine, subject in pairs or [(subject.engine, subject) for subject in self.subjects]
            for precision, model in subject.models.items()
        ]
        return compare(
            candidates,
            self.images,
            first.contract,
            first.labels,
            runs=runs,
            threads=threads,
            cache=cache,
            progress=progress,
            startup=True,
        )

    def background(self, comparison: Comparison, *, threads: int | None, progress: Progress) -> Background:
        """What an HTML report shows beside ``comparison``; profiles every row's layers for it."""
        layers: dict[str, tuple[Layer, ...]] = {}
        parts: dict[str, tuple[PartTime, ...]] = {}
        frames: dict[str, Frame] = {}
        with progress.stage("profile layers", total=len(comparison.rows)) as stage:
            for row in comparison.rows:
                subject = next(item for item in self.subjects if row.subject in ("", item.name))
                if subject.layers.get(row.precision):
                    layers[row.name] = subject.layers[row.precision]
                if subject.name not in frames:
                    frames[subject.name] = next(self.images.subset([0]).prepared(subject.contract))
                with suppress(ConfigError):  # an engine without a profiler: its bar is left out
                    times = layer_times(
                        row.engine.split()[0], subject.models[row.precision], frames[subject.name], threads=threads, runs=PROFILED
                    )
                    parts[row.name] = tuple(part_times(times))
                stage.advance()
        names = ", ".join(subject.name for subject in self.subjects)
        plans = {subject.name: subject.compiled for subject in self.subjects if subject.compiled}
        return Background(title=f"{names} on {self.images.source}", notes=self.notes, layers=layers, parts=parts, plans=plans)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked to be compared."""

    models: tuple[Path, ...]
    """Bundles or checkpoints; the first precision of the first is the reference."""
    data: Path
    """Images to compare on."""
    precisions: tuple[str, ...] = ()
    """Empty: all of a bundle, `DEFAULT_PRECISIONS` of a checkpoint."""
    calibration: Path | None = None
    """Images to calibrate checkpoints on; None takes some of ``data``, which are then left out."""
    limit: int = 1024
    """Images compared on at most."""
    recipe: Recipe = field(default_factory=Recipe)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of `load_checkpoint`; a bundle takes none."""


def find_field(request: Request, cache: Cache, progress: Progress) -> Field:
    """Read the subjects and choose the images.

    Raises ConfigError for models that cannot be compared with one another or precisions that none has, DataError without images.
    """
    check_precisions(request.precisions)
    images = load_images(request.data)
    names = _names(request.models)
    subjects = tuple(
        _subject(path, name, images, request, cache, progress) for path, name in zip(request.models, names, strict=True)
    )
    _check_alike(subjects)
    used = frozenset().union(*(subject.calibrated for subject in subjects))
    seed = request.recipe.calibrate.seed if not all(is_bundle(path) for path in request.models) else 0
    held_out = images.held_out(request.limit, seed, used)
    if not len(held_out):
        msg = f"{images.source}: calibration takes all {len(images)} images. Give more, or --calibration DIR with others."
        raise DataError(msg)
    missing = min(request.limit, len(images)) - len(held_out)
    notes = [text for subject in subjects for text in subject.notes]
    if missing:
        notes.append(f"{missing} images of {images.source} were calibrated on and are left out")
    if len({subject.contract for subject in subjects}) > 1:
        notes.append("the models prepare frames differently, so each is given its own input")
    return Field(subjects=subjects, images=held_out, notes=tuple(dict.fromkeys(notes)))


def check_precisions(precisions: Collection[str]) -> None:
    """Raise ConfigError for a name that nothing can have."""
    for name in precisions:
        if name not in (*PRECISIONS, "mixed"):
            msg = f"--precisions: unknown {name!r}. {did_you_mean(name, (*PRECISIONS, 'mixed'))}"
            raise ConfigError(msg)


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest of stem, file name and path that tells the models apart. Raises ConfigError for one given twice."""
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            msg = f"{paths[i]}: given twice. Name each model once."
            raise ConfigError(msg)
    forms = ([path.stem for path in resolved], [path.name for path in resolved], [str(path) for path in resolved])
    return next(names for names in forms if len(set(names)) == len(names))


def _check_alike(subjects: Sequence[Subject]) -> None:
    first = subjects[0]
    for other in subjects[1:]:
        if other.labels != first.labels:
            counts = f"{len(other.labels)} and {len(first.labels)}"
            msg = f"{other.name}: not the classes of {first.name} ({counts}). Compare models of the same task only."
            raise ConfigError(msg)


def _subject(path: Path, name: str, images: ImageSet, request: Request, cache: Cache, progress: Progress) -> Subject:
    if is_bundle(path) or path.suffix in (".edgevit", ".zip"):
        return _of_bundle(path, name, request, progress)
    return _of_checkpoint(path, name, images, request, cache, progress)


def _of_bundle(path: Path, name: str, request: Request, progress: Progress) -> Subject:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    given = ", ".join(sorted(key for key, value in request.options.items() if value))
    if given:
        msg = f"{path}: a bundle brings its own settings; {given} can only be given for a checkpoint."
        raise ConfigError(msg)
    files = {"fp32": REFERENCE, manifest.precision: MODEL}
    held = [precision for precision, file in files.items() if file in manifest.files]
    wanted = [precision for precision in request.precisions or held if precision in held]
    if not wanted:
        asked = ", ".join(request.precisions)
        msg = f"{path}: this bundle holds {', '.join(held)}, not {asked}. Give the checkpoint for other precisions."
        raise ConfigError(msg)
    with progress.stage("verify bundle"):
        models = {precision: bundle.read(files[precision]) for precision in wanted}
    notes, engine = [], manifest.engine
    if not runs_here(engine):
        engine = load_target("cpu").engine()
        notes.append(f"{manifest.engine} does not run here: compared on {engine}, whose milliseconds are not the device's")
    lacking = [precision for precision in request.precisions if precision not in held]
    if lacking:
        notes.append(f"{path} holds no {', '.join(lacking)}: left out for it")
    if "fp32" not in held and path == request.models[0]:
        notes.append(f"{path} was built with --no-reference: there is no FP32 in it to compare with")
    return Subject(
        name=name,
        models=models,
        contract=manifest.preprocessing,
        labels=manifest.labels,
        engine=engine,
        calibrated=frozenset(manifest.provenance.get("calibration_images", ())),
        notes=tuple(notes),
        layers={manifest.precision: _bundle_layers(bundle)} if manifest.precision in wanted else {},
        compiled=manifest.compiled,
    )


def _bundle_layers(bundle: Bundle) -> tuple[Layer, ...]:
    return layers_of(bundle.read(REPORT)) if REPORT in bundle.manifest.files else ()


def _of_checkpoint(path: Path, name: str, images: ImageSet, request: Request, cache: Cache, progress: Progress) -> Subject:
    with needs_extra("build"):
        from edgevit.model.checkpoint import load_checkpoint
    recipe = request.recipe
    with progress.stage("import model"):
        checkpoint = load_checkpoint(path, **request.options)
    source = images if request.calibration is None else load_images(request.calibration)
    calibration, left = source.split(recipe.calibrate.images, recipe.calibrate.seed)
    precisions = request.precisions or DEFAULT_PRECISIONS
    quantized = any(precision.startswith("int8") for precision in precisions)
    if quantized and request.calibration is None and not len(left):
        msg = f"{images.source}: calibration takes all {len(images)} images. Give more, or --calibration DIR with others."
        raise DataError(msg)
    makers = _makers(checkpoint, calibration, recipe, cache, progress)
    for precision in precisions:
        if precision not in makers:
            msg = f"{path}: a checkpoint is compared in {', '.join(makers)}; {precision} is what build --max-drop makes."
            raise ConfigError(msg)
    variants = {precision: makers[precision]() for precision in precisions}
    return Subject(
        name=name,
        models={precision: variant.model for precision, variant in variants.items()},
        contract=checkpoint.preprocessing,
        labels=checkpoint.labels,
        engine=load_target("cpu").engine(),
        calibrated=frozenset(calibration.fingerprints()) if quantized else frozenset(),
        notes=(*checkpoint.notes, *((_FP16,) if "fp16" in precisions else ())),
        layers={precision: layers_of(variant.report) for precision, variant in variants.items() if variant.report},
    )


_FP16 = "fp16: weights are rounded to FP16; CPU engines still compute in FP32, so it shows size and accuracy, not a GPU's speed"


def _makers(
    checkpoint: Checkpoint, calibration: ImageSet, recipe: Recipe, cache: Cache, progress: Progress
) -> dict[str, Callable[[], Variant]]:
    """How each of `PRECISIONS` is made of a checkpoint."""
    from edgevit.export.form import Form
    from edgevit.export.graph import write_graph
    from edgevit.model.folded import fold
    from edgevit.model.quantplan import QuantPlan
    from edgevit.precision.variants import fp32_variant, int8_variant

    def half() -> Variant:
        plain = fp32_variant(checkpoint)
        plan = QuantPlan(model=fold(checkpoint.model, checkpoint.preprocessing))
        return replace(plain, precision="fp16", model=write_graph(plan, Form(dtype="fp16")))

    linear = replace(recipe, quantize=replace(recipe.quantize, attention="off"))
    return {
        "fp32": lambda: fp32_variant(checkpoint),
        "fp16": half,
        "int8-linear": lambda: int8_variant(checkpoint, calibration, linear, cache, progress),
        "int8": lambda: int8_variant(checkpoint, calibration, recipe, cache, progress),
    }
