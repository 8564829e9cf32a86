"""What the images of a build look like to the model that it built, in its precision: by that a device tells what is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.commands.build_inputs import Inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.engine import builder, open_session
from edgevit.engine.here import proxy_engine
from edgevit.errors import DataError
from edgevit.images.dataset import ImageSet
from edgevit.known.fit import Seen, fit_known, require_enough
from edgevit.known.known import Known
from edgevit.measure.evaluate import SEEN, engine_identity, evaluate
from edgevit.problem import SINGLE_LABEL
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.engine.base import Session

MOST = 512
"""Images fitted to, and judged by."""
STAGE = "fit known images"


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownImages:
    """What was fitted, and to how many images."""

    known: Known
    images: int

    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        return {"images": self.images, "judged": len(self.known.distances), "by_class": self.known.by_class}


def images_known(request: BuildRequest, inputs: Inputs) -> tuple[ImageSet, ImageSet | None]:
    """Those to fit to, and those that tell how far away is rare: of ``eval_data``, None without."""
    assert inputs.data is not None
    settings = request.recipe.calibrate
    fitted = inputs.data.to_fit(MOST, settings.images, settings.seed)
    if request.eval_data is None or inputs.held_out is None:
        return fitted, None
    return fitted, inputs.held_out.subset(range(min(MOST, len(inputs.held_out))))


def known_to(model: bytes, compiled: bytes | None, request: BuildRequest, inputs: Inputs, bench: Workbench) -> KnownImages:
    """What the images look like to the graph ``model``, or what was ``compiled`` of it, on the engine that measures its accuracy.

    Raises DataError if they are too few, or all the same.
    """
    checkpoint, engine = inputs.checkpoint, proxy_engine(bench)
    fitted, judged = images_known(request, inputs)

    def opened() -> Session:
        return open_session(engine, model, threads=bench.threads) if compiled is None else builder(engine).load(compiled)

    with bench.stage(STAGE, total=len(fitted) + len(judged or ())) as stage:
        identity = engine_identity(engine, bench.threads)

        def seen(images: ImageSet) -> Seen:
            rows = evaluate(
                opened, model, images, checkpoint.preprocessing, engine=identity, cache=bench.cache, stage=stage, kind=SEEN
            )
            return Seen(features=rows[:, 1:], classes=rows[:, 0].astype(np.int64))

        single, by = checkpoint.problem_type == SINGLE_LABEL, None if judged is None else seen(judged)
        try:
            known = fit_known(seen(fitted), len(checkpoint.labels), by, single_label=single)
        except ValueError as error:
            raise _refused(request, error) from error
    return KnownImages(known=known, images=len(fitted))


def check_images_known(request: BuildRequest, inputs: Inputs) -> None:
    """Raise DataError, before anything slow is done, if unknown objects are to be told and the images are too few for it."""
    if not request.unknown:
        return
    try:
        require_enough(len(images_known(request, inputs)[0]))
    except ValueError as error:
        raise _refused(request, error) from error


def _refused(request: BuildRequest, error: ValueError) -> DataError:
    msg = f"--unknown: {request.data}: {error}. Give more images with --data, or leave it out."
    return DataError(msg)
