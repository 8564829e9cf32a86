"""The files of a build: the checkpoint read, the images chosen, the work begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.commands.build_request import BuildRequest
from edgevit.commands.calibration_notes import calibration_notes
from edgevit.commands.steps import Work
from edgevit.engine import backend
from edgevit.engine.here import elsewhere, proxy_engine_of
from edgevit.errors import ConfigError, DataError
from edgevit.files.clashes import Output, refuse_clashes
from edgevit.files.writing import require_writable
from edgevit.images.dataset import ImageSet
from edgevit.images.labelmatch import like, matched, open_images
from edgevit.images.missing_truth import missing_truth
from edgevit.measure.evaluator import Budget, Evaluator
from edgevit.model.checkpoint import Checkpoint, load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.numberformat import FORMATS
from edgevit.progress import Progress
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEARCHED = 512  # images that a search for a mixed-precision plan measures on, at most


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A request with its files read."""

    checkpoint: Checkpoint
    calibration: ImageSet | None
    held_out: ImageSet | None
    notes: tuple[str, ...]
    fitting: ImageSet | None = None
    """What closed-form fits are made on; the calibration images are among them."""
    data: ImageSet | None = None
    """All images of the request's ``data``."""

    @property
    def seen(self) -> set[str]:
        """Fingerprints of all images that the model was fitted to."""
        return {mark for images in (self.calibration, self.fitting) if images for mark in images.fingerprints()}


def read_inputs(request: BuildRequest, progress: Progress) -> Inputs:
    """Load the checkpoint and choose the images. Raises for everything that can be wrong with them."""
    if request.precision not in request.target.precisions:
        msg = f"target {request.target.name} offers {', '.join(request.target.precisions)}, not {request.precision}"
        raise ConfigError(msg)
    if any(step.images for step in request.steps) and request.data is None:
        msg = "Pruning and merging need images: pass --data DIR (a folder of images, or an .npz), a few hundred if there are."
        raise DataError(msg)
    if request.unknown and request.data is None:
        msg = "--unknown needs images of what is known: pass --data DIR (a folder of images, or an .npz), some hundred."
        raise DataError(msg)
    if FORMATS[request.precision].scaled and request.data is None:
        msg = "INT8 needs images to calibrate on: pass --data DIR (a folder of images, or an .npz), or --precision fp32."
        raise DataError(msg)
    labels = request.options.get("labels")
    texts = request.options.get("texts")
    named = (request.model, request.data, request.eval_data, labels, *(texts.files if texts else ()))
    read = [path for path in named if isinstance(path, Path)]
    refuse_clashes([Output(name="-o", path=request.out, replaced=True)], read)
    require_writable(request.out, parents=True, option="-o")
    _ = backend(proxy_engine_of(request.target)).version  # a package that is missing is missed now
    with progress.stage("import model"):
        headless = request.features and not request.unknown  # unknown is what is unlike those of the class that a head sees
        checkpoint = load_checkpoint(request.model, headless=headless, **request.options)
        if request.features:
            checkpoint = checkpoint.with_features()
    checkpoint, sets, said = _read_images(request, checkpoint, progress)
    calibration, fitting, held_out, notes = _choose_images(request, *sets)
    for step in request.steps:
        step.check(checkpoint, fitting)
    notes = said + notes
    if calibration is not None:
        notes += calibration_notes(calibration, len(checkpoint.labels))
    if held_out is not None and (note := elsewhere(request.target)):
        notes.append(note)
    labels, kind = checkpoint.labels, checkpoint.problem_type
    if held_out is not None and held_out.class_names and held_out.truth_for(labels, kind) is None:
        notes.append(f"accuracy: unknown, as {missing_truth(held_out, labels, kind)}")
    return Inputs(
        checkpoint=checkpoint, calibration=calibration, held_out=held_out, notes=(*checkpoint.notes, *notes), fitting=fitting,
        data=sets[0],
    )  # fmt: skip


def _read_images(
    request: BuildRequest, checkpoint: Checkpoint, progress: Progress
) -> tuple[Checkpoint, tuple[ImageSet | None, ImageSet | None], list[str]]:
    """All images of ``data`` and ``eval_data``, their classes matched with the checkpoint's, which may get names by it; notes."""
    labels = checkpoint.labels
    notes: list[str] = []
    data = eval_data = None
    if request.data is not None:
        data, said = open_images(request.data, labels, progress)
        notes += said
    if request.eval_data is not None:
        eval_data, said = open_images(request.eval_data, labels, progress, option="--eval-data")
        notes += said
    judged = eval_data or data
    if judged is None:
        return checkpoint, (None, None), notes
    found = matched(judged, labels, _answers(checkpoint), progress, request.class_order, problem_type=checkpoint.problem_type)
    if found.labels is not None:
        checkpoint = replace(checkpoint, labels=found.labels)
    if eval_data is None:
        return checkpoint, (found.images, None), [*found.notes, *notes]
    return checkpoint, (data and like(data, checkpoint.labels, found.images), found.images), [*found.notes, *notes]


