"""Graphs rewritten on the device: what is left out, what is left, and that the values are those of such a graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgevit.engine import open_session
from edgevit.engine.onnx_nodes import nodes_of, with_nodes
from edgevit.engine.rewrite import float_attention, float_block, in_fp32, int8_attention
from edgevit.export.form import Form, form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.model.vit import BlockConfig
from edgevit.part import Part
from edgevit.quantize.sensitivity import revert
from edgevit.recipe import QuantizeSettings, Recipe
from tests.zoo import folded, frames, int8

MODEL = folded(width=32, head_dim=16, blocks=(BlockConfig(heads=2, hidden=32),) * 2)
FULL = int8(MODEL, Recipe(quantize=QuantizeSettings(attention="full")))
OFF = replace(FULL, attention={})
TENSORRT = form_for("tensorrt", "int8")


def logits(graph: bytes) -> np.ndarray:
    images = frames(MODEL.config, 3)
    with open_session("onnxruntime", graph, threads=1) as session:
        return np.concatenate([session.infer(image[None]) for image in images])


def ops(graph: bytes) -> Counter[str]:
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("form", [TENSORRT, Form()], ids=["tensorrt", "cpu"])
def test_without_int8_attention_it_is_the_graph_that_was_built_without(form: Form) -> None:
    graph, wanted = write_graph(FULL, form), write_graph(OFF, form)
    assert int8_attention(graph) == ("blocks.0", "blocks.1")
    found = float_attention(graph)
    assert int8_attention(found) == ()
    ours, theirs = nodes_of(found), nodes_of(wanted)
    assert [(node.op, node.name, node.inputs, node.outputs) for node in ours] == [
        (node.op, node.name, node.inputs, node.outputs) for node in theirs
    ]
    np.testing.assert_array_equal(logits(found), logits(wanted))
    assert not np.array_equal(logits(found), logits(graph))


def test_what_has_none_is_left_as_it_is() -> None:
    graph = write_graph(OFF, TENSORRT)
    assert int8_attention(graph) == ()
    assert nodes_of(float_attention(graph)) == nodes_of(graph)
    assert onnx.load_from_string(with_nodes(graph, nodes_of(graph))) == onnx.load_from_string(graph)


def test_a_block_in_floating_point_keeps_its_rounded_weights() -> None:
    graph = write_graph(FULL, Form())
    found = float_block(graph, "blocks.1")
    assert ops(graph)["QuantizeLinear"] - ops(found)["QuantizeLinear"] == 8  # four linears, four operands of attention
    assert ops(graph)["DequantizeLinear"] - ops(found)["DequantizeLinear"] == 8  # not those of weights
    plan = revert(FULL, [Part(1, kind) for kind in ("qkv", "proj", "fc1", "fc2", "attention")])
    np.testing.assert_array_less(np.abs(logits(found) - logits(graph)), 1)
    assert not np.array_equal(logits(found), logits(graph))
    assert set(plan.linears) == {Part(0, kind) for kind in ("qkv", "proj", "fc1", "fc2")}
    assert [node.name for node in nodes_of(found) if node.op == "QuantizeLinear"] == [
        node.name for node in nodes_of(write_graph(plan, Form())) if node.op == "QuantizeLinear"
    ]


def test_blocks_are_not_confused() -> None:
    """blocks.1 is no part of blocks.10."""
    model = folded(blocks=(BlockConfig(heads=2, hidden=8),) * 11)
    found = float_block(write_graph(int8(model), TENSORRT), "blocks.1")
    left = {node.name.partition("/")[0] for node in nodes_of(found) if node.op == "QuantizeLinear"}
    assert left == {f"blocks.{i}" for i in range(11)} - {"blocks.1"}


@pytest.mark.parametrize(("op", "count"), [("Softmax", 2), ("LayerNormalization", 5)])
def test_an_operation_in_fp32_is_between_casts(op: str, count: int) -> None:
    graph = write_graph(QuantPlan(model=MODEL), form_for("tensorrt", "fp16"))
    found = in_fp32(graph, op)
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(found), strict_mode=True, data_prop=True)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    made = [node for node in model.graph.node if node.op_type == op]
    assert len(made) == count
    assert {types[name] for node in made for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}
    assert ops(found)["Cast"] - ops(graph)["Cast"] == count * (2 if op == "Softmax" else 4)
    np.testing.assert_allclose(logits(found), logits(graph), atol=0.02 * np.abs(logits(graph)).max())


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x08\x01"])
def test_what_is_no_model_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an? (ONNX model|protobuf message)"):
        float_attention(junk)
