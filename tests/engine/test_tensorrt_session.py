"""The GPU session: on a GPU where there is one, and its bookkeeping on a driver that only keeps books."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgevit.engine.tensorrt import TensorRt
from edgevit.engine.tensorrt_session import WARM_UP, TensorRtSession, _gpu
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from tests.zoo import folded, frames

SHAPE, CLASSES = (8, 6, 3), 5


class Driver(ModuleType):
    """pycuda.driver as far as a session uses it: memory is numpy's, and every call that matters is written down.

    ``stack`` is the context stack; whatever needs a context while it is empty raises, as pycuda does.
    """

    class Error(Exception):
        pass

    class MemoryError(Error):  # pycuda's own name
        pass

    def __init__(self, *, integrated: bool, memory: bool = True) -> None:
        super().__init__("pycuda.driver")
        self.log: list[str] = []
        self.stack: list[object] = []
        self.regions: dict[int, np.ndarray] = {}
        self.integrated, self.memory, self.retained = integrated, memory, 0
        self.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        self.device_attribute = SimpleNamespace(INTEGRATED="integrated")

    def init(self) -> None:
        pass

    def needs_context(self, what: str) -> None:
        if not self.stack:
            msg = f"{what}: no currently active context?"
            raise self.Error(msg)
        self.log.append(what)

    def Device(self, _index: int) -> Any:  # noqa: N802  # pycuda's own name
        def retain() -> Any:
            self.retained += 1
            context = SimpleNamespace(pop=self.pop)
            context.push = lambda: self.stack.append(context)
            return context

        return SimpleNamespace(name=lambda: "a GPU", get_attribute=lambda _: int(self.integrated), retain_primary_context=retain)

    def pop(self) -> None:
        if not self.stack:
            msg = "cannot pop non-current context"
            raise self.Error(msg)
        self.stack.pop()
        self.log.append("pop")

    def Stream(self) -> Any:  # noqa: N802  # the same
        self.needs_context("new stream")
        return Freed(self, "stream", handle=7, synchronize=lambda: None)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any, *, mem_flags: int) -> Any:
        self.needs_context(f"pinned {'mapped' if mem_flags else 'plain'}")
        array = np.zeros(shape, dtype).view(Pinned)
        array.pointer = 1000 + len(self.regions)
        self.regions[array.pointer] = np.asarray(array)
        return Holder(array, array.pointer)

    def mem_alloc(self, size: int) -> Any:
        self.needs_context("device memory")
        if not self.memory:
            msg = "cuMemAlloc failed: out of memory"
            raise self.MemoryError(msg)
        address = 5000 + len(self.regions)
        self.regions[address] = np.zeros(size, np.uint8)
        return Address(self, address)

    def memcpy_htod_async(self, address: int, source: Any, _stream: Any) -> None:
        self.needs_context("to device")
        self.regions[address][:] = np.asarray(source).view(np.uint8).ravel()

    def memcpy_dtoh_async(self, target: Any, address: int, _stream: Any) -> None:
        self.needs_context("from device")
        np.asarray(target).view(np.uint8).ravel()[:] = self.regions[address]


class Pinned(np.ndarray):
    pointer: int


def Holder(array: Any, pointer: int) -> Any:  # noqa: N802
    """``array`` with a base that knows the address, as pycuda's pinned arrays have."""

    class Based(np.ndarray):
        base = SimpleNamespace(get_device_pointer=lambda: pointer)  # type: ignore[assignment]

    return array.view(Based)


class Freed:
    """Writes down when it is freed, and refuses to be freed without a context."""

    def __init__(self, driver: Driver, what: str, **values: Any) -> None:
        self.driver, self.what = driver, what
        self.__dict__.update(values)

    def __del__(self) -> None:
        self.driver.log.append(f"free {self.what}" if self.driver.stack else f"free {self.what} WITHOUT CONTEXT")


class Address:
    def __init__(self, driver: Driver, value: int) -> None:
        self.driver, self.value = driver, value

    def __int__(self) -> int:
        return self.value

    def free(self) -> None:
        self.driver.needs_context("free device memory")


class TensorRtModule:
    """Logits are the frame's first CLASSES values, doubled: what comes out proves what went in."""

    __name__, __version__ = "tensorrt", "10.3.0"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    DataType = SimpleNamespace(UINT8="uint8", FLOAT="float32", HALF="float16")

    class Logger:
        ERROR = 1

        def __init__(self, _level: int) -> None:
            pass

    def __init__(self, driver: Driver, *, logits: str = "float32", room: bool = True) -> None:
        self.driver, self.logits, self.room = driver, logits, room

    def Runtime(self, _logger: Any) -> Any:  # noqa: N802  # TensorRT's own name
        return Freed(self.driver, "runtime", deserialize_cuda_engine=self._engine)

    def _engine(self, plan: bytes) -> Any:
        self.driver.needs_context("deserialize")
        if plan != b"a plan":
            return None
        io = {"frames": ("input", "uint8", (1, *SHAPE)), "logits": ("output", self.logits, (1, CLASSES))}
        return Freed(
            self.driver, "engine", num_io_tensors=2, get_tensor_name=lambda i: list(io)[i], get_tensor_mode=lambda n: io[n][0],
            get_tensor_dtype=lambda n: io[n][1], get_tensor_shape=lambda n: io[n][2], create_execution_context=self._context,
        )  # fmt: skip

    def _context(self) -> Any:
        if not self.room:
            return None
        addresses: dict[str, int] = {}

        def execute(stream: int) -> bool:
            assert stream == 7
            regions = self.driver.regions
            source = regions[addresses["frames"]].view(np.uint8).ravel()
            target = regions[addresses["logits"]].view(np.uint8).ravel()
            target[:] = (2.0 * source[:CLASSES]).astype(np.float32).view(np.uint8)
            self.driver.log.append("execute")
            return True

        return Freed(
            self.driver, "execution context", set_input_shape=lambda *_: True, set_tensor_address=addresses.__setitem__,
            execute_async_v3=execute,
        )  # fmt: skip


