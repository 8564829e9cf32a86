"""A model's written graphs, one ONNX model per precision."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edgevit.export.form import Form, form_for
from edgevit.export.graph import write_graph
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.folded import FoldedVit
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.numberformat import FP16, FP32, MIXED
from edgevit.onnxfile import with_bf16
from edgevit.part import Part


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
    plan: QuantPlan | None = field(default=None, repr=False, compare=False)
    """What the graph was written from."""
    half: bool = False
    """Whether what ``plan`` leaves in floating point is FP16."""


def fp32_variant(checkpoint: Checkpoint, engine: str = "") -> Variant:
    """The folded model in FP32, for the CPU by default: the reference that every other precision is held against."""
    return float_variant(fold(checkpoint.model, checkpoint.preprocessing), FP32.name, engine)


def float_variant(model: FoldedVit, precision: str, engine: str) -> Variant:
    """``model`` in ``precision``, fp32 or fp16, in the form that ``engine`` runs fastest."""
    plan, form = QuantPlan(model=model), form_for(engine, precision)
    return _variant(precision, plan, form)


def half_graph(checkpoint: Checkpoint) -> Variant:
    """The folded model with weights rounded to FP16, in the form of the CPU: what FP16 costs in accuracy, roughly."""
    plan, form = QuantPlan(model=fold(checkpoint.model, checkpoint.preprocessing)), Form(dtype="fp16")
    return _variant(FP16.name, plan, form)


def _variant(precision: str, plan: QuantPlan, form: Form) -> Variant:
    blocks = tuple(_block_precisions(plan, i, form.dtype) for i in range(len(plan.model.blocks)))
    return Variant(precision=precision, model=write_graph(plan, form), blocks=blocks, plan=plan, half=form.dtype == FP16.name)


def int8_from(plan: QuantPlan, report: dict[str, Any], engine: str = "") -> Variant:
    """The graph of ``plan`` for ``engine``; ``mixed`` if something that quantization offered is in floating point again."""
    precision = MIXED if report.get("reverted") else plan.format.name
    return replace(_variant(precision, plan, form_for(engine, precision)), report=report)


def padded(variant: Variant, engine: str) -> Variant:
    """``variant`` with one more token, masked in every attention: the same logits."""
    assert variant.plan is not None  # it was written here
    return replace(variant, model=write_graph(variant.plan, replace(form_for(engine, variant.precision), padded=True)))


def in_bf16(variant: Variant) -> Variant:
    """``variant`` whose floating point an engine may compute in bfloat16."""
    blocks = tuple({part: "bf16" if kind == FP32.name else kind for part, kind in block.items()} for block in variant.blocks)
    return replace(variant, model=with_bf16(variant.model), blocks=blocks)


def _block_precisions(plan: QuantPlan, index: int, otherwise: str) -> dict[str, str]:
    block = plan.model.blocks[index]
    to = plan.format.name
    kinds = {kind: to if Part(index, kind) in plan.linears else otherwise for kind in block.linears}
    if not block.heads:
        return kinds
    steps = plan.attention.get(Part(index, "attention"))
    products = () if steps is None else ("scores",) if steps.value_step is None else ("scores", "values")
    return kinds | {product: to if product in products else otherwise for product in ("scores", "values")}
