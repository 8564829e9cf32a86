"""The CUDA graph of a session: captured by the rules, verified, kept if faster, freed first; on a driver that keeps books."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgevit.engine import cuda_graph
from edgevit.engine.cuda_graph import CudaGraphError, capture
from edgevit.engine.tensorrt_session import NOT_ASKED, WARM_UP, TensorRtSession
from edgevit.errors import EngineError
from tests.engine.gpu import CLASSES, FREED, LAYERS, Driver, LibCuda, TensorRtModule, installed, some_frames

SLOW = 0.001  # seconds of launches, which a graph spares


@pytest.fixture(params=[True, False], ids=["integrated", "discrete"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    yield from installed(Driver(integrated=request.param), monkeypatch)


def library(driver: Driver, monkeypatch: pytest.MonkeyPatch, **options: Any) -> LibCuda:
    made = LibCuda(driver, **options)
    monkeypatch.setattr(cuda_graph, "libcuda", lambda: made)
    return made


def work(driver: Driver) -> list[str]:
    return ["execute"] if driver.integrated else ["to device", "execute", "from device"]


def right(session: TensorRtSession) -> bool:
    images = some_frames(3)
    return np.array_equal(session.infer(images), 2.0 * images.reshape(3, -1)[:, :CLASSES])


def test_a_faster_graph_is_replayed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    library(driver, monkeypatch)
    with TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW)) as session:
        assert session.graph.used
        assert session.graph.with_ms is not None
        assert session.graph.without_ms is not None
        assert session.graph.with_ms < session.graph.without_ms
        assert session.graph.without_ms >= 1
        driver.log.clear()
        assert right(session)
        assert driver.log == ["launch", "synchronize"] * 3 + ["pop"]  # one launch a frame, the copies in it


def test_what_is_captured_ran_before_and_does_not_run_meanwhile(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT allocates at its first run, which a capture does not allow."""
    library(driver, monkeypatch)
    with TensorRtSession(b"a plan", TensorRtModule(driver)):
        begin = driver.log.index("begin capture")
        assert driver.log[:begin].count("execute") == WARM_UP
        captured = [f"captured {step}" for step in work(driver)]
        assert driver.log[begin : begin + len(captured) + 5] == [
            "begin capture", *captured, "end capture", "instantiate", "free graph", *work(driver)[:1],
        ]  # fmt: skip


def test_the_graph_is_freed_first(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(driver, monkeypatch)
    session = TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW))
    driver.log.clear()
    session.close()
    memory = [] if driver.integrated else ["free device memory"] * 2
    assert driver.log == ["free executable graph", *FREED, *memory, "pop"]
    assert made.graphs == {}


@pytest.mark.parametrize("call", ["begin capture", "end capture", "instantiate"])
def test_a_capture_that_fails_leaves_plain_execution(driver: Driver, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    made = library(driver, monkeypatch, fails=call)
    with TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW)) as session:
        assert not session.graph.used
        assert "failed with 900: operation not permitted when stream is capturing" in session.graph.reason
        assert driver.captured is None
        driver.log.clear()
        assert right(session)
        assert driver.log == [*work(driver), "synchronize"] * 3 + ["pop"]
    assert made.graphs == {}


def test_an_engine_that_cannot_be_captured(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """execute_async_v3 gives False: the capture is ended all the same, and what it held is dropped."""
    made = library(driver, monkeypatch)
    with TensorRtSession(b"a plan", TensorRtModule(driver, captures=False)) as session:
        assert session.graph.reason.startswith("none: tensorrt 10.3.0: inference failed (enqueueV3")
        assert driver.log[-2:] == ["end capture", "free graph"] or driver.log[-3:] == ["end capture", "free graph", "pop"]
        assert right(session)
    assert made.graphs == {}
    assert gc.isenabled()


def test_a_launch_that_fails_when_it_is_tried(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(driver, monkeypatch, fails="launch")
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        assert "cuGraphLaunch failed with 900" in session.graph.reason
        assert right(session)
    assert made.graphs == {}


def test_a_launch_that_fails_later_is_one_clear_line(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(driver, monkeypatch)
    with TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW)) as session:
        made.fails = "launch"
        with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0: inference failed: cuGraphLaunch failed with 900"):
            session.infer(some_frames())


def test_a_graph_that_computes_something_else_is_dropped(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(driver, monkeypatch, wrong=True)
    with TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW)) as session:
        # It runs nothing and so leaves what is there: logits of plain execution, though of another frame.
        assert (session.graph.used, session.graph.with_ms) == (False, None)
        assert "other logits" in session.graph.reason
        assert right(session)
    assert made.graphs == {}


