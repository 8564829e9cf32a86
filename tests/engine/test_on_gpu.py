"""A session on a real GPU: contexts, streams, buffers, graphs and faults, with a stand-in for TensorRT alone.

These run wherever there is an NVIDIA GPU and pycuda, with or without TensorRT: what is computed is exact, and known from NumPy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgevit.device.gpu import gpu
from edgevit.engine import tensorrt_session
from edgevit.engine.cuda_memory import first_gpu
from edgevit.engine.tensorrt_session import TensorRtSession
from edgevit.errors import EngineError
from tests.engine.cuda_engine import CudaModule, expected, plan
from tests.support import ROOT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(gpu() is None or find_spec("pycuda") is None, reason="needs an NVIDIA GPU and pycuda"),
]
SHAPE, CLASSES = (224, 224, 3), 1000
LIKE_A_VIT = plan(SHAPE, CLASSES, kernels=100)

BEGIN = """
import os, sys
import numpy as np
from edgevit.engine.tensorrt_session import TensorRtSession
from edgevit.errors import EngineError
from tests.engine.cuda_engine import CudaModule, expected, plan
module, engine = CudaModule(), plan(kernels=4)
images = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
"""


def some(count: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """``code`` in a process of its own: an error that ends a context ends it for the whole process."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", BEGIN + code]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def in_threads(*work: Callable[[], Any]) -> None:
    """Each in a thread of its own, at once; the first exception is raised here."""
    errors: list[BaseException] = []

    def guarded(call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture(params=["copied", "mapped"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Also the buffers of an integrated GPU, which a discrete one reads over the bus."""
    from pycuda import driver

    device, context = first_gpu(driver)
    wanted = int(request.param == "mapped")
    told = SimpleNamespace(name=device.name, get_attribute=lambda _: wanted)
    monkeypatch.setattr(tensorrt_session, "first_gpu", lambda _cuda: (told, context))
    return request.param


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "plain"])
def test_logits_are_the_frames(memory: str, graph: bool) -> None:
    """Of every frame and of none but it, with a graph and without, copied or read where they are."""
    with TensorRtSession(LIKE_A_VIT, CudaModule(), graph=graph) as session:
        assert session._input.mapped == (memory == "mapped")
        for images in (some(3), some(1), some(4)[::-1], some(2)[..., ::-1]):
            np.testing.assert_array_equal(session.infer(images), expected(LIKE_A_VIT, images))
        assert session.graph.used or not graph or session.graph.reason == "not used: it is not faster"
        assert not session.warnings


def test_a_hundred_launches_are_captured() -> None:
    """The graph is right; whether it is faster is the machine's to say, and what is said of it holds together."""
    with TensorRtSession(LIKE_A_VIT, CudaModule()) as session:
        assert session.graph.with_ms is not None, session.graph.reason
        assert session.graph.without_ms is not None
        assert session.graph.used == (session.graph.with_ms < session.graph.without_ms)


def test_features_come_with_the_logits() -> None:
    engine, images = plan(kernels=2, features=3), some(2, (8, 6, 3))
    with TensorRtSession(engine, CudaModule()) as session:
        np.testing.assert_array_equal(session.infer(images), expected(engine, images))
        assert session.features is not None
        np.testing.assert_array_equal(session.features, expected(plan(classes=3, kernels=1), images))


def test_any_thread_may_use_and_close_it() -> None:
    images, session = some(2), TensorRtSession(LIKE_A_VIT, CudaModule())
    for _ in range(3):
        in_threads(lambda: np.testing.assert_array_equal(session.infer(images), expected(LIKE_A_VIT, images)))
    in_threads(session.close)
    with pytest.raises(EngineError, match="closed"):
        session.infer(images)


def test_sessions_do_not_mix() -> None:
    """Eight at once, each on a thread of its own, opened, used and closed there."""

    def work(seed: int) -> None:
        engine, images = plan((16, 16, 3), 10 + seed, kernels=20), some(20 + seed, (16, 16, 3))
        with TensorRtSession(engine, CudaModule()) as session:
            for _ in range(5):
                np.testing.assert_array_equal(session.infer(images), expected(engine, images))

    in_threads(*(lambda seed=seed: work(seed) for seed in range(8)))


def test_two_streams_overlap() -> None:
    """Waiting for one frame keeps no other thread from its own: twice the work in less than 1.7 times the time."""
    engine, images = plan(pause_us=4000), some(25, (8, 6, 3))
    with TensorRtSession(engine, CudaModule()) as first, TensorRtSession(engine, CudaModule()) as second:
        start = time.perf_counter()
        first.infer(images)
        one = time.perf_counter() - start
        assert one > 25 * 0.004
        start = time.perf_counter()
        in_threads(lambda: first.infer(images), lambda: second.infer(images))
        assert time.perf_counter() - start < 1.7 * one


def test_torch_keeps_its_context() -> None:
    """Both use the primary one: before, between and after a session torch computes what it computed."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    left = torch.arange(64 * 64, device="cuda", dtype=torch.float32).reshape(64, 64) / 4096
    wanted, images = (left @ left).cpu(), some(2)
    with TensorRtSession(LIKE_A_VIT, CudaModule()) as session:
        for _ in range(3):
            assert torch.equal((left @ left).cpu(), wanted)
            np.testing.assert_array_equal(session.infer(images), expected(LIKE_A_VIT, images))
    assert torch.equal((left @ left).cpu(), wanted)


def test_a_capture_bears_what_other_threads_allocate() -> None:
    """Capture is of this thread alone: memory that another one takes meanwhile does not end it."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    done = threading.Event()

    def allocating() -> None:
        while not done.is_set():
            torch.empty(2**22, device="cuda")
            torch.cuda.empty_cache()  # gives it back, so that the next one is taken from the driver

    def opening() -> None:
        try:
            for _ in range(10):
                with TensorRtSession(LIKE_A_VIT, CudaModule()) as session:
                    assert session.graph.with_ms is not None, session.graph.reason
        finally:
            done.set()

    in_threads(allocating, opening)


def test_every_kernel_is_timed() -> None:
    images = some(2, (8, 6, 3))
    engine = plan(kernels=3, pause_us=2000)
    with TensorRtSession(engine, CudaModule()) as session:
        times = session.profile(images, 4)
        assert {name: len(values) for name, values in times.items()} == {"sums": 4, "add 1": 4, "add 2": 4, "pause": 4}
        assert min(times["pause"]) > 1.9
        np.testing.assert_array_equal(session.infer(images), expected(engine, images))


def test_a_plan_that_cannot_be_loaded() -> None:
    with pytest.raises(EngineError, match=r"no engine for this TensorRT and GPU \(IRuntime::.*magic tag\)\)"):
        TensorRtSession(b"garbage", CudaModule())


def test_an_illegal_access_is_one_clear_line() -> None:
    """It ends the context: what follows fails too, closing says nothing, and the process ends as ever."""
    done = alone("""
session = TensorRtSession(engine, module, graph=False)
assert (session.infer(images) == expected(engine, images)).all()
module.lost = True
for _ in range(2):
    try:
        session.infer(images)
    except EngineError as error:
        print(error)
session.close()
try:
    TensorRtSession(engine, CudaModule())
except EngineError as error:
    print(error)
print("end")
""")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 4, done
    assert "stand-in 10.16.2: inference failed" in lines[0]
    assert "illegal memory access" in lines[0]
    assert done.stderr == ""


def test_no_memory_on_the_gpu_is_one_clear_line() -> None:
    """And none of it is kept: once others have given theirs back, the same session opens."""
    done = alone("""
import pycuda.driver as cuda
from edgevit.engine.cuda_memory import current, first_gpu
_, context = first_gpu(cuda)
TensorRtSession(engine, module).close()                 # what CUDA loads lazily is loaded
large, taken = plan((4096, 4096, 3), 50_000), []
with current(context):
    size = 2 ** 36
    while size >= 2 ** 21:
        try:
            taken.append(cuda.mem_alloc(size))
        except cuda.MemoryError:
            size //= 2
try:
    TensorRtSession(large, module)
except EngineError as error:
    print(error)
with current(context):
    for each in taken:
        each.free()
with TensorRtSession(large, module) as session:
    frame = np.full((1, 4096, 4096, 3), 1, np.uint8)
    assert (session.infer(frame) == expected(large, frame)).all()
print("end")
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2, done
    assert "out of memory" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "session.close()", "del session", "session.itself = session"])
def test_a_process_ends_as_it_should(ending: str) -> None:
    """With a session that is open, closed, gone, or part of a cycle; 134 would be pycuda's abort()."""
    done = alone(f"session = TensorRtSession(engine, module)\nsession.infer(images)\n{ending}\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_that_ends_leaves_its_session() -> None:
    done = alone("""
import threading
kept = []
thread = threading.Thread(target=lambda: kept.append(TensorRtSession(engine, module)))
thread.start(); thread.join()
assert (kept[0].infer(images) == expected(engine, images)).all()
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_ends_as_it_should() -> None:
    """It has copies of handles that are its parent's, whose session goes on."""
    done = alone("""
session = TensorRtSession(engine, module)
if os.fork() == 0:
    sys.exit(0)                          # with all that Python does at its end
print(os.waitstatus_to_exitcode(os.wait()[1]))
assert (session.infer(images) == expected(engine, images)).all()
""")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert done.stderr == ""
