"""GPU sessions end by themselves: collected, at exit, after exceptions, in any thread and order; and nothing aborts."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgevit.engine import cuda_memory, tensorrt_session
from edgevit.engine.tensorrt_session import TensorRtSession
from edgevit.errors import EngineError
from tests.engine.gpu import FREED, Driver, TensorRtModule, installed, some_frames

# pycuda calls abort() where a thread ends with a context on its stack; what was registered first runs last.
AT_EXIT = """
import atexit, sys, threading
from tests.engine.gpu import Driver, TensorRtModule, installed
driver = Driver(integrated=True)
atexit.register(lambda: print(driver.log.count("free stream"), len(driver.stack), [x for x in driver.log if "WITHOUT" in x]))
class Patch:
    def setattr(self, name, value):
        import edgevit.engine.cuda_graph as module
        module.libcuda = value
    def setitem(self, where, name, value):
        where[name] = value
fixture = installed(driver, Patch()); next(fixture)
from edgevit.engine.tensorrt_session import TensorRtSession
opened = TensorRtSession(b"a plan", TensorRtModule(driver))
opened.itself = opened                                   # a cycle, as notebooks and tracebacks have them
kept = []
thread = threading.Thread(target=lambda: kept.append(TensorRtSession(b"a plan", TensorRtModule(driver))))
thread.start(); thread.join()
if sys.argv[1] == "raises":
    raise RuntimeError("in between")
"""


@pytest.fixture(params=[True, False], ids=["integrated", "discrete"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    yield from installed(Driver(integrated=request.param), monkeypatch)


def freed(driver: Driver) -> list[str]:
    return [*FREED, *([] if driver.integrated else ["free device memory"] * 2), "pop"]


def test_what_nobody_closes_is_closed_when_it_is_collected(driver: Driver) -> None:
    session = TensorRtSession(b"a plan", TensorRtModule(driver))
    session.infer(some_frames())
    driver.log.clear()
    del session
    gc.collect()
    assert driver.log == freed(driver)
    assert driver.stack == []


def test_it_may_be_collected_by_another_thread(driver: Driver) -> None:
    held = [TensorRtSession(b"a plan", TensorRtModule(driver))]
    driver.log.clear()
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    gc.collect()
    assert driver.log == freed(driver)
    assert driver.stack == []


def test_an_exception_that_keeps_the_session_does_no_harm(driver: Driver) -> None:
    def failing() -> None:
        session = TensorRtSession(b"a plan", TensorRtModule(driver))
        session.infer(np.zeros((1, 2, 2, 3), np.uint8))

    with pytest.raises(EngineError, match="expected uint8 frames") as caught:
        failing()
    assert driver.stack == []  # though the traceback still holds the session
    driver.log.clear()
    del caught
    gc.collect()
    assert driver.log == freed(driver)


@pytest.mark.parametrize("how", ["ends", "raises"])
def test_open_sessions_are_closed_at_exit(how: str) -> None:
    """Also one of a thread that is gone, and one that refers to itself."""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", AT_EXIT, how], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "2 0 []\n", done.stderr
    assert done.returncode == (1 if how == "raises" else 0)
    assert ("RuntimeError: in between" in done.stderr) == (how == "raises")


def test_closing_waits_for_an_inference_of_another_thread(driver: Driver) -> None:
    session = TensorRtSession(b"a plan", TensorRtModule(driver, launching=0.2))
    driver.log.clear()
    thread = threading.Thread(target=lambda: session.infer(some_frames(1)))
    thread.start()
    while not session._held.lock.locked():
        pass
    session.close()
    thread.join()
    assert driver.log.index("synchronize") < driver.log.index("free execution context")
    assert driver.stack == []


def test_an_inference_that_hangs_does_not_keep_the_process_alive(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_session, "PATIENCE", 0.05)
    session = TensorRtSession(b"a plan", TensorRtModule(driver))
    driver.log.clear()
    with session._held.lock:  # as the inference would hold it
        session.close()
    assert driver.log == []  # freed under a running kernel, memory would be written by it


def test_a_lost_gpu_is_let_go_of(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    session = TensorRtSession(b"a plan", TensorRtModule(driver))

    def lost() -> None:
        msg = "cuCtxPushCurrent failed: deinitialized"
        raise driver.Error(msg)

    monkeypatch.setattr(session._held.context, "push", lost)
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.infer(some_frames())


def test_a_forked_child_frees_nothing(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handles are its parent's."""
    session = TensorRtSession(b"a plan", TensorRtModule(driver))
    driver.log.clear()
    real = os.getpid()
    monkeypatch.setattr(tensorrt_session.os, "getpid", lambda: real + 1)
    session.close()
    del session
    gc.collect()
    assert driver.log == []  # nor does pycuda at the child's end: its destructors end in abort() there


def test_a_context_that_an_error_has_ended_cannot_be_popped(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is detached, or pycuda's stack would end the process with abort(); what is called next is one clear line."""
    monkeypatch.setattr(cuda_memory, "_LOST", [])
    session, detached = TensorRtSession(b"a plan", TensorRtModule(driver)), list[bool]()

    def lost() -> None:
        msg = "cuCtxPopCurrent failed: an illegal memory access was encountered"
        raise driver.Error(msg)

    monkeypatch.setattr(session._held.context, "pop", lost)
    monkeypatch.setattr(session._held.context, "detach", lambda: detached.append(True), raising=False)
    session.infer(some_frames())  # what it gives is right
    for call in (lambda: session.infer(some_frames()), lambda: TensorRtSession(b"a plan", TensorRtModule(driver))):
        with pytest.raises(EngineError, match="the GPU is lost: an earlier error has ended its context") as caught:
            call()
        assert "\n" not in str(caught.value)
    session.close()
    assert detached == [True]


def test_sessions_share_the_modules_logger_and_not_its_messages(driver: Driver) -> None:
    """TensorRT warns of every other logger that it is given; and what one session is told is not the other's."""
    module = TensorRtModule(driver)
    with TensorRtSession(b"a plan", module) as first, TensorRtSession(b"a plan", module) as second:
        assert module.loggers[0] is module.loggers[1]
        assert first.warnings == second.warnings == ("Using an engine plan file across different models of devices",)
        module.runs = False
        with pytest.raises(EngineError, match="launch failed"):
            first.infer(some_frames())
        module.loggers[0].log(module.ILogger.WARNING, "of nobody")
        with first._logger.heard(first._messages):
            module.loggers[0].log(module.ILogger.WARNING, "of the first")
            thread = threading.Thread(target=module.loggers[0].log, args=(module.ILogger.WARNING, "of a thread of its own"))
            thread.start()
            thread.join()
        assert first.warnings[1:] == ("of the first", "of a thread of its own")
        assert len(second.warnings) == 1
        assert not second._messages.errors
