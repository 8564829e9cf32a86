"""Quantization as the last step: what every GEMM computes in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgevit.commands.steps.base import Work
from edgevit.export.form import form_for
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.numberformat import FORMATS, FP16
from edgevit.quantize.decide import decide
from edgevit.quantize.fp16_check import simulated
from edgevit.recipe import Recipe

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage


@dataclass(frozen=True)
class Quantize:
    """See `edgevit.quantize.decide.decide`."""

    precision: str
    """fp32, fp16, or int8: as much of it as the budget allows."""
    recipe: Recipe
    leaves = None
    images = 0

    @property
    def spends(self) -> bool:
        """See `Step.spends`."""
        return FORMATS[self.precision].scaled

    def check(self, checkpoint: Checkpoint, images: ImageSet | None) -> None:
        """See `Step.check`; what cannot be quantized is found by doing it."""

    def run(self, work: Work) -> Work:
        """See `Step.run`; on ``work.calibration``."""
        decided = decide(work.checkpoint, work.calibration, self.precision, self.recipe, work.bench, work.budget)
        work = replace(work, decided=decided, notes=(*work.notes, *decided.notes))
        if "half" not in decided.report or work.calibration is None:
            return work
        found = simulated(work.checkpoint, decided.plan, work.calibration, work.bench)
        report = decided.report | {"half": decided.report["half"] | found.report}
        return replace(work, decided=replace(decided, report=report), notes=(*work.notes, found.note))

    def stages(self, work: Work, dry: DryRun, *, kept: bool) -> Iterator[PlannedStage]:
        """See `Step.stages`."""
        images = work.calibration
        if images is None:
            return
        on = f"{len(images)} images of {images.source}"
        in_fp16, scaled = form_for(work.bench.engine, self.precision).dtype == FP16.name, FORMATS[self.precision].scaled
        if scaled:
            yield dry.stage("quantize", f"recipe {self.recipe.name}, {on}{', and what FP16 has to hold' if in_fp16 else ''}")
        if in_fp16 and (not scaled or dry.seen("check fp16 range")):
            yield dry.stage("check fp16 range", on)
        if not scaled:
            return
        if work.bounded and (not kept or dry.seen("sensitivity")):
            yield dry.stage("sensitivity", "only if INT8 as a whole loses more than that: what goes back to floating point")
