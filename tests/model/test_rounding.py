"""Rounding to a format, against values counted by hand and torch's own casts; and a format that edgevit does not offer."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor

from edgevit.export.graph import write_graph
from edgevit.model.folded import forward
from edgevit.model.planfile import dump_plan, load_plan
from edgevit.model.quantplan import simulate
from edgevit.model.rounding import dtype_of, quantize_input, quantize_weight, rounded, weight_codes
from edgevit.numberformat import FP16, FP32, INT8, NumberFormat
from edgevit.quantize import linears
from edgevit.quantize.linears import collect, decibel
from edgevit.recipe import QuantizeSettings, Recipe
from tests.zoo import folded, frames

E4M3 = NumberFormat(
    name="e4m3", kind="float", bits=8, storage="float8_e4m3fn", onnx="FLOAT8E4M3FN", lowest=-448.0, largest=448.0, scaled=True
)
"""As arXiv 2209.05433 has it. No precision of edgevit's: what makes a format must be enough to compute and to write with it."""


def test_int8_is_a_grid_that_is_clipped() -> None:
    """Ties go to the even integer; one code more below zero than above."""
    x = torch.tensor([0.5, 1.5, -2.5, 126.6, 300.0, -127.5, -300.0, 0.49])
    assert rounded(x, INT8).tolist() == [0, 2, -2, 127, 127, -128, -128, 0]
    assert weight_codes(x, INT8).tolist() == [0, 2, -2, 127, 127, -127, -127, 0]
    assert quantize_input(torch.tensor([1.0, -0.3]), 0.25, INT8).tolist() == [4, -1]


def test_a_format_without_a_scale_does_not_clip() -> None:
    """2049 lies between two values of FP16; what is beyond 65,504 is infinite, so that it shows."""
    assert rounded(torch.tensor([2049.0, 65504.0, 1e6, 1e-9]), FP16).tolist() == [2048, 65504, float("inf"), 0]
    assert rounded(torch.tensor([0.1]), FP32).equal(torch.tensor([0.1]))


def test_floats_with_a_scale_keep_their_digits_and_are_clipped() -> None:
    """E4M3 has three bits of fraction: 17 lies between 16 and 18 and goes to the even one; 1000 is the largest."""
    assert rounded(torch.tensor([17.0, 19.0, 1000.0, -1000.0, 0.3]), E4M3).tolist() == [16, 20, 448, -448, 0.3125]


@pytest.mark.parametrize("to", [INT8, E4M3], ids=["int8", "e4m3"])
def test_weights_are_nearest_and_use_the_range(to: NumberFormat) -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    codes, scale = quantize_weight(weight, to)
    assert codes.dtype == dtype_of(to)
    assert codes.float().abs().amax(1).tolist() == [to.largest] * 6
    error = (codes.float() * scale[:, None] - weight).abs()
    other = ((codes.float() * 1.07).round() * scale[:, None] - weight).abs()
    assert error.sum() < other.sum()


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_format_is_all_that_it_takes(rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantized, simulated, kept, and written: no module on the way knows how many formats there are."""
    model = folded()
    images = frames(model.config, 16)
    recipe = Recipe(quantize=QuantizeSettings(rounding=rounding, attention="full"))
    plan = linears.quantize(model, collect(model, [images], images=16, recipe=recipe), recipe, to=E4M3).plan
    assert {entry.format for entry in (*plan.linears.values(), *plan.attention.values())} == {E4M3} == {plan.format}
    assert {entry.weight.dtype for entry in plan.linears.values()} == {torch.float8_e4m3fn}
    frame = torch.from_numpy(frames(model.config, 8, seed=1))
    wanted, found = forward(model, frame), simulate(plan, frame)
    assert 15 < decibel(_energy(wanted), _energy(found - wanted)) < 60
    monkeypatch.setattr("edgevit.model.planfile.FORMATS", {"e4m3": E4M3})
    assert simulate(load_plan(dump_plan(plan), model), frame).equal(found)
    _check_graph(onnx.load_from_string(write_graph(plan)))


def _energy(x: Tensor) -> float:
    return float(x.double().square().sum())


def _check_graph(proto: onnx.ModelProto) -> None:
    """Zero points and weights are of the format, and every Q/DQ pair has one."""
    onnx.checker.check_model(proto, full_check=True)
    kinds = {item.name: item.data_type for item in proto.graph.initializer}
    pairs = [node for node in proto.graph.node if node.op_type.endswith("uantizeLinear")]
    assert {kinds[node.input[2]] for node in pairs} == {onnx.TensorProto.FLOAT8E4M3FN}
    weights = [kinds[node.input[0]] for node in pairs if node.input[0] in kinds]
    assert weights == [onnx.TensorProto.FLOAT8E4M3FN] * 8
