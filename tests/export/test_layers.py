"""The layers that a graph shows are the plan's."""

from __future__ import annotations

import pytest

from edgevit.export.form import Form
from edgevit.export.graph import write_graph
from edgevit.export.layers import graph_layers
from edgevit.model.quantplan import QuantPlan
from edgevit.part import Part
from edgevit.recipe import LINEARS, QuantizeSettings, Recipe
from tests.zoo import ZOO, folded, int8


@pytest.mark.parametrize("kind", ["plain", "mean pooling", "pruned blocks", "wide image", "registers"])
def test_macs(kind: str) -> None:
    """Every product's, counted from the configuration; the last block carries only the head's tokens on."""
    model = folded(**ZOO[kind])
    config, found = model.config, {layer.name: layer for layer in graph_layers(write_graph(QuantPlan(model=model)))}
    for i, block in enumerate(model.blocks):
        kept = config.output_tokens if i == len(model.blocks) - 1 else config.tokens
        inner = block.proj.weight.shape[1]
        assert found[f"blocks.{i}/qkv"].macs == config.tokens * 3 * inner * config.width
        assert found[f"blocks.{i}/proj"].macs == kept * inner * config.width
        assert found[f"blocks.{i}/fc1"].macs == found[f"blocks.{i}/fc2"].macs == kept * block.fc1.weight.numel()
        assert found[f"blocks.{i}/attention/scores"].macs == kept * config.tokens * inner
        assert found[f"blocks.{i}/attention/mix"].macs == kept * config.tokens * inner
    assert found["embed"].macs == config.grid[0] * config.grid[1] * model.patch.numel()
    assert found["head"].macs == model.head.weight.numel()


def test_int8_scales_are_the_plans() -> None:
    plan = int8(folded(), Recipe(quantize=QuantizeSettings(attention="full")))
    found = {layer.name: layer for layer in graph_layers(write_graph(plan))}
    for part, linear in plan.linears.items():
        layer = found[f"blocks.{part.block}/{part.kind}"]
        assert layer.precision == "int8"
        assert layer.input_scale == pytest.approx(linear.input_scale)
        assert layer.weight_scale == pytest.approx((float(linear.weight_scale.min()), float(linear.weight_scale.max())))
        assert layer.weight_bytes == linear.weight.numel()
    scores = found["blocks.0/attention/scores"]
    assert (scores.precision, scores.weight_scale, scores.weight_bytes) == ("int8", None, 0)
    assert scores.input_scale == pytest.approx(plan.attention[Part(0, "attention")].query_step)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_floating_point(dtype: str) -> None:
    found = graph_layers(write_graph(QuantPlan(model=folded()), Form(dtype=dtype)))  # type: ignore[arg-type]
    assert {layer.precision for layer in found} == {dtype}
    assert all(layer.input_scale is None and layer.weight_scale is None for layer in found)
    assert next(layer for layer in found if layer.name == "head").weight_bytes == 5 * 32 * (4 if dtype == "fp32" else 2)


def test_mixed() -> None:
    plan = int8(folded(), Recipe(quantize=QuantizeSettings(linears=("fc1",))))
    found = {layer.name: layer.precision for layer in graph_layers(write_graph(plan))}
    assert {found[f"blocks.0/{kind}"] for kind in LINEARS if kind != "fc1"} == {"fp32"}
    assert found["blocks.0/fc1"] == "int8"
