"""A masked token more: the same logits, and attention that OpenVINO fuses where it would not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.engine import CPU_ENGINES, open_session
from edgevit.export.form import Form
from edgevit.export.graph import write_graph
from edgevit.model.folded import forward
from edgevit.model.quantplan import QuantPlan, simulate
from edgevit.unreported import import_openvino
from edgevit.vitconfig import BlockConfig
from tests.zoo import ZOO, folded, frames, int8_of

PADDED = Form(padded=True)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("engine", sorted(CPU_ENGINES))
def test_the_logits_are_the_same(name: str, engine: str) -> None:
    """Of every kind of model, several frames at once, against torch."""
    model = folded(**ZOO[name])
    images = frames(model.config, 3)
    with open_session(engine, write_graph(QuantPlan(model=model), PADDED), threads=1) as session:
        found = session.infer(images)
    wanted = forward(model, torch.from_numpy(images)).numpy()
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["plain", "merging", "class and mean pooling"])
def test_they_are_in_int8_too(name: str) -> None:
    plan = int8_of(name)
    images = frames(plan.model.config, 3)
    with open_session("onnxruntime", write_graph(plan, PADDED), threads=1) as session:
        found = session.infer(images)
    wanted, whole = (
        value.numpy() for value in (simulate(plan, torch.from_numpy(images)), forward(plan.model, torch.from_numpy(images)))
    )
    assert np.square(found - wanted).mean() < 0.5 * np.square(whole - wanted).mean()


def test_openvino_fuses_attention_then(tmp_path: Path) -> None:
    """One head, two threads, 197 tokens: a prime number. The last block, of which one query counts, is as it was."""
    model = folded(image_size=(224, 224), patch_size=16, width=64, head_dim=64, blocks=(BlockConfig(heads=1, hidden=64),) * 4)
    assert model.config.tokens == 197

    def softmaxes(form: Form) -> int:
        core = import_openvino().Core()
        graph = core.read_model(write_graph(QuantPlan(model=model), form))
        graph.reshape({graph.input(0).any_name: [1, 224, 224, 3]})
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": 2, "PERFORMANCE_HINT": "LATENCY"})
        kinds = Counter(dict(node.get_rt_info())["layerType"].value for node in compiled.get_runtime_model().get_ops())
        return kinds["Softmax"]

    assert (softmaxes(Form()), softmaxes(PADDED)) == (4, 1)


def test_other_layouts_have_no_place_for_it() -> None:
    with pytest.raises(ValueError, match="rank5 only"):
        Form(padded=True, attention="rank4")
