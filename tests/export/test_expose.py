"""The attention that a written graph gives, against torch: floating point and INT8, every layout, every kind of ViT."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from edgevit.engine.outputs import NamedOutputs
from edgevit.errors import EngineError
from edgevit.export.expose import with_attention
from edgevit.export.form import Form
from edgevit.export.graph import write_graph
from edgevit.model.folded import forward, plain_attention, scores
from edgevit.model.quantplan import QuantPlan, fake_quant, quantized_attention
from edgevit.model.rounding import quantize_input
from edgevit.numberformat import INT8
from edgevit.part import Part
from edgevit.recipe import QuantizeSettings, Recipe
from tests.zoo import ZOO, folded, frames, int8


def captured(plan: QuantPlan, images: np.ndarray) -> dict[int, np.ndarray]:
    """Attention weights by block as torch computes them, rounded where the plan rounds them."""
    found: dict[int, np.ndarray] = {}

    def attention(name: Part, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        steps = plan.attention.get(name)
        if steps is None:
            weights, mixed = scores(queries, keys, bias).softmax(-1), plain_attention(name, queries, keys, values, bias)
        else:
            q, k = (quantize_input(x, step, INT8) * step for x, step in ((queries, steps.query_step), (keys, steps.key_step)))
            weights, mixed = scores(q, k, bias).softmax(-1), quantized_attention(queries, keys, values, steps, bias)
            if steps.probability_step is not None:
                weights = quantize_input(weights, steps.probability_step, INT8) * steps.probability_step
        found[name.block] = weights[0].numpy()
        return mixed

    forward(plan.model, torch.from_numpy(images), fake_quant(plan), attention)
    return found


def shown(model: bytes, images: np.ndarray) -> dict[int, np.ndarray]:
    found = with_attention(model)
    exposed, names = found.model, found.attention
    found = NamedOutputs(exposed, threads=1).run(images)
    return {block: found[name].reshape(-1, *found[name].shape[-2:]) for block, name in names.items()}


@pytest.mark.parametrize("kind", ZOO)
def test_equals_torch(kind: str) -> None:
    model = folded(**ZOO[kind])
    images, plan = frames(model.config, 1), QuantPlan(model=model)
    wanted, found = captured(plan, images), shown(write_graph(plan), images)
    assert found.keys() == wanted.keys() == {index for index, block in enumerate(model.blocks) if block.heads}
    for block, weights in found.items():
        assert weights.shape == wanted[block].shape
        assert np.abs(weights - wanted[block]).max() < 1e-5


@pytest.mark.parametrize("attention", ["off", "scores", "full"])
def test_int8_shows_what_int8_used(attention: str) -> None:
    """With INT8 values the weights are multiples of a step; all are near FP32's, and not the same."""
    model = folded()
    images = frames(model.config, 1, seed=3)
    plan = int8(model, Recipe(quantize=QuantizeSettings(attention=attention)))
    wanted, found = captured(plan, images), shown(write_graph(plan), images)
    plain = shown(write_graph(QuantPlan(model=model)), images)
    for block, weights in found.items():
        assert np.abs(weights - wanted[block]).max() < 0.02  # one code may round the other way
        assert 0 < np.abs(weights - plain[block]).max() < 0.2
        steps = plan.attention.get(Part(block, "attention"))
        if attention == "full":
            assert steps is not None
            assert steps.probability_step is not None
            assert np.abs(weights / steps.probability_step - np.round(weights / steps.probability_step)).max() < 1e-4


@pytest.mark.parametrize(
    "form", [Form(attention="rank4", batch=1), Form(attention="rank3", joint_qkv=False), Form(dtype="fp16")], ids=str
)
def test_other_forms_show_the_same(form: Form) -> None:
    """In heads-first layouts the last block has all queries; the first is the class token's in either."""
    model = folded()
    images, plan = frames(model.config, 1), QuantPlan(model=model)
    found, plain = shown(write_graph(plan, form), images), shown(write_graph(plan), images)
    for block, weights in found.items():
        assert np.abs(weights[:, : plain[block].shape[1]] - plain[block]).max() < (1e-2 if form.dtype == "fp16" else 1e-5)


def test_logits_stay() -> None:
    model = folded()
    images = frames(model.config, 1)
    graph = write_graph(int8(model))
    exposed = with_attention(graph).model
    assert np.array_equal(
        NamedOutputs(exposed, threads=1).run(images)["logits"], NamedOutputs(graph, threads=1).run(images)["logits"]
    )


def test_a_graph_without_softmax() -> None:
    graph = onnx.load_from_string(write_graph(QuantPlan(model=folded()), Form(attention="op")))
    with pytest.raises(ValueError, match="no block of this graph has a softmax"):
        with_attention(graph.SerializeToString())


def test_a_graph_that_is_none() -> None:
    with pytest.raises(EngineError, match="cannot load this model"):
        NamedOutputs(b"no graph", threads=1)


def test_blocks_without_attention_are_left_out() -> None:
    """What pruning may leave: here the second block's softmax under another name."""
    graph = onnx.load_from_string(write_graph(QuantPlan(model=folded())))
    for node in graph.graph.node:
        if node.op_type == "Softmax" and node.name.startswith("blocks.1/"):
            node.name = "other"
    assert list(with_attention(graph.SerializeToString()).attention) == [0]
