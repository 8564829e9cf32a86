"""What the compiler makes of our graphs: the counts that forms were chosen by, and every shipped form, target and precision."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from edgevit.engine.tensorrt import BuildOptions, build_engine
from edgevit.export.form import Form, form_for
from edgevit.export.fusion import why_unfused
from edgevit.export.graph import write_graph
from edgevit.model.folded import FoldedVit
from edgevit.model.macs import macs
from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear, QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.model.rounding import quantize_weight
from edgevit.model.vit import Vit
from edgevit.numberformat import INT8
from edgevit.part import Part
from edgevit.plan.preflight import Preflight, read_plan
from edgevit.plan.roofline import best_estimates, estimates
from edgevit.preprocess import Preprocessing
from edgevit.quantize.fp16 import without_key_biases
from edgevit.quantize.quantize import Quantization, legal_for
from edgevit.recipe import LINEARS, QuantizeSettings, Recipe
from edgevit.shipped import shipped_names
from edgevit.target import load_target
from edgevit.vitconfig import BlockConfig, VitConfig
from tests.zoo import ZOO, folded, int8, int8_of

BLOCKS = 12
SMALL = (224, 224)  # 197 tokens of 16 pixels
TENSORRT = [name for name in shipped_names("targets") if load_target(name).engine().startswith("tensorrt")]


@pytest.fixture(scope="module")
def deit_s() -> FoldedVit:
    config = VitConfig(image_size=(224, 224), patch_size=16, width=384, head_dim=64, classes=1000,
                       blocks=(BlockConfig(heads=6, hidden=1536),) * BLOCKS)  # fmt: skip
    model = Vit(config).eval()
    for block in model.blocks:
        block.qkv.bias.data.normal_()
    return fold(model, Preprocessing(size=(224, 224), resize=(224, 224)))


def quantized(model: FoldedVit, *, attention: bool) -> QuantPlan:
    """All linears in INT8; kernels do not depend on the values."""
    linears = {}
    for i, block in enumerate(model.blocks):
        for kind in LINEARS:
            weight, scale = quantize_weight(getattr(block, kind).weight, INT8)
            bias = getattr(block, kind).bias + 0.1
            linears[Part(i, kind)] = QuantizedLinear(weight=weight, weight_scale=scale, input_scale=0.05, bias=bias)
    steps = QuantizedAttention(query_step=0.05, key_step=0.05, value_step=0.05, probability_step=1 / 127)
    parts = [Part(i, "attention") for i in range(len(model.blocks))]
    return QuantPlan(model=model, linears=linears, attention=dict.fromkeys(parts, steps) if attention else {})


def compiled(plan: QuantPlan, form: Form) -> Preflight:
    return read_plan(build_engine(write_graph(plan, form), BuildOptions()), blocks=len(plan.model.blocks))


@pytest.mark.parametrize(
    ("precision", "attention", "kernels", "megabytes", "int8_share"),
    [("int8", True, 112, 79.0, 0.98), ("int8", False, 112, 84.4, 0.90), ("fp16", False, 100, 94.0, 0.0)],
)
def test_deit_s(
    builder: Path, deit_s: FoldedVit, precision: str, attention: bool, kernels: int, megabytes: float, int8_share: float
) -> None:
    """197 tokens. Nothing is dequantized at run time, no Q/DQ is left over, all twelve attentions are fused."""
    plan = quantized(deit_s, attention=attention) if precision == "int8" else QuantPlan(model=bare(deit_s))
    found = compiled(plan, form_for("tensorrt", precision))
    assert len(found.plan.kernels) <= kernels
    assert found.plan.megabytes <= megabytes
    assert found.plan.int8_share >= int8_share
    assert found.plan.fused_attention == BLOCKS
    assert found.warnings == ()
    gemms = [kernel for kernel in found.plan.kernels if kernel.kind == "gemm" and kernel.block.startswith("blocks.")]
    assert {kernel.dtype for kernel in gemms} == {"int8" if precision == "int8" else "half"}
    macs = sum(kernel.macs for kernel in found.plan.kernels)
    assert macs == pytest.approx(expected_macs(), rel=0.01)


def bare(model: FoldedVit) -> FoldedVit:
    """Without key biases, as FP16 builds write it where scores stay small."""
    names = [f"blocks.{i}.attention" for i in range(len(model.blocks))]
    return without_key_biases(model, dict.fromkeys(names, 1.0) | {f"{name} without key bias": 1.0 for name in names})


def expected_macs() -> int:
    """Of DeiT-S with a last block that carries one token, counted by hand."""
    tokens, width, head = 197, 384, 1000 * 384
    full = tokens * 12 * width**2 + 2 * tokens**2 * width
    last = tokens * 3 * width**2 + width**2 + 8 * width**2 + 2 * tokens**2 * width
    return 196 * 768 * width + (BLOCKS - 1) * full + last + head


@pytest.mark.parametrize(
    ("precision", "attention"), [("int8", True), ("int8", False), ("fp16", False)], ids=["INT8", "INT8, FP16 attention", "FP16"]
)
def test_merged_deit_s(builder: Path, deit_s: FoldedVit, precision: str, attention: bool) -> None:
    """197 tokens to 152 to 104. All attentions stay fused with the sizes' bias, and bytes and arithmetic fall as tokens do.

    At most seven kernels a merge: six and a half, and the residual addition that fused with a norm before.
    """
    merges = {4: 45, 6: 48}
    blocks = tuple(replace(block, merged=merges.get(i, 0)) for i, block in enumerate(deit_s.config.blocks))
    merged = replace(deit_s, config=replace(deit_s.config, blocks=blocks))

    def plan_of(model: FoldedVit) -> QuantPlan:
        return quantized(model, attention=attention) if precision == "int8" else QuantPlan(model=bare(model))

    before, after = (compiled(plan_of(model), form_for("tensorrt", precision)) for model in (deit_s, merged))
    assert after.plan.fused_attention == BLOCKS
    assert after.warnings == ()
    assert len(after.plan.kernels) <= len(before.plan.kernels) + 14
    arithmetic = [sum(kernel.macs for kernel in found.plan.kernels) for found in (before, after)]
    assert arithmetic[1] == pytest.approx(macs(merged.config), rel=0.02)
    assert arithmetic[1] < 0.78 * arithmetic[0]
    assert after.plan.megabytes < 0.92 * before.plan.megabytes


def test_the_cpu_form_would_cost_more(builder: Path, deit_s: FoldedVit) -> None:
    """Why there are forms: with the layout that CPUs like, qkv weights are dequantized on every frame."""
    found = compiled(quantized(deit_s, attention=False), Form(dtype="fp16", attention="rank5", batch=1))
    assert any("weights are dequantized on every frame in blocks.0" in warning for warning in found.warnings)
    assert len(found.plan.kernels) > 140
    assert found.plan.megabytes > 100


def test_q_and_k_alone_are_no_form_for_tensorrt(builder: Path, deit_s: FoldedVit) -> None:
    """What `edgevit.quantize.quantize.legal_for` keeps from happening."""
    full = quantized(deit_s, attention=True)
    scores = {name: QuantizedAttention(query_step=0.05, key_step=0.05) for name in full.attention}
    found = compiled(QuantPlan(model=deit_s, linears=full.linears, attention=scores), form_for("tensorrt", "int8"))
    assert found.plan.fused_attention < BLOCKS
    assert "attention is fused in 0 of 12 blocks" in found.warnings[0]


@pytest.mark.parametrize(
    ("head_dim", "image_size"),
    [(64, (384, 384)), (64, (518, 518)), (72, SMALL), (80, SMALL), (64, (112, 1168)), (64, (256, 512)), (32, SMALL)],
    ids=["384 px", "518 px", "SigLIP", "ViT-H", "512 tokens", "513 tokens", "head size 32"],
)
def test_int8_attention_is_fused_where_it_is_said_to_be(builder: Path, head_dim: int, image_size: tuple[int, int]) -> None:
    """Both sides of every limit; what the rule leaves is fused, and is less than what it took away."""
    model = folded(image_size=image_size, patch_size=14 if image_size[0] == 518 else 16, width=2 * head_dim, head_dim=head_dim,
                   blocks=(BlockConfig(heads=2, hidden=2 * head_dim),) * 2)  # fmt: skip
    plan, config = quantized(model, attention=True), model.config
    raw = compiled(plan, form_for("tensorrt", "int8")).plan
    legal = why_unfused("tensorrt", head_dim=config.head_dim, tokens=config.tokens) is None
    assert raw.fused_attention == (2 if legal else 0)
    ruled = legal_for(Quantization(plan=plan, report={"attention": []}, key={}), "tensorrt").plan
    assert set(ruled.attention) == (set(plan.attention) if legal else set())
    if not legal:
        found = compiled(ruled, form_for("tensorrt", "int8")).plan
        assert found.fused_attention == 2
        assert len(found.kernels) < len(raw.kernels)
        assert found.megabytes < raw.megabytes


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["plain", "distilled", "registers", "mean pooling", "no norm in blocks", "embedding norm",
                                  "pruned blocks", "quick gelu", "relu", "gray", "wide image", "one block",
                                  "merging", "merging beside prefix tokens", "merging in pruned blocks", "rotary and merging",
                                  "rotary by head and merging", "features of length 1"])  # fmt: skip
def test_every_kind_of_vit_compiles(builder: Path, name: str, precision: str) -> None:
    plan = int8_of(name) if precision == "int8" else QuantPlan(model=folded(**ZOO[name]))
    found = compiled(plan, form_for("tensorrt", precision))
    assert found.plan.kernels
    assert (found.plan.int8_share > 0.5) == (precision == "int8")


def test_every_layout_compiles(builder: Path) -> None:
    """The op has kernels for real head sizes only."""
    model = folded(width=64, head_dim=32, blocks=(BlockConfig(heads=2, hidden=64),) * 2)
    plan = int8(model, Recipe(quantize=QuantizeSettings(attention="off")))
    for layout in ("rank5", "rank4", "rank3", "op"):
        assert compiled(plan, Form(dtype="fp16", attention=layout, batch=1)).plan.kernels


@cache
def _compiled_tiny(precision: str) -> Preflight:
    """Compiled once: a target counts the same kernels in its own milliseconds."""
    model = folded()
    return compiled(int8(model) if precision == "int8" else QuantPlan(model=model), form_for("tensorrt", precision))


@pytest.mark.parametrize("name", TENSORRT)
def test_every_target_compiles_and_is_estimated(builder: Path, name: str) -> None:
    target = load_target(name)
    for precision in target.precisions:
        plan = _compiled_tiny(precision).plan
        found = best_estimates(plan, map(load_target, target.boards)) if target.boards else estimates(plan, target)
        assert found
        assert all(0 < item.milliseconds < 1000 for item in found)
        assert all(item.compute_bound + item.memory_bound + item.launches == pytest.approx(1) for item in found)
