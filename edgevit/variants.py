"""From a checkpoint to its written graphs: one ONNX model per precision."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgevit.cache import Cache
from edgevit.compress.quantize import collect, quantize
from edgevit.errors import DataError
from edgevit.export.graph import write_graph
from edgevit.images import ImageSet
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.folded import LINEARS, fold
from edgevit.model.planfile import dump_plan, load_plan
from edgevit.model.quantplan import QuantPlan
from edgevit.progress import Progress
from edgevit.recipe import Recipe

BATCH = 8  # calibration images per forward pass; bounds memory, changes no result


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One precision of a model."""

    precision: str
    model: bytes
    """ONNX."""
    blocks: tuple[dict[str, str], ...]
    """Per block, what each GEMM and the attention compute in."""
    report: dict[str, Any] = field(default_factory=dict)
    """What quantization did, JSON-ready: ``layers`` GEMM by GEMM, ``attention`` block by block; empty in floating point."""


def fp32_variant(checkpoint: Checkpoint) -> Variant:
    """The folded model in FP32: the reference that every other precision is held against."""
    plan = QuantPlan(model=fold(checkpoint.model, checkpoint.preprocessing))
    return Variant(precision="fp32", model=write_graph(plan), blocks=_precisions(plan))


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """A checkpoint's INT8 plan, and what led to it."""

    plan: QuantPlan
    report: dict[str, Any]
    """As `Variant.report`."""
    key: dict[str, Any]
    """What the result depends on; see `quantize_key`."""


def int8_variant(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe, cache: Cache, progress: Progress) -> Variant:
    """The model quantized on ``images`` (all of them) by ``recipe``, from the cache if nothing changed.

    Raises DataError for an empty set or an unreadable image.
    """
    result = quantization(checkpoint, images, recipe, cache, progress)
    return int8_from(result.plan, result.report)


def int8_from(plan: QuantPlan, report: dict[str, Any]) -> Variant:
    """The graph of ``plan``; it is called ``mixed`` if something that quantization offered is in floating point again."""
    mixed = bool(report.get("reverted"))
    return Variant(precision="mixed" if mixed else "int8", model=write_graph(plan), blocks=_precisions(plan), report=report)


def quantization(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe, cache: Cache, progress: Progress) -> Quantization:
    """Calibrate and quantize, or find the result in the cache. Raises as `int8_variant`."""
    if not len(images):
        msg = "INT8 needs calibration images, and there are none. Pass --data DIR."
        raise DataError(msg)
    folded = fold(checkpoint.model, checkpoint.preprocessing)
    key = quantize_key(checkpoint, images, recipe)
    with progress.stage("quantize", total=len(images) + len(folded.blocks) * len(recipe.quantize.linears)) as stage:
        found, reports = cache.find("quantize", **key), cache.find("quantize-report", **key)
        stage.cached = found is not None and reports is not None
        if found is None or reports is None:
            batches = images.prepared(checkpoint.preprocessing, BATCH)
            calibration = collect(folded, _counted(batches, stage.advance), images=len(images), recipe=recipe)
            result = quantize(folded, calibration, recipe, lambda _name: stage.advance())
            report = {key: [asdict(item) for item in getattr(result, key)] for key in ("layers", "attention")}
            found, reports = dump_plan(result.plan), json.dumps(report).encode()
            cache.store("quantize", found, **key)
            cache.store("quantize-report", reports, **key)
    return Quantization(plan=load_plan(found, folded), report=json.loads(reports), key=key)


def quantize_key(checkpoint: Checkpoint, images: ImageSet, recipe: Recipe) -> dict[str, Any]:
    """Everything that the result of quantization depends on."""
    settings = recipe.to_dict()
    del settings["name"]
    return {
        "weights": checkpoint.digest,
        "config": checkpoint.model.config.to_dict(),
        "contract": checkpoint.preprocessing.to_dict(),
        "images": images.digest(),
        "recipe": settings,
        "code": _code_digest(),
    }


def _code_digest() -> str:
    """SHA-256 over the source that quantizes: a changed algorithm never finds old results."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*package.glob("model/*.py"), *package.glob("compress/*.py"), package / "preprocess.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _counted(batches: Any, advance: Any) -> Any:
    for batch in batches:
        yield batch
        advance(len(batch))


def _precisions(plan: QuantPlan) -> tuple[dict[str, str], ...]:
    return tuple(_block_precisions(plan, f"blocks.{i}") for i in range(len(plan.model.blocks)))


def _block_precisions(plan: QuantPlan, block: str) -> dict[str, str]:
    kinds = {kind: "int8" if f"{block}.{kind}" in plan.linears else "fp32" for kind in LINEARS}
    steps = plan.attention.get(f"{block}.attention")
    products = () if steps is None else ("scores",) if steps.value_step is None else ("scores", "values")
    return kinds | {product: "int8" if product in products else "fp32" for product in ("scores", "values")}
