"""All models of a comparison, on images that none of them was fitted to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.bundle import is_bundle
from edgevit.commands.compare_bundle import subject_of_bundle
from edgevit.commands.compare_checkpoint import subject_of_checkpoint
from edgevit.commands.compare_request import Request, Subject
from edgevit.engine import alternatives, open_session
from edgevit.engine.check import Verdict
from edgevit.engine.profiling import layer_times
from edgevit.engine.trusted import trusted_engine
from edgevit.errors import ConfigError, DataError, EngineError
from edgevit.images.classes import are_generic
from edgevit.images.datalevel import check_level
from edgevit.images.dataset import ImageSet
from edgevit.images.labelmatch import matched, open_images
from edgevit.images.missing_truth import missing_truth
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison
from edgevit.measure.details import Layer
from edgevit.measure.parts import PartTime, part_times
from edgevit.report.html import Background
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.measure.accuracy import Logits
    from edgevit.preprocess import Frame

PROFILED = 10  # inferences of each row under its engine's profiler


@dataclass(frozen=True, kw_only=True)
class CompareField:
    """All subjects, and the images that none of them was fitted to."""

    subjects: tuple[Subject, ...]
    images: ImageSet
    notes: tuple[str, ...]
    load: float
    """Of the machine before any of this began."""

    def checked(self, *, engines: Sequence[str], bench: Workbench) -> CheckedField:
        """Every subject on ``engines``, or on its own if there are none, after each graph was held against torch.

        A subject whose own engine is wrong is compared on the next one; one of ``engines`` that is wrong is left out for it, and
        the notes say so. Raises EngineError where no engine is left.
        """
        pairs = [(engine, subject) for engine in engines for subject in self.subjects]
        lanes, notes, failed, verdicts = list[Lane](), list(self.notes), list[EngineError](), list[Verdict]()
        with bench.stage("check engines", total=len(pairs or self.subjects)) as stage:
            for engine, subject in pairs or [(subject.engine, subject) for subject in self.subjects]:
                ready = subject.compiled if engine == subject.engine else {}
                graphs = [replace(graph, compiled=ready.get(precision)) for precision, graph in subject.checks.items()]
                try:
                    trusted = trusted_engine([engine] if engines else alternatives(engine), graphs, threads=bench.threads)
                except EngineError as error:
                    failed.append(error)
                    notes.append(f"{subject.name} on {engine} is left out: {error}")
                else:
                    notes += trusted.notes
                    verdicts += trusted.verdicts
                    made = ready | {
                        verdict.precision: verdict.compiled for verdict in trusted.verdicts if verdict.compiled is not None
                    }
                    lanes.append(Lane(subject=subject, engine=trusted.engine, compiled=made))
                stage.advance()
        # The first row is what all others are held against.
        if failed and (not lanes or lanes[0].subject is not self.subjects[0]):
            raise failed[0]
        return CheckedField(
            subjects=self.subjects, images=self.images, notes=tuple(dict.fromkeys(notes)), lanes=tuple(lanes),
            asked=bool(engines), verdicts=tuple(verdicts), load=self.load,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Lane:
    """One subject on one engine that computes it rightly."""

    subject: Subject
    engine: str
    compiled: dict[str, bytes]
    """By precision, what the engine made of the graph."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedField(CompareField):
    """A field whose engines were held against torch."""

    lanes: tuple[Lane, ...]
    asked: bool
    """Whether the engines were asked for by name."""
    verdicts: tuple[Verdict, ...]
    """Every graph on the engine that its figures are from."""

    def compare(
        self, *, runs: int, bench: Workbench, command: str = "", startup: bool = True, by_subject: bool = False
    ) -> Comparison:  # fmt: skip
        """Every precision in every lane; `edgevit.measure.compare.compare`.

        Nothing is timed where a subject's target is another machine, unless its engine was asked for; ``startup=False`` leaves
        out how long each takes to start; ``by_subject`` calls rows by their subjects, of which each has one precision.
        """
        several, first = len(self.subjects) > 1, self.subjects[0]
        candidates = [
            Candidate(
                precision=lane.subject.name if by_subject else precision,
                engine=lane.engine,
                model=model,
                subject=lane.subject.name if several and not by_subject else "",
                contract=lane.subject.contract,
                device=lane.subject.plans.get(precision),
                compiled=lane.compiled.get(precision),
                earlier=lane.subject.earlier.get(precision),
            )
            for lane in self.lanes
            for precision, model in lane.subject.models.items()
        ]
        timed = self.asked or all(subject.timed for subject in self.subjects)
        found = compare(
            candidates,
            self.images,
            first.contract,
            first.labels,
            problem_type=first.problem_type,
            runs=runs if timed else 0,
            bench=bench,
            startup=timed and startup,
            command=command,
            load=self.load,
        )
        models = [{"kind": each.kind, "name": each.name, "sha256": each.sha256} for each in self.subjects]
        return replace(found, conditions=found.conditions | {"models": models})

    def background(self, comparison: Comparison, bench: Workbench) -> Background:
        """What an HTML report shows beside ``comparison``; profiles the layers of every row that was timed for it."""
        layers: dict[str, tuple[Layer, ...]] = {}
        parts: dict[str, tuple[PartTime, ...]] = {}
        frames: dict[str, Frame] = {}
        with bench.stage("profile layers", total=len(comparison.rows)) as stage:
            for row in comparison.rows:
                subject = next(item for item in self.subjects if row.subject in ("", item.name))
                if subject.layers.get(row.precision):
                    layers[row.name] = subject.layers[row.precision]
                if subject.name not in frames:
                    frames[subject.name] = next(self.images.subset([0]).prepared(subject.contract))
                with suppress(ConfigError):  # an engine without a profiler: its bar is left out
                    if row.latency is not None:
                        times = layer_times(
                            row.engine.split()[0], subject.models[row.precision], frames[subject.name], threads=bench.threads,
                            runs=PROFILED, compiled=subject.compiled.get(row.precision),
                        )  # fmt: skip
                        parts[row.name] = tuple(part_times(times))
                stage.advance()
        names = ", ".join(subject.name for subject in self.subjects)
        return Background(title=f"{names} on {self.images.source}", notes=self.notes, layers=layers, parts=parts)


