"""INT8 attention is left to TensorRT only in the sizes that it fuses, and what is taken away is told with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from edgevit.engines import ENGINES
from edgevit.export.fusion import why_unfused
from edgevit.export.graph import write_graph
from edgevit.export.variants import int8_from
from edgevit.model.vit import BlockConfig
from edgevit.part import Part, named
from edgevit.quantize.attention import AttentionReport
from edgevit.quantize.quantize import Quantization, legal_for
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.shipped import shipped_names
from edgevit.target import load_target
from tests.zoo import folded, int8


def quantized(products: str = "full", **changes: Any) -> Quantization:
    model = folded(width=32, blocks=(BlockConfig(heads=2, hidden=32),) * 2, **changes)
    plan = int8(model, Recipe(quantize=QuantizeSettings(attention=products)))
    reports = [named(AttentionReport(part=part, products=products, noise={})) for part in plan.attention]
    return Quantization(plan=plan, report={"attention": reports, "layers": []}, key={})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head_dim": 16}, None),
        ({"head_dim": 72}, "TensorRT fuses INT8 attention of head sizes 16, 32, 64 only, and this one is 72"),
        ({"head_dim": 16, "image_size": (92, 92)}, "TensorRT fuses INT8 attention of at most 512 tokens, and there are 530"),
    ],
    ids=["fused", "head size", "tokens"],
)
@pytest.mark.parametrize("engine", ["tensorrt", "tensorrt_rtx"])
def test_attention_outside_of_the_limits_is_in_floating_point(engine: str, changes: dict[str, Any], reason: str | None) -> None:
    result = quantized(**changes)
    found = legal_for(result, engine)
    assert set(found.plan.attention) == (set() if reason else {Part(0, "attention"), Part(1, "attention")})
    assert [item.get("reason") for item in found.report["attention"]] == [reason] * 2
    assert {item["products"] for item in found.report["attention"]} == ({"off"} if reason else {"full"})
    assert set(found.plan.linears) == set(result.plan.linears)  # linears have no such limit
    variant = int8_from(found.plan, found.report, engine)
    assert variant.precision == "int8"
    assert {block["values"] for block in variant.blocks} == ({"fp16"} if reason else {"int8"})
    assert legal_for(result, "openvino") is result


def test_what_was_taken_away_is_in_the_key() -> None:
    """The scan of parts for a budget is cached under it."""
    keys = [legal_for(quantized(head_dim=size), "tensorrt").key["float attention"] for size in (16, 24)]
    assert keys == [[], ["blocks.0.attention", "blocks.1.attention"]]


def test_q_and_k_alone_are_in_floating_point() -> None:
    found = legal_for(quantized("scores", head_dim=16), "tensorrt")
    assert found.plan.attention == {}
    assert "both products in INT8 or none" in found.report["attention"][0]["reason"]


def test_every_engine_that_fuses_has_limits() -> None:
    engines = {engine for name in shipped_names("targets") for engine in load_target(name).engines.values()}
    fusing = {engine for engine, traits in ENGINES.items() if traits.int8_attention is not None}
    assert {engine for engine in engines if engine.startswith("tensorrt")} == fusing
    assert why_unfused("openvino", head_dim=80, tokens=5000) is None


def test_the_graph_has_no_steps_of_what_is_gone() -> None:
    found = legal_for(quantized(head_dim=24), "tensorrt")
    assert b"attention/probabilities/QuantizeLinear" not in write_graph(found.plan)
    assert b"attention/probabilities/QuantizeLinear" in write_graph(quantized(head_dim=24).plan)
