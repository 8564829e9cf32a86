"""What every GEMM of a model computes in: floating point, INT8, or as much INT8 as a budget allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgevit.errors import ConfigError
from edgevit.export.form import form_for
from edgevit.export.variants import Variant, float_variant, int8_from
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.numberformat import FORMATS, FP16
from edgevit.part import Part
from edgevit.quantize.accuracy_control import within_budget
from edgevit.quantize.fp16_check import half_model
from edgevit.quantize.quantize import legal_for, quantization, with_float_attention
from edgevit.quantize.sensitivity import revert
from edgevit.recipe import Recipe
from edgevit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class PrecisionDecision:
    """What every GEMM computes in."""

    precision: str
    """fp32, fp16, or int8 (as far as ``plan`` says)."""
    plan: QuantPlan
    report: dict[str, Any]
    """As `Variant.report`."""
    notes: tuple[str, ...] = ()
    """What FP16 could not hold as it was."""

    def variant(self, engine: str) -> Variant:
        """The graph for ``engine``. Raises ConfigError for a weight that FP16 cannot hold."""
        try:
            if FORMATS[self.precision].scaled:
                return int8_from(self.plan, self.report, engine)
            return replace(float_variant(self.plan.model, self.precision, engine), report=self.report)
        except OverflowError as error:
            msg = f"FP16 cannot hold this model: {error}. Build with --precision fp32."
            raise ConfigError(msg) from error

    def without(self, parts: list[Part], reason: str) -> PrecisionDecision:
        """The same with ``parts`` in floating point."""
        reverted = self.report.get("reverted", {}) | dict.fromkeys(map(str, parts), reason)
        return replace(self, plan=revert(self.plan, parts), report=self.report | {"reverted": reverted})

    def with_float_attention(self, reasons: Mapping[Part, str]) -> PrecisionDecision:
        """The same with attention in floating point where ``reasons`` say why."""
        plan, report = with_float_attention(self.plan, self.report, reasons)
        return replace(self, plan=plan, report=report)


def decide(
    checkpoint: Checkpoint, calibration: ImageSet | None, precision: str, recipe: Recipe, bench: Workbench,
    budget: Budget | None = None,
) -> PrecisionDecision:  # fmt: skip
    """What every GEMM of ``checkpoint`` computes in on the target's engine: ``precision`` is fp32, fp16 or int8.

    With a ``budget`` parts of INT8 go back to floating point until it holds. Raises ConfigError for a model that FP16 cannot
    hold, BudgetError for a budget that cannot be met, DataError for an unreadable image.
    """
    engine, to = bench.engine, FORMATS[precision]
    in_fp16 = form_for(engine, precision).dtype == FP16.name
    result, half = None, None
    if to.scaled and calibration is not None:
        result = quantization(checkpoint, calibration, recipe, bench, to=to, peaks=in_fp16)
    if in_fp16 and calibration is not None:
        half = half_model(checkpoint, calibration, precision, bench, result.peaks if result else None)
    notes = half.notes if half else ("fp16: the range is not checked without images; pass --data DIR",) if in_fp16 else ()
    report: dict[str, Any] = {"half": {"peaks": half.peaks}} if half else {}
    if result is None or calibration is None:
        model = half.model if half else fold(checkpoint.model, checkpoint.preprocessing)
        return PrecisionDecision(precision=precision, plan=QuantPlan(model=model), report=report, notes=notes)
    if half and half.changed:  # rare; a model that FP16 holds as it is shares its quantization with other targets
        result = quantization(checkpoint, calibration, recipe, bench, half.model, to)
    result = legal_for(result, engine)
    if budget is not None:
        result = within_budget(checkpoint, result, budget, bench)
    return PrecisionDecision(precision=precision, plan=result.plan, report=result.report | report, notes=notes)