def find_field(request: Request, bench: Workbench) -> CompareField:
    """Read the subjects and choose the images.

    Raises ConfigError for models that cannot be compared with one another or precisions that none has, DataError without images.
    """
    load = machine.load()
    images, said = open_images(request.data, (), bench.progress)
    names = _names(request.models)
    subjects = tuple(_subject(path, name, images, request, bench) for path, name in zip(request.models, names, strict=True))
    _check_alike(subjects)
    first = subjects[0]
    said += check_level(images, first.labels)
    answers = _answers(first, bench.threads)
    found = matched(images, first.labels, answers, bench.progress, request.class_order, problem_type=first.problem_type)
    images, notes = found.images, [*found.notes, *said]
    used = frozenset().union(*(subject.calibrated for subject in subjects))
    seed = request.recipe.calibrate.seed if not all(is_bundle(path) for path in request.models) else 0
    held_out = images.held_out(request.limit, seed, used)
    if not len(held_out):
        msg = f"{images.source}: calibration takes all {len(images)} images. Give more, or --calibration DIR with others."
        raise DataError(msg)
    missing = min(request.limit, len(images)) - len(held_out)
    notes += [text for subject in subjects for text in subject.notes]
    if held_out.class_names and held_out.truth_for(first.labels, first.problem_type) is None:
        notes.append(f"accuracy: unknown, as {missing_truth(held_out, first.labels, first.problem_type)}")
    if missing:
        used_for = "calibrated or fitted on" if any(item.fitted for item in request.precisions) else "calibrated on"
        notes.append(f"{missing} images of {images.source} were {used_for} and are left out")
    if len({subject.contract for subject in subjects}) > 1:
        notes.append("the models prepare frames differently, so each is given its own input")
    return CompareField(subjects=subjects, images=held_out, notes=tuple(dict.fromkeys(notes)), load=load)


def _answers(subject: Subject, threads: int | None) -> Callable[[ImageSet], Logits]:
    """Logits of the subject's reference on its engine, which is opened when it is first asked."""

    def answers(images: ImageSet) -> Logits:
        model = next(iter(subject.models.values()))
        with closing(open_session(subject.engine, model, threads=threads)) as session:
            return np.concatenate([session.infer(frame) for frame in images.prepared(subject.contract)])

    return answers


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest of stem, file name and path that tells the models apart. Raises ConfigError for one given twice."""
    resolved = [Path(os.path.realpath(path)) for path in paths]  # Path.resolve fails on links that lead in a circle
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            msg = f"{paths[i]}: given twice. Name each model once."
            raise ConfigError(msg)
    forms = ([path.stem for path in resolved], [path.name for path in resolved], [str(path) for path in resolved])
    return next(names for names in forms if len(set(names)) == len(names))


def _check_alike(subjects: Sequence[Subject]) -> None:
    first = subjects[0]
    for other in subjects[1:]:
        nameless = are_generic(other.labels) or are_generic(first.labels)  # the same model may have got its names in a build
        if other.labels != first.labels and not (nameless and len(other.labels) == len(first.labels)):
            counts = f"{len(other.labels)} and {len(first.labels)}"
            msg = f"{other.name}: not the classes of {first.name} ({counts}). Compare models of the same task only."
            raise ConfigError(msg)
        if other.problem_type != first.problem_type:
            types = f"{other.name} is a {other.problem_type}, {first.name} a {first.problem_type}"
            msg = f"{types}. Compare models of the same task only."
            raise ConfigError(msg)


def _subject(path: Path, name: str, images: ImageSet, request: Request, bench: Workbench) -> Subject:
    if is_bundle(path) or path.suffix in (".edgevit", ".zip"):
        return subject_of_bundle(path, name, request, bench.progress)
    return subject_of_checkpoint(path, name, images, request, bench)