def test_a_graph_that_is_not_faster_is_dropped(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = library(driver, monkeypatch)
    real = made.cuGraphLaunch

    def slow(executable: Any, stream: int) -> int:
        import time

        time.sleep(2 * SLOW)
        return real(executable, stream)

    monkeypatch.setattr(made, "cuGraphLaunch", slow)
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        assert not session.graph.used
        assert str(session.graph).startswith("not used: it is not faster, ")
        assert right(session)
    assert made.graphs == {}


def test_it_can_be_left_out(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    library(driver, monkeypatch)
    with TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW), graph=False) as session:
        assert (session.graph.used, session.graph.reason) == (False, NOT_ASKED)
        assert "begin capture" not in driver.log
        assert right(session)


def test_profiling_goes_without_and_the_graph_is_back_afterwards(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    library(driver, monkeypatch)
    with TensorRtSession(b"a plan", TensorRtModule(driver, launching=SLOW)) as session:
        driver.log.clear()
        times = session.profile(some_frames(), 4)
        assert {name: len(values) for name, values in times.items()} == dict.fromkeys(LAYERS, 4)
        assert "launch" not in driver.log
        driver.log.clear()
        session.infer(some_frames(1))
        assert driver.log == ["launch", "synchronize", "pop"]
        assert {name: len(values) for name, values in times.items()} == dict.fromkeys(LAYERS, 4)  # the profiler is off


def test_a_profiler_is_taken_off_after_an_error_too(driver: Driver) -> None:
    module = TensorRtModule(driver)
    with TensorRtSession(b"a plan", module) as session:
        module.runs = False
        with pytest.raises(EngineError, match="inference failed"):
            session.profile(some_frames(), 2)
        assert session._held.execution.profiler is None


def test_garbage_is_not_collected_within_a_capture(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is freed then, on the same thread, ends the capture."""
    library(driver, monkeypatch)
    driver.stack.append(object())
    seen: list[bool] = []
    graph = capture(7, lambda: seen.append(gc.isenabled()))
    assert (seen, gc.isenabled()) == ([False], True)
    graph.close()
    driver.stack.pop()


def test_an_old_driver_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        cuStreamBeginCapture_v2 = staticmethod(lambda: 0)  # noqa: N815

    def missing(_name: str) -> Any:
        msg = "libcuda.so.1: cannot open shared object file"
        raise OSError(msg)

    cuda_graph.libcuda.cache_clear()
    for made, said in ((lambda _name: Old, "older than 11.4"), (missing, "no CUDA driver: libcuda.so.1: cannot open")):
        monkeypatch.setattr(cuda_graph.ctypes, "CDLL", made)
        with pytest.raises(CudaGraphError, match=said):
            cuda_graph.libcuda()
    monkeypatch.undo()
    cuda_graph.libcuda.cache_clear()


def test_handles_are_passed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare int is cut to 32 bits by ctypes; a handle has 64."""
    functions = {name: type(name, (), {})() for name in cuda_graph._SIGNATURES}
    monkeypatch.setattr(cuda_graph.ctypes, "CDLL", lambda _name: type("Library", (), functions))
    cuda_graph.libcuda.cache_clear()
    found = cuda_graph.libcuda()
    monkeypatch.undo()
    cuda_graph.libcuda.cache_clear()
    assert found.cuStreamBeginCapture_v2.argtypes[0] is found.cuGraphLaunch.argtypes[1] is cuda_graph.ctypes.c_void_p
    assert all(function.argtypes for function in functions.values())
