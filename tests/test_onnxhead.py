"""Another head in a graph, at its bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from edgevit.engine import CPU_ENGINES, open_session
from edgevit.export.form import Form, form_for
from edgevit.export.graph import write_graph
from edgevit.model.folded import FoldedVit, Linear, forward
from edgevit.model.quantplan import QuantPlan
from edgevit.onnxfile import check_model
from edgevit.onnxhead import with_head
from tests.zoo import ZOO, folded, frames, int8_of

NAME = "features of length 1"
RNG = np.random.default_rng(3)
WEIGHT, BIAS = RNG.normal(size=(3, 24)).astype(np.float32), RNG.normal(size=3).astype(np.float32)


def other_head(model: FoldedVit) -> FoldedVit:
    head = Linear(torch.from_numpy(WEIGHT), torch.from_numpy(BIAS))
    return replace(model, head=head, config=replace(model.config, classes=3))


@pytest.mark.parametrize("form", [Form(), Form(dtype="fp16"), form_for("tensorrt", "fp16")], ids=["fp32", "fp16", "tensorrt"])
@pytest.mark.parametrize("features", [True, False])
def test_the_graph_is_the_one_that_would_have_been_written(form: Form, features: bool) -> None:
    """To the byte: in FP16, too, the head is FP32."""
    model = folded(**(ZOO[NAME] | {"gives_features": features}))
    changed = with_head(write_graph(QuantPlan(model=model), form), WEIGHT, BIAS)
    assert changed == write_graph(QuantPlan(model=other_head(model)), form)
    check_model(changed, model.config.image_size, 3, 24 if features else None)
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)


def test_in_int8() -> None:
    plan = int8_of(NAME)
    changed = with_head(write_graph(plan, Form()), WEIGHT, BIAS)
    assert changed == write_graph(replace(plan, model=other_head(plan.model)), Form())


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_it_computes_the_other_logits_and_the_same_features(engine: str) -> None:
    model = folded(**ZOO[NAME])
    graph, images = write_graph(QuantPlan(model=model), form_for(engine, "fp32")), frames(model.config, 3)
    with open_session(engine, graph) as before, open_session(engine, with_head(graph, WEIGHT, BIAS)) as after:
        before.infer(images)
        logits = after.infer(images)
        assert before.features is not None
        assert after.features is not None
        np.testing.assert_allclose(after.features, before.features, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(after.features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(logits, forward(other_head(model), torch.from_numpy(images)).numpy(), rtol=1e-4, atol=1e-4)


def test_what_it_is_not_for() -> None:
    graph = write_graph(QuantPlan(model=folded(**ZOO[NAME])))
    with pytest.raises(ValueError, match="over 8 features"):
        with_head(graph, WEIGHT[:, :8], BIAS)
    half = write_graph(QuantPlan(model=folded()), Form(dtype="fp16"))
    with pytest.raises(ValueError, match="of type 10; expected float32"):
        with_head(half, np.zeros((3, 32), np.float32), BIAS)
    with pytest.raises(ValueError, match="holds no head/bias, head/weight"):
        with_head(b"", WEIGHT, BIAS)
