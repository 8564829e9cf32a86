"""From a checkpoint to its INT8 plan, calibrated or found in the cache, and to the graph of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgevit.cache import Kind
from edgevit.errors import DataError
from edgevit.export.form import form_for
from edgevit.export.fusion import why_unfused
from edgevit.export.variants import Variant, int8_from
from edgevit.images.dataset import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.devices import compute_device
from edgevit.model.digest import model_digest
from edgevit.model.folded import FoldedVit
from edgevit.model.planfile import dump_plan, load_plan
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.numberformat import INT8, NumberFormat
from edgevit.part import Part, named
from edgevit.quantize.fp16 import PeakMeter, with_half_scales
from edgevit.quantize.linears import quantize
from edgevit.quantize.streaming import Streamed
from edgevit.recipe import Recipe
from edgevit.workbench import Workbench

PLAN, PLAN_REPORT = Kind("quantize", __name__), Kind("quantize-report", __name__)
BATCH = 8  # calibration images per forward pass; bounds memory, changes no result


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """A checkpoint's INT8 plan, and what led to it."""

    plan: QuantPlan
    report: dict[str, Any]
    """As `Variant.report`."""
    key: dict[str, Any]
    """What the result depends on; see `quantize_key`."""
    peaks: dict[str, float] | None = None
    """As `edgevit.quantize.fp16.PeakMeter` has them, where they were asked for and the images passed; None if it was kept."""


def int8_variant(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe, bench: Workbench) -> Variant:
    """The model quantized on ``images`` (all of them) by ``recipe``, from the cache if nothing changed.

    Raises DataError for an empty set or an unreadable image.
    """
    result = quantization(checkpoint, images, recipe, bench)
    return int8_from(result.plan, result.report)


def legal_for(result: Quantization, engine: str) -> Quantization:
    """``result`` as ``engine`` can run it at full speed.

    Scales are of the activations' dtype, FP16 where the graph beside INT8 is. TensorRT fuses attention that is INT8 in both
    products or in none (with q k^T alone it falls apart into three times the kernels), and INT8 only in some sizes
    (`edgevit.export.fusion`).
    """
    half, config = form_for(engine, "int8").dtype == "fp16", result.plan.model.config
    whys = {
        part: why_unfused(engine, head_dim=config.head_dim, tokens=config.tokens_into(part.block), products=steps.products)
        for part, steps in result.plan.attention.items()
    }
    reasons = {part: why for part, why in whys.items() if why}
    if not half and not reasons:
        return result
    plan = with_half_scales(result.plan) if half else result.plan
    plan, report = with_float_attention(plan, result.report, reasons)
    key = result.key | {"engine": engine, "float attention": [str(part) for part in sorted(reasons)]}
    return Quantization(plan=plan, report=report, key=key)


def with_float_attention(
    plan: QuantPlan, report: dict[str, Any], reasons: Mapping[Part, str]
) -> tuple[QuantPlan, dict[str, Any]]:  # fmt: skip
    """Both with attention in floating point where ``reasons`` say why."""
    kept = {part: steps for part, steps in plan.attention.items() if part not in reasons}
    texts = {str(part): reason for part, reason in reasons.items()}
    attention = [
        item | {"products": "off", "reason": texts[item["name"]]} if item["name"] in texts else item
        for item in report.get("attention", ())
    ]
    return replace(plan, attention=kept), report | {"attention": attention}


def quantization(
    checkpoint: Checkpoint, images: ImageSet, recipe: Recipe, bench: Workbench, model: FoldedVit | None = None,
    to: NumberFormat = INT8, *, peaks: bool = False,
) -> Quantization:  # fmt: skip
    """Calibrate and quantize to ``to``, or find the result in the cache. Raises as `int8_variant`.

    ``model`` is the folded checkpoint, if it is not what `fold` gives; see `half_model`. ``peaks`` are found on the way if they
    are wanted.
    """
    if not len(images):
        msg = "INT8 needs calibration images, and there are none. Pass --data DIR."
        raise DataError(msg)
    folded = model or fold(checkpoint.model, checkpoint.preprocessing)
    key = quantize_key(checkpoint, images, recipe) | {"format": to.name}
    if model is not None:
        key["epsilons"] = [block.norm1.eps if block.norm1 else None for block in model.blocks]  # a divided stream shows there
    with bench.stage("quantize", total=len(folded.blocks) * (len(images) + len(recipe.quantize.linears))) as stage:
        cache = bench.cache
        found, reports = cache.find(PLAN, **key), cache.find(PLAN_REPORT, **key)
        stage.cached = found is not None and reports is not None
        if found is None or reports is None:
            batches = images.prepared(checkpoint.preprocessing, BATCH)
            meter, device = PeakMeter(folded) if peaks else None, compute_device(bench.device)
            with Streamed(
                folded, batches, images=len(images), recipe=recipe, advance=stage.advance, meter=meter, device=device
            ) as calibration:
                result = quantize(folded, calibration, recipe, lambda _part: stage.advance(), to, device)
            report = {key: [named(item) for item in getattr(result, key)] for key in ("layers", "attention")}
            reports = json.dumps(report).encode()
            cache.store(PLAN, dump_plan(result.plan), **key)
            cache.store(PLAN_REPORT, reports, **key)
            return Quantization(plan=result.plan, report=json.loads(reports), key=key, peaks=meter.found if meter else None)
    return Quantization(plan=load_plan(found, folded), report=json.loads(reports), key=key)


def quantize_key(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe) -> dict[str, Any]:
    """Everything that the result of quantization depends on, beside its code."""
    settings = recipe.to_dict()
    del settings["name"]
    return {
        "model": model_digest(checkpoint.model),
        "contract": checkpoint.preprocessing.to_dict(),
        "images": images.digest(),
        "recipe": settings,
    }


def counted(batches: Any, advance: Any) -> Any:
    """``batches``, each told to ``advance`` when it is done with."""
    for batch in batches:
        yield batch
        advance(len(batch))