def _answers(checkpoint: Checkpoint) -> Callable[[ImageSet], NDArray[np.float32]]:
    def answers(images: ImageSet) -> NDArray[np.float32]:
        import numpy as np
        import torch

        frames = np.concatenate(list(images.prepared(checkpoint.preprocessing)))
        with torch.inference_mode():
            logits: NDArray[np.float32] = checkpoint.model(normalise(torch.from_numpy(frames), checkpoint.preprocessing)).numpy()
        return logits

    return answers


def _choose_images(
    request: BuildRequest, data: ImageSet | None, eval_data: ImageSet | None
) -> tuple[ImageSet | None, ImageSet | None, ImageSet | None, list[str]]:
    """Images to calibrate on, to fit on, and held out; notes."""
    notes: list[str] = []
    calibration, fitting, held_out, settings = None, None, data, request.recipe.calibrate
    if held_out is not None and request.precision != "fp32":
        calibration, _ = held_out.split(settings.images, settings.seed)
        if len(calibration) < settings.images:
            notes.append(f"calibration: {request.data} has {len(calibration)} images, the recipe asks for {settings.images}")
    if (wanted := max(step.images for step in request.steps)) and data is not None:
        fitting = _images_to_fit_on(request, data, wanted)
    if eval_data is not None:
        held_out = eval_data
    if held_out is not None:
        used = {mark for images in (calibration, fitting) if images for mark in images.fingerprints()}
        held_out = held_out.held_out(request.eval_limit, request.recipe.calibrate.seed, used)
    if held_out is None or not len(held_out):
        notes.append("accuracy: not measured, no images are left for it; pass --eval-data DIR")
        return calibration, fitting, None, notes
    return calibration, fitting, held_out, notes


def _images_to_fit_on(request: BuildRequest, data: ImageSet, wanted: int) -> ImageSet:
    """As many as are wanted; where nothing else is there to measure on, half of the images at most."""
    alone = request.eval_data is None or request.max_drop is not None
    count = min(wanted, len(data) // 2 if alone else len(data))
    return data.to_fit(count, request.recipe.calibrate.images, request.recipe.calibrate.seed)


def spare_images(request: BuildRequest, inputs: Inputs) -> tuple[Inputs, ImageSet]:
    """Images for the search of a mixed-precision plan, and ``inputs`` without them: what chose a plan must not judge it.

    What ``data`` has left beside separate ``eval_data``, else half of the held-out images. Raises DataError if there are none.
    """
    held_out, spare = inputs.held_out, None
    if request.eval_data is not None and inputs.data is not None:
        seen = inputs.seen | (held_out.fingerprints() if held_out else set())
        spare = inputs.data.held_out(SEARCHED, request.recipe.calibrate.seed, seen)
    if (spare is None or len(spare) < len(held_out or ()) // 2) and held_out is not None:
        half = min(SEARCHED, len(held_out) // 2)
        spare, held_out = held_out.divide(half, request.recipe.calibrate.seed)
    if spare is None or not len(spare):
        msg = "--max-drop needs images beside those of calibration, and none are left. Pass --eval-data DIR, or more --data."
        raise DataError(msg)
    return replace(inputs, held_out=held_out), spare


def begin(request: BuildRequest, inputs: Inputs, bench: Workbench) -> tuple[Inputs, Work]:
    """What the request's steps are run on, and ``inputs`` without the images that its budget, if there is one, is judged on."""
    inputs, spare = spare_images(request, inputs) if request.max_drop is not None else (inputs, None)
    budget = None
    if spare is not None and request.max_drop is not None:
        budget = Budget(evaluator=Evaluator(inputs.checkpoint, spare, bench), max_drop=request.max_drop)
    return inputs, work_on(request, inputs, bench, budget)


def work_on(request: BuildRequest, inputs: Inputs, bench: Workbench, budget: Budget | None) -> Work:
    """Work that nothing was done to yet."""
    return Work(
        bench=bench, checkpoint=inputs.checkpoint, original=inputs.checkpoint, precision=request.precision,
        calibration=inputs.calibration, fitting=inputs.fitting, bounded=request.max_drop is not None, budget=budget,
    )  # fmt: skip