@pytest.fixture(params=[True, False], ids=["integrated", "discrete"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    yield from installed(Driver(integrated=request.param), monkeypatch)


def installed(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    package = ModuleType("pycuda")
    package.driver = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    yield fake
    _gpu.cache_clear()


def some_frames(count: int = 2) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def test_every_frame_goes_in_as_it_is_and_its_logits_come_out(driver: Driver) -> None:
    images = some_frames()
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        logits = session.infer(images)
        assert (session.engine, session.device, session.threads) == ("tensorrt 10.3.0", "a GPU", 1)
        assert driver.log.count("execute") == WARM_UP + 2
        first = logits.copy()
        session.infer(some_frames(1) // 2)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, 2.0 * images.reshape(2, -1)[:, :CLASSES])
    np.testing.assert_array_equal(logits, first)  # a later call does not change them


def test_an_integrated_gpu_copies_nothing(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        session.infer(some_frames())
    copies = {"device memory", "to device", "from device", "pinned plain"} & set(driver.log)
    assert copies == (set() if driver.integrated else {"device memory", "to device", "from device", "pinned plain"})


def test_all_is_freed_before_the_context_is_popped(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        session.infer(some_frames())
        driver.log.clear()
    expected = ["free execution context", "free engine", "free runtime", "free stream"]
    assert driver.log == [*expected, *([] if driver.integrated else ["free device memory"] * 2), "pop"]
    assert driver.stack == []
    session.close()  # a second time is of no effect
    with pytest.raises(EngineError, match="closed"):
        session.infer(some_frames())


def test_sessions_end_in_any_order(driver: Driver) -> None:
    first, second = (TensorRtSession(b"a plan", TensorRtModule(driver)) for _ in range(2))
    first.close()
    second.infer(some_frames())
    second.close()
    assert driver.stack == []
    assert driver.retained == 1


def test_another_threads_session_is_refused(driver: Driver) -> None:
    session = TensorRtSession(b"a plan", TensorRtModule(driver))
    said: list[str] = []

    def elsewhere() -> None:
        for call in (lambda: session.infer(some_frames()), session.close):
            with pytest.raises(EngineError) as caught:
                call()
            said.append(str(caught.value))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(said) == 2
    assert all("belongs to the thread that opened it" in text for text in said)
    session.infer(some_frames())
    session.close()


@pytest.mark.parametrize("shape", [SHAPE, (0, *SHAPE), (1, 6, 8, 3)], ids=["one frame without N", "no frame", "sides exchanged"])
def test_other_shapes_are_refused(driver: Driver, shape: tuple[int, ...]) -> None:
    with (
        TensorRtSession(b"a plan", TensorRtModule(driver)) as session,
        pytest.raises(EngineError, match=r"expected uint8 frames \(N, 8, 6, 3\), got uint8"),
    ):
        session.infer(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("plan", "options", "message"),
    [
        (b"garbage", {}, r"no engine for this TensorRT and GPU\. Compile it here: edgevit compile"),
        (b"a plan", {"logits": "float16"}, "not edgevit's"),
        (b"a plan", {"room": False}, "finds no room in memory"),
    ],
)
def test_what_cannot_be_loaded_is_refused_and_leaves_nothing(
    driver: Driver, plan: bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        TensorRtSession(plan, TensorRtModule(driver, **options))
    assert "\n" not in str(caught.value)
    assert driver.stack == []
    assert not [line for line in driver.log if "WITHOUT CONTEXT" in line]


def test_no_memory_on_the_gpu_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = next(installing := installed(Driver(integrated=False, memory=False), monkeypatch))
    with pytest.raises(EngineError, match=r"cannot be loaded: cuMemAlloc failed: out of memory"):
        TensorRtSession(b"a plan", TensorRtModule(fake))
    assert fake.stack == []
    next(installing, None)


def test_without_pycuda_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgevit\[jetson\]'"):
        TensorRtSession(b"a plan", TensorRtModule(Driver(integrated=True)))


def agree(ours: np.ndarray, reference: np.ndarray) -> None:
    np.testing.assert_allclose(ours, reference, atol=0.02 * np.abs(reference).max())


@pytest.mark.gpu
@pytest.mark.skipif(find_spec("pycuda") is None or not TensorRt().runs_here, reason="needs an NVIDIA GPU, TensorRT and pycuda")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu(precision: str) -> None:
    """Real TensorRT against ONNX Runtime on the CPU."""
    from edgevit.engine import open_session

    model, plan = folded(), QuantPlan(model=folded())
    images = np.stack(list(frames(model.config, 3)))
    engine = TensorRt().compile(write_graph(plan, form_for("tensorrt", precision)))
    with TensorRt().load(engine) as session, open_session("onnxruntime", write_graph(plan)) as reference:
        agree(session.infer(images), reference.infer(images))
        agree(session.infer(images[::-1]), reference.infer(images[::-1]))
    with pytest.raises(EngineError, match="no engine for this TensorRT and GPU"):
        TensorRt().load(engine[: len(engine) // 2])
