"""What the real builder makes of graphs that were rewritten on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgevit.engine.rewrite import float_attention, float_block, in_fp32
from edgevit.engine.tensorrt import BuildOptions, build_engine
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model.vit import BlockConfig
from edgevit.plan.preflight import Preflight, read_plan
from edgevit.recipe import QuantizeSettings, Recipe
from tests.zoo import folded, int8

BLOCKS = 2


def compiled(graph: bytes) -> Preflight:
    return read_plan(build_engine(graph, BuildOptions()), blocks=BLOCKS)


def test_rewritten_graphs_compile(builder: Path) -> None:
    """Without INT8 attention to what is built without it; a block in floating point multiplies in FP16; FP32 where it is said."""
    model = folded(width=64, head_dim=32, blocks=(BlockConfig(heads=2, hidden=256),) * BLOCKS)
    full = int8(model, Recipe(quantize=QuantizeSettings(attention="full")))
    graph, form = write_graph(full, form_for("tensorrt", "int8")), form_for("tensorrt", "int8")
    ours, theirs = compiled(float_attention(graph)).plan, compiled(write_graph(replace(full, attention={}), form)).plan
    assert (ours.fused_attention, len(ours.kernels), ours.megabytes) == (BLOCKS, len(theirs.kernels), theirs.megabytes)
    types = {
        block: {kernel.dtype for kernel in kernels if kernel.kind == "gemm"}
        for block, kernels in compiled(float_block(graph, "blocks.0")).plan.by_block().items()
    }
    assert "int8" not in types["blocks.0"]
    assert types["blocks.1"] == {"int8"}
    for op in ("Softmax", "LayerNormalization"):
        assert compiled(in_fp32(graph, op)).plan.kernels
