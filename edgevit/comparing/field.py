"""All models of a comparison, on images that none of them was fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.advice import missing_truth
from edgevit.bundle import is_bundle
from edgevit.cache import Cache
from edgevit.comparing.of_bundle import subject_of_bundle
from edgevit.comparing.of_checkpoint import subject_of_checkpoint
from edgevit.comparing.request import Request, Subject
from edgevit.engine.profiling import layer_times
from edgevit.errors import ConfigError, DataError
from edgevit.images import ImageSet, load_images
from edgevit.progress import Progress
from edgevit.report.compare import Candidate, compare
from edgevit.report.details import Layer
from edgevit.report.html import Background
from edgevit.report.parts import PartTime, part_times
from edgevit.report.rows import Comparison

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

PROFILED = 10  # inferences of each row under its engine's profiler


@dataclass(frozen=True, kw_only=True)
class Field:
    """All subjects, and the images that none of them was fitted to."""

    subjects: tuple[Subject, ...]
    images: ImageSet
    notes: tuple[str, ...]

    def compare(self, *, engines: Sequence[str], runs: int, threads: int | None, cache: Cache, progress: Progress) -> Comparison:
        """Every precision of every subject on ``engines``, or on its own if there are none; `edgevit.report.compare.compare`.

        Nothing is timed where a subject's target is another machine, unless ``engines`` ask for it.
        """
        several, first = len(self.subjects) > 1, self.subjects[0]
        pairs = [(engine, subject) for engine in engines for subject in self.subjects]
        candidates = [
            Candidate(
                precision=precision,
                engine=engine,
                model=model,
                subject=subject.name if several else "",
                contract=subject.contract,
                device=subject.plans.get(precision),
                compiled=subject.compiled.get(precision) if engine == subject.engine else None,
            )
            for engine, subject in pairs or [(subject.engine, subject) for subject in self.subjects]
            for precision, model in subject.models.items()
        ]
        timed = bool(engines) or all(subject.timed for subject in self.subjects)
        return compare(
            candidates,
            self.images,
            first.contract,
            first.labels,
            problem_type=first.problem_type,
            runs=runs if timed else 0,
            threads=threads,
            cache=cache,
            progress=progress,
            startup=timed,
        )

    def background(self, comparison: Comparison, *, threads: int | None, progress: Progress) -> Background:
        """What an HTML report shows beside ``comparison``; profiles the layers of every row that was timed for it."""
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
                    if row.latency is not None:
                        times = layer_times(
                            row.engine.split()[0], subject.models[row.precision], frames[subject.name], threads=threads,
                            runs=PROFILED, compiled=subject.compiled.get(row.precision),
                        )  # fmt: skip
                        parts[row.name] = tuple(part_times(times))
                stage.advance()
        names = ", ".join(subject.name for subject in self.subjects)
        return Background(title=f"{names} on {self.images.source}", notes=self.notes, layers=layers, parts=parts)


def find_field(request: Request, cache: Cache, progress: Progress) -> Field:
    """Read the subjects and choose the images.

    Raises ConfigError for models that cannot be compared with one another or precisions that none has, DataError without images.
    """
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
    labels, kind = subjects[0].labels, subjects[0].problem_type
    if held_out.class_names and held_out.truth_for(labels, kind) is None:
        notes.append(f"accuracy: unknown, as {missing_truth(held_out, labels, kind)}")
    if missing:
        used_for = "calibrated or pruned on" if any(item.pruned for item in request.precisions) else "calibrated on"
        notes.append(f"{missing} images of {images.source} were {used_for} and are left out")
    if len({subject.contract for subject in subjects}) > 1:
        notes.append("the models prepare frames differently, so each is given its own input")
    return Field(subjects=subjects, images=held_out, notes=tuple(dict.fromkeys(notes)))


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
        if other.problem_type != first.problem_type:
            types = f"{other.name} is a {other.problem_type}, {first.name} a {first.problem_type}"
            msg = f"{types}. Compare models of the same task only."
            raise ConfigError(msg)


def _subject(path: Path, name: str, images: ImageSet, request: Request, cache: Cache, progress: Progress) -> Subject:
    if is_bundle(path) or path.suffix in (".edgevit", ".zip"):
        return subject_of_bundle(path, name, request, progress)
    return subject_of_checkpoint(path, name, images, request, cache, progress)
