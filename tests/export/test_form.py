"""Forms are equal in what they compute, and each is written as its description says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from edgevit.export.form import CPU, Form, form_for
from edgevit.export.graph import write_graph
from edgevit.model.folded import forward
from edgevit.model.quantplan import QuantPlan, simulate
from edgevit.quantize.fp16 import peaks, simulate_half, with_half_scales, without_key_biases
from edgevit.recipe import QuantizeSettings, Recipe
from edgevit.unreported import import_onnxruntime
from tests.zoo import ZOO, folded, frames, int8, int8_of

LAYOUTS = ("rank5", "rank4", "rank3", "op")
onnxruntime = import_onnxruntime()
ALL = [Form(attention=layout) for layout in LAYOUTS] + [Form(attention=layout, joint_qkv=False) for layout in ("rank4", "rank3")]


def name_of(form: Form) -> str:
    return f"{form.attention}{'' if form.joint_qkv else ' three'}"


def infer(model: bytes, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"frames": images})[0]


@pytest.mark.parametrize("form", ALL, ids=name_of)
@pytest.mark.parametrize("name", ZOO)
def test_every_form_computes_the_model(name: str, form: Form) -> None:
    model = folded(**ZOO[name])
    images = frames(model.config, 3)
    expected = forward(model, torch.from_numpy(images)).numpy()
    found = infer(write_graph(QuantPlan(model=model), form), images)
    assert np.abs(found - expected).max() < 1e-4
    alone = infer(write_graph(QuantPlan(model=model), replace(form, batch=1)), images[:1])
    assert np.abs(alone - expected[:1]).max() < 1e-4


@pytest.mark.parametrize("form", [form for form in ALL if form.attention != "op"], ids=name_of)
@pytest.mark.parametrize("attention", ["off", "scores", "full"])
@pytest.mark.parametrize("name", ["plain", "registers", "pruned blocks", "class and mean pooling"])
def test_every_form_computes_the_int8_model(name: str, attention: str, form: Form) -> None:
    """One step of a code here and there at most: sums differ in order."""
    plan = int8_of(name, attention)
    images = frames(plan.model.config, 8, seed=3)
    expected = simulate(plan, torch.from_numpy(images)).numpy()
    error = infer(write_graph(plan, form), images) - expected
    assert np.square(error).sum() < 1e-3 * np.square(expected).sum()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["plain", "layer scale", "embedding norm", "quick gelu"])
def test_fp16_forms_compute_what_fp16_rounding_leaves(name: str, layout: str) -> None:
    model = folded(**ZOO[name])
    images = frames(model.config, 8)
    expected = forward(model, torch.from_numpy(images)).numpy()
    graph = write_graph(QuantPlan(model=model), Form(dtype="fp16", attention=layout))
    found = infer(graph, images)
    simulated = simulate_half(QuantPlan(model=model), torch.from_numpy(images)).numpy()
    power = np.square(expected).sum()
    assert found.dtype == np.float32
    assert 1e-9 * power < np.square(found - expected).sum() < 1e-4 * power
    assert 1e-9 * power < np.square(simulated - expected).sum() < 1e-4 * power


@pytest.mark.parametrize(("attention", "layout"), list(product(["off", "full"], ["rank5", "rank4", "rank3"])))
def test_everything_but_int8_is_fp16(attention: str, layout: str) -> None:
    """Scales included: TensorRT before 10.13 takes no others."""
    plan = with_half_scales(int8(folded(), Recipe(quantize=QuantizeSettings(attention=attention))))
    graph = onnx.load_from_string(write_graph(plan, Form(dtype="fp16", attention=layout))).graph
    kinds = Counter(item.data_type for item in graph.initializer)
    assert set(kinds) == {TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT64}
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(write_graph(plan, Form(dtype="fp16", attention=layout))))
    types = {item.name: item.type.tensor_type.elem_type for item in inferred.graph.value_info}
    assert set(types.values()) == {TensorProto.FLOAT16, TensorProto.INT8}
    assert graph.node[0].op_type == "Cast"
    assert graph.node[-1].op_type == "Cast"
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_int8_graph_with_fp16_scales_is_its_simulation() -> None:
    plan = with_half_scales(int8(folded()))
    images = frames(plan.model.config, 16, seed=5)
    expected = simulate_half(plan, torch.from_numpy(images)).numpy()
    error = infer(write_graph(plan, form_for("tensorrt", "int8")), images[:1]) - expected[:1]
    assert np.square(error).sum() < 1e-2 * np.square(expected[:1]).sum()


def test_batch() -> None:
    for form, expected in ((CPU, "N"), (Form(batch=1), 1), (Form(batch=4), 4)):
        first = onnx.load_from_string(write_graph(QuantPlan(model=folded()), form)).graph.input[0].type.tensor_type.shape.dim[0]
        assert (first.dim_param or first.dim_value) == expected


def test_opsets() -> None:
    """JetPack 6's TensorRT 10.3 reads opset 20."""
    for form in ALL:
        proto = onnx.load_from_string(write_graph(QuantPlan(model=folded()), form))
        assert proto.opset_import[0].version == (23 if form.attention == "op" else 20)
        assert proto.ir_version == (11 if form.attention == "op" else 9)


def test_three_products_carry_only_biases_that_are_not_zero() -> None:
    model = folded()
    model = without_key_biases(model, peaks(model, [frames(model.config, 2)]))
    graph = onnx.load_from_string(write_graph(QuantPlan(model=model), Form(attention="rank3", joint_qkv=False))).graph
    names = {item.name for item in graph.initializer}
    for part in "qkv":
        assert f"blocks.0/qkv/{part}/weight" in names
        assert (f"blocks.0/qkv/{part}/bias" in names) == (part == "q")


def test_a_quantized_qkv_stays_joint() -> None:
    graph = onnx.load_from_string(write_graph(int8(folded()), Form(attention="rank3", joint_qkv=False))).graph
    assert sum(node.name.endswith("/qkv/MatMul") for node in graph.node) == 2


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="three products"):
        Form(joint_qkv=False)
    plan = int8(folded(), Recipe(quantize=QuantizeSettings(attention="full")))
    with pytest.raises(ValueError, match="Attention op"):
        write_graph(plan, Form(attention="op"))
    model = folded()
    model.blocks[0].fc1.weight[0, 0] = 1e6
    with pytest.raises(OverflowError, match=r"blocks\.0/fc1/weight: 1e\+06 does not fit fp16"):
        write_graph(QuantPlan(model=model), Form(dtype="fp16"))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", ""])
def test_cpus_get_one_form(engine: str) -> None:
    assert {form_for(engine, precision) for precision in ("fp32", "int8", "mixed")} == {CPU}
