"""A checkpoint as a subject of a comparison: pruned, quantized, written and compiled on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.bundle import ENGINE
from edgevit.commands.compare_names import DEFAULT, Precision, parse_precisions
from edgevit.commands.compare_request import Request, Subject
from edgevit.engine.here import elsewhere, is_here, proxy_engine_of
from edgevit.engines import traits_of
from edgevit.errors import ConfigError, DataError, needs_extra
from edgevit.images.datalevel import check_level
from edgevit.images.dataset import ImageSet
from edgevit.images.labelmatch import open_images
from edgevit.measure.details import layers_of
from edgevit.plan.device_plan import DevicePlan, device_plan
from edgevit.target import Target
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.commands.steps import Step, Work
    from edgevit.export.variants import Variant
    from edgevit.model.checkpoint import Checkpoint
    from edgevit.preprocess import Frame

FP16 = "fp16: weights are rounded to FP16; CPU engines still compute in FP32, so it shows size and accuracy, not a GPU's speed"


@dataclass(frozen=True, kw_only=True)
class _Made:
    """One precision of a checkpoint."""

    variant: Variant
    checkpoint: Checkpoint
    """Pruned, if the precision says so."""
    plan: DevicePlan | None = None
    compiled: bytes | None = None
    notes: tuple[str, ...] = ()


def subject_of_checkpoint(path: Path, name: str, images: ImageSet, request: Request, bench: Workbench) -> Subject:
    """Every precision that ``request`` wants of the checkpoint at ``path``. Raises EdgevitError as a build does."""
    with needs_extra("build"):
        from edgevit.model.checkpoint import load_checkpoint
        from edgevit.quantize.checked import checked_graph
        from edgevit.quantize.samples import sample_frames
    target = bench.target
    wanted = request.precisions or parse_precisions(DEFAULT)
    _check(path, wanted, request.target)
    with bench.stage("import model"):
        checkpoint = load_checkpoint(path, **request.options)
    check_level(images, checkpoint.labels)
    source, said = images, list[str]()
    if request.calibration is not None:
        source, said = open_images(request.calibration, checkpoint.labels, bench.progress, option="--calibration")
    calibration, fitting = _fitted(source, wanted, request, target)
    seen = fitting or calibration
    if seen is not None and request.calibration is None and len(seen) == len(images):
        msg = f"{images.source}: calibration takes all {len(images)} images. Give more, or --calibration DIR with others."
        raise DataError(msg)
    _check_steps(checkpoint, fitting, wanted, target)
    frames = sample_frames(seen or images, checkpoint.preprocessing)
    maker = _Maker(checkpoint, calibration, fitting, frames, request, bench)
    made = {precision.name: maker.make(precision) for precision in wanted}
    notes = _notes(made)
    half = any(precision.computed == "fp16" for precision in wanted)
    if half and traits_of(proxy_engine_of(target)).forms.fp16.dtype != "fp16":
        notes.append(FP16)
    if note := elsewhere(target):
        notes.append(f"{note} without --engines, which times this machine")
    with bench.stage("sample in torch"):
        checks = {name: checked_graph(item.variant, item.checkpoint, frames, name) for name, item in made.items()}
    return Subject(
        name=name,
        models={precision: item.variant.model for precision, item in made.items()},
        contract=checkpoint.preprocessing,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
        engine=proxy_engine_of(target),
        kind="checkpoint",
        sha256=checkpoint.digest,
        calibrated=frozenset(seen.fingerprints()) if seen is not None else frozenset(),
        notes=(*checkpoint.notes, *said, *notes),
        layers={precision: layers_of(item.variant.report) for precision, item in made.items() if item.variant.report},
        plans={precision: item.plan for precision, item in made.items() if item.plan is not None},
        compiled={precision: item.compiled for precision, item in made.items() if item.compiled is not None},
        checks=checks,
        timed=is_here(target),
    )


def _check(path: Path, wanted: tuple[Precision, ...], target: Target | None) -> None:
    """Raise ConfigError for a precision that a checkpoint, or ``target``, cannot be brought to."""
    for precision in wanted:
        if precision.base == "mixed":
            msg = f"{path}: {precision.name} is what build --max-drop makes; compare its bundle."
            raise ConfigError(msg)
        if target is not None and precision.computed not in (*target.precisions, *_anywhere(target)):
            offered = ", ".join(target.precisions)
            msg = f"--precisions: target {target.name} offers {offered}, not {precision.name}. Leave it out."
            raise ConfigError(msg)


def _anywhere(target: Target) -> tuple[str, ...]:
    """CPU engines read FP16, too, though no bundle for a CPU is built in it."""
    return () if traits_of(target.engine()).ahead_of_time else ("fp16",)


def _notes(made: Mapping[str, _Made]) -> list[str]:
    """What was said of each precision, once, with the precisions that it was said of."""
    said: dict[str, list[str]] = {}
    for precision, item in made.items():
        for note in item.notes:
            said.setdefault(note, []).append(precision)
    return [f"{', '.join(precisions)}: {note}" for note, precisions in said.items()]


def _fitted(
    source: ImageSet, wanted: tuple[Precision, ...], request: Request, target: Target
) -> tuple[ImageSet | None, ImageSet | None]:
    """Images to calibrate on and, the first of these among them, to fit on; None for what is not needed.

    Without a folder of their own they leave half of the images to compare on.
    """
    from edgevit.commands.steps import steps_of

    settings = request.recipe.calibrate
    quantized = any(precision.quantized for precision in wanted)
    half = request.target is not None and any(precision.computed == "fp16" for precision in wanted)
    calibration = source.split(settings.images, settings.seed)[0] if quantized or half else None
    if not any(precision.fitted for precision in wanted):
        return calibration, None
    most = len(source) // 2 if request.calibration is None else len(source)
    asked = max(step.images for precision in wanted for step in steps_of(precision.steps, target))
    count = min(asked, most)
    return calibration, source.to_fit(count, settings.images if calibration else 0, settings.seed)


def _check_steps(checkpoint: Checkpoint, fitting: ImageSet | None, wanted: tuple[Precision, ...], target: Target) -> None:
    """Raise, before anything slow, for what cannot be done to a model of this shape."""
    from edgevit.commands.steps import steps_of

    for precision in wanted:
        for step in steps_of(precision.steps, target):
            step.check(checkpoint, fitting)


class _Maker:
    """Makes precisions of one checkpoint for one target; what several share is found in the cache."""

    def __init__(
        self, checkpoint: Checkpoint, calibration: ImageSet | None, fitting: ImageSet | None, frames: Frame, request: Request,
        bench: Workbench,
    ) -> None:  # fmt: skip
        self._checkpoint, self._calibration, self._fitting, self._frames = checkpoint, calibration, fitting, frames
        self._request, self._bench = request, bench

    def make(self, precision: Precision) -> _Made:
        """The graph of ``precision``, compiled if the target's engine compiles ahead."""
        from edgevit.commands.faster_form import fastest_form, form_note
        from edgevit.commands.steps import run_steps
        from edgevit.commands.target_graph import compile_for
        from edgevit.export.variants import half_graph

        bench, just_in_time = self._bench, not traits_of(self._bench.engine).ahead_of_time
        *smaller, quantize = self._steps(precision)
        work = run_steps(smaller, self._work(precision))
        if just_in_time and precision.computed == "fp16":
            return _Made(checkpoint=work.checkpoint, variant=half_graph(work.checkpoint), notes=work.notes)
        notes, work = work.notes, quantize.run(work)
        assert work.decided is not None  # by the last step
        if just_in_time:
            chosen = fastest_form(work.decided.variant(bench.engine), work.checkpoint, self._frames, bench)
            notes = (*notes, form_note(chosen.summary())) if chosen.form else notes
            return _Made(checkpoint=work.checkpoint, variant=chosen.variant, notes=notes)
        found = compile_for(work.decided, bench)
        plan, compiled = device_plan(found.summary()), found.files.get(ENGINE)
        notes = (*work.notes, *found.notes)
        return _Made(checkpoint=work.checkpoint, variant=found.variant, plan=plan, compiled=compiled, notes=notes)

    def _steps(self, precision: Precision) -> tuple[Step, ...]:
        from edgevit.commands.steps import Quantize, steps_of

        recipe = self._request.recipe
        if precision.base == "int8-linear":
            recipe = replace(recipe, quantize=replace(recipe.quantize, attention="off"))
        return (*steps_of(precision.steps, self._bench.target), Quantize(precision.computed, recipe))

    def _work(self, precision: Precision) -> Work:
        from edgevit.commands.steps import Work

        return Work(
            bench=self._bench, checkpoint=self._checkpoint, original=self._checkpoint, precision=precision.computed,
            calibration=self._calibration, fitting=self._fitting,
        )  # fmt: skip
