"""What the images of a build look like to the model that it built, in its precision: by that a device tells what is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.commands.build_inputs import Inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.engine import builder, open_session
from edgevit.engine.builder import BuildOptions
from edgevit.engine.here import proxy_engine
from edgevit.engines import traits_of
from edgevit.errors import DataError
from edgevit.images.dataset import ImageSet
from edgevit.known.fit import Seen, fit_known
from edgevit.known.known import Known
from edgevit.measure.evaluate import SEEN, engine_identity, evaluate
from edgevit.problem import SINGLE_LABEL
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.engine.base import Session

MOST = 512
"""Images fitted to, and judged by."""
STAGE = "fit known images"


def images_known(request: BuildRequest, inputs: Inputs) -> tuple[ImageSet, ImageSet | None]:
    """Those to fit to, and those that tell how far away is rare: of ``eval_data``, None without."""
    assert inputs.data is not None
    settings = request.recipe.calibrate
    fitted = inputs.data.to_fit(MOST, settings.images, settings.seed)
    if request.eval_data is None or inputs.held_out is None:
        return fitted, None
    return fitted, inputs.held_out.subset(range(min(MOST, len(inputs.held_out))))


def known_to(model: bytes, engine_file: bytes | None, request: BuildRequest, inputs: Inputs, bench: Workbench) -> Known:
    """What the images look like to the graph ``model``, of which ``engine_file`` was compiled, on what measures its accuracy.

    Raises DataError if they are too few, or all the same.
    """
    checkpoint, engine = inputs.checkpoint, proxy_engine(bench)
    fitted, judged = images_known(request, inputs)

    def opened() -> Session:
        if traits_of(engine).ahead_of_time:
            return builder(engine).load(engine_file or builder(engine).build(model, BuildOptions()).engine)
        return open_session(engine, model, threads=bench.threads)

    with bench.stage(STAGE, total=len(fitted) + len(judged or ())) as stage:
        identity = engine_identity(engine, bench.threads)

        def seen(images: ImageSet) -> Seen:
            rows = evaluate(
                opened, model, images, checkpoint.preprocessing, engine=identity, cache=bench.cache, stage=stage, kind=SEEN
            )
            return Seen(features=rows[:, 1:], classes=rows[:, 0].astype(np.int64))

        single, by = checkpoint.problem_type == SINGLE_LABEL, None if judged is None else seen(judged)
        try:
            return fit_known(seen(fitted), len(checkpoint.labels), by, single_label=single)
        except ValueError as error:
            msg = f"--unknown: {request.data}: {error}. Give more images with --data, or leave it out."
            raise DataError(msg) from error
