"""What the preflight says of a recorded plan."""

from __future__ import annotations

import json

import pytest

from edgevit.engine.tensorrt import BuiltEngine
from edgevit.plan.preflight import Preflight, read_plan
from edgevit.plan.roofline import best_estimates, estimates
from edgevit.target import load_target
from tests.plan.plans import recorded


def preflight(name: str | None, inspector: str | None = None) -> Preflight:
    built = BuiltEngine(
        engine=b"engine", timing_cache=b"", layers=recorded(name) if name else (), inspector=inspector, warnings=(),
        version="tensorrt_rtx 1.7.1", seconds=1.234, peak_mib=1.0,
    )  # fmt: skip
    return read_plan(built, blocks=2)


def test_rows_add_up_to_the_plan() -> None:
    found = preflight("int8")
    assert [row.block for row in found.rows] == ["embed", "blocks.0", "blocks.1", "head"]
    assert sum(row.kernels for row in found.rows) == len(found.plan.kernels)
    assert sum(row.megabytes for row in found.rows) == pytest.approx(found.plan.megabytes)
    gmacs = sum(row.gmacs for row in found.rows)
    assert sum(row.gmacs * row.int8_share for row in found.rows) / gmacs == pytest.approx(found.plan.int8_share)
    assert [row.fused_attention for row in found.rows] == [0, 1, 1, 0]
    assert found.rows[0].int8_share == 0


def test_summary() -> None:
    found = preflight("dequantized").summary()
    assert found["warnings"][0].startswith("weights are dequantized on every frame in blocks.0")
    assert (found["builder"], found["seconds"], found["engine_bytes"]) == ("tensorrt_rtx 1.7.1", 1.23, 6)
    assert found["int8_share"] == pytest.approx(0.67, abs=0.005)


def test_report_is_json_with_every_kernel() -> None:
    found = preflight("fp16")
    document = json.loads(json.dumps(found.to_dict()))
    assert len(document["layers"]) == document["kernels"] == 20
    assert sum(layer["macs"] for layer in document["layers"]) == pytest.approx(1e9 * document["gmacs"], rel=1e-3)


def test_the_inspector_wins_over_the_log() -> None:
    """It describes the engine as the GPU runs it."""
    layer = {"Name": "n", "LayerType": "kgen", "Inputs": [], "Outputs": [], "Metadata": "[ONNX Layer: head/MatMul]"}
    found = preflight("fp16", json.dumps({"Layers": [layer]}))
    assert [kernel.name for kernel in found.plan.kernels] == ["n"]
    assert found.warnings == ("attention is fused in 0 of 2 blocks, not in blocks.0, blocks.1",)


@pytest.mark.parametrize(
    ("name", "inspector", "problem"),
    [
        ("free", None, "free batch"),
        (None, None, "the builder listed no layers"),
        (None, '{"Layers": ["blocks.0/qkv/MatMul_myl0_3"], "Bindings": []}', "without detailed profiling verbosity"),
        (None, '{"Layers": [{"Name": "{ForeignNode[a...b]}", "LayerType": "Myelin"}]}', "as one layer"),
        (None, "no JSON", "Expecting value"),
    ],
)
def test_a_plan_that_cannot_be_read_costs_the_report_and_not_the_engine(name: str, inspector: str, problem: str) -> None:
    """One warning says so, and none that follows from having read nothing; there is nothing to estimate either."""
    found = preflight(name, inspector)
    (warning,) = found.warnings
    assert warning.startswith("the plan cannot be read, so neither fusion nor INT8 coverage is checked: ")
    assert problem in warning
    assert found.rows == ()
    summary = found.summary()
    assert (summary["kernels"], summary["engine_bytes"], summary["int8_share"]) == (0, 6, 0)
    board = load_target("jetson-orin-nano-8gb")
    assert estimates(found.plan, board) == best_estimates(found.plan, [board]) == ()


@pytest.mark.parametrize("inspector", ["no JSON", '{"Layers": ["a name and nothing else"]}', "[]"])
def test_a_strange_inspector_leaves_the_log(inspector: str) -> None:
    assert preflight("fp16", inspector).summary() == preflight("fp16").summary()
