"""A fresh process: its time, its memory, and what it says when it fails."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.engine import CPU_ENGINES
from edgevit.errors import EngineError
from edgevit.export.graph import write_graph
from edgevit.measure import machine
from edgevit.measure.startup import measure_startup
from edgevit.model.quantplan import QuantPlan
from tests.zoo import folded

SHAPE = (16, 16, 3)


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_real_engine(engine: str) -> None:
    found = measure_startup(engine, write_graph(QuantPlan(model=folded())), SHAPE, compiled=False, threads=1)
    assert 0.05 < found.seconds < 60
    assert 20 < found.peak_mib < 2000


def test_memory_is_the_new_processs_own() -> None:
    """What this process holds does not count: Linux hands getrusage's peak on to children."""
    graph = write_graph(QuantPlan(model=folded()))
    before = measure_startup("onnxruntime", graph, SHAPE, compiled=False, threads=1).peak_mib
    ballast = np.ones(400 * 2**20, np.uint8)
    after = measure_startup("onnxruntime", graph, SHAPE, compiled=False, threads=1).peak_mib
    assert ballast[-1] == 1
    assert abs(after - before) < 100


def test_a_model_that_cannot_be_loaded() -> None:
    with pytest.raises(EngineError, match=r"onnxruntime: a fresh process could not run this model: .*cannot load this model"):
        measure_startup("onnxruntime", b"no graph", SHAPE, compiled=False, threads=1)


def test_clock_as_the_system_tells_it(tmp_path, monkeypatch) -> None:
    for name, text in (("scaling_governor", "powersave\n"), ("scaling_min_freq", "800000"), ("scaling_max_freq", "3600000")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CPUFREQ", tmp_path)
    assert machine.clock() == "governor powersave, 800-3600 MHz"
    monkeypatch.setattr(machine, "CPUFREQ", tmp_path / "none")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.clock() == "not told"
    (tmp_path / "cpuinfo").write_text("processor : 0\ncpu MHz\t\t: 2596.123\n")
    assert machine.clock() == "2596 MHz, governor not told"
    monkeypatch.setattr("os.getloadavg", lambda: (1.234, 5.0, 9.0))
    assert machine.load() == 1.23
