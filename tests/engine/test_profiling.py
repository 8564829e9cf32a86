"""The engines' own profilers on a real graph: every GEMM is there, with a time."""

from __future__ import annotations

import pytest

from edgevit.engine import CPU_ENGINES
from edgevit.engine.profiling import layer_times
from edgevit.errors import ConfigError, EngineError
from edgevit.export.graph import write_graph
from edgevit.measure.parts import part_times
from edgevit.model.quantplan import QuantPlan
from tests.zoo import folded, frames, int8


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_block_has_its_parts(engine: str, precision: str) -> None:
    model = folded()
    graph = write_graph(QuantPlan(model=model) if precision == "fp32" else int8(model))
    layers = layer_times(engine, graph, frames(model.config, 2), threads=1, runs=3)
    assert all(layer.milliseconds >= 0 and layer.kind for layer in layers)
    assert sum(layer.milliseconds for layer in layers) > 0
    found = {(item.block, item.part) for item in part_times(layers)}
    for block in range(2):
        # Norms may be fused into what follows.
        assert {(block, part) for part in ("qkv", "attention", "proj", "fc1", "fc2")} <= found
    assert (None, "head") in found


def test_an_engine_without_a_profiler() -> None:
    with pytest.raises(
        ConfigError, match=r"tensorrt: layers are timed on its device, once the bundle is compiled there: edgevit compile"
    ):
        layer_times("tensorrt", b"", frames(folded().config, 1), threads=1, runs=1)


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_graph_that_is_none(engine: str) -> None:
    with pytest.raises(EngineError, match=r"cannot (profile|load|compile) this model"):
        layer_times(engine, b"no graph", frames(folded().config, 1), threads=1, runs=1)
