"""The GPU session: on a GPU where there is one, and its bookkeeping on a driver that only keeps books."""

from __future__ import annotations

import json
import sys
import threading
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import MODEL, Manifest, write_bundle
from edgevit.engine import profiling
from edgevit.engine import tensorrt as engines
from edgevit.engine.profiling import layer_times, node_names
from edgevit.engine.tensorrt import TensorRt
from edgevit.engine.tensorrt_log import MOST
from edgevit.engine.tensorrt_session import WARM_UP, TensorRtSession, _gpu
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.preprocess import Preprocessing
from edgevit.report.preflight import examine
from tests.zoo import folded, frames

SHAPE, CLASSES = (8, 6, 3), 5
LAYERS = {"__myl_FcMul_0x1": 0.5, "__myl_Fc_0x2": 0.25, "a reformat": 0.125}
INSPECTED = json.dumps({"Layers": [
    {"Name": "__myl_FcMul_0x1", "Metadata": "[ONNX Layer: blocks.0/norm1/Mul]\x1e[ONNX Layer: blocks.0/qkv/MatMul]"},
    {"Name": "__myl_Fc_0x2", "Metadata": "[ONNX Layer: blocks.0/proj/Add]"},
    {"Name": "a reformat"},
]})  # fmt: skip
FREED = ["free execution context", "free engine", "free runtime", "free stream"]  # in this order, buffers and context after them


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
        self.illness = ""  # what the driver says of work that was queued before
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
        return Freed(self, "stream", handle=7, synchronize=self.synchronize)

    def synchronize(self) -> None:
        self.needs_context("synchronize")
        if self.illness:
            raise self.Error(self.illness)

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

    LayerInformationFormat = SimpleNamespace(JSON="json")

    class IProfiler:
        pass

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def __init__(self, driver: Driver, *, logits: str = "float32", room: bool = True, runs: bool = True) -> None:
        self.driver, self.logits, self.room, self.runs = driver, logits, room, runs

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's own name
        self.logger = logger
        return Freed(self.driver, "runtime", deserialize_cuda_engine=self._engine)

    def _engine(self, plan: bytes) -> Any:
        self.driver.needs_context("deserialize")
        if plan != b"a plan":
            self.logger.log(self.ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1:\n Serialization (magic tag)")
            return None
        for _ in range(2):
            self.logger.log(self.ILogger.WARNING, "Using an engine plan file across different models of devices\n")
        self.logger.log(self.ILogger.INFO, "Loaded engine size: 9 MiB")
        io = {"frames": ("input", "uint8", (1, *SHAPE)), "logits": ("output", self.logits, (1, CLASSES))}
        return Freed(
            self.driver, "engine", num_io_tensors=2, get_tensor_name=lambda i: list(io)[i], get_tensor_mode=lambda n: io[n][0],
            get_tensor_dtype=lambda n: io[n][1], get_tensor_shape=lambda n: io[n][2], create_execution_context=self._context,
            create_engine_inspector=lambda: SimpleNamespace(get_engine_information=lambda _: INSPECTED),
        )  # fmt: skip

    def _context(self) -> Any:
        if not self.room:
            return None
        addresses: dict[str, int] = {}

        def execute(stream: int) -> bool:
            assert stream == 7
            if not self.runs:
                self.logger.log(self.ILogger.ERROR, "enqueueV3: Error Code 1: Cask (launch failed)\n")
                return False  # TensorRT raises nothing: it logs
            regions = self.driver.regions
            source = regions[addresses["frames"]].view(np.uint8).ravel()
            target = regions[addresses["logits"]].view(np.uint8).ravel()
            target[:] = (2.0 * source[:CLASSES]).astype(np.float32).view(np.uint8)
            self.driver.log.append("execute")
            if context().profiler is not None:
                for name, milliseconds in LAYERS.items():
                    context().profiler.report_layer_time(name, milliseconds)
            return True

        made = Freed(
            self.driver, "execution context", set_input_shape=lambda *_: True, set_tensor_address=addresses.__setitem__,
            execute_async_v3=execute, profiler=None,
        )  # fmt: skip
        context = weakref.ref(made)  # a session is what keeps it alive
        return made


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
    assert (logits.dtype, logits.shape) == (np.float32, (2, CLASSES))
    np.testing.assert_array_equal(logits, 2.0 * images.reshape(2, -1)[:, :CLASSES])
    np.testing.assert_array_equal(logits, first)  # a later call does not change them


def test_tensorrts_warnings_are_kept_once(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        assert session.warnings == ("Using an engine plan file across different models of devices",)
        for i in range(10 * MOST):  # for weeks
            session._logger.log(TensorRtModule.ILogger.WARNING, f"frame {i} was late")
            session._logger.log(TensorRtModule.ILogger.ERROR, f"frame {i} was lost")
        assert len(session.warnings) == len(session._logger.errors) == MOST
        assert session._logger.errors[-1] == f"frame {10 * MOST - 1} was lost"


def test_an_integrated_gpu_copies_nothing(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        session.infer(some_frames())
    copies = {"device memory", "to device", "from device", "pinned plain"} & set(driver.log)
    assert copies == (set() if driver.integrated else {"device memory", "to device", "from device", "pinned plain"})


def test_all_is_freed_before_the_context_is_popped(driver: Driver) -> None:
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        session.infer(some_frames())
        driver.log.clear()
    assert driver.log == [*FREED, *([] if driver.integrated else ["free device memory"] * 2), "pop"]
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
        (
            b"garbage",
            {},
            r"and GPU \(IRuntime::.* Error Code 1: Serialization \(magic tag\)\)\. Compile it here: edgevit compile",
        ),
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


@pytest.mark.parametrize("images", [some_frames(3)[::-1], some_frames(3)[..., ::-1], np.asfortranarray(some_frames(3))])
def test_frames_need_not_lie_in_one_piece(driver: Driver, images: np.ndarray) -> None:
    """A camera's are often a view of something larger."""
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        np.testing.assert_array_equal(session.infer(images), 2.0 * images.reshape(3, -1)[:, :CLASSES])


@pytest.mark.parametrize("dtype", ["int8", "float32", "uint16"])
def test_other_types_are_refused(driver: Driver, dtype: str) -> None:
    """Also int8, which is as long as uint8."""
    with (
        TensorRtSession(b"a plan", TensorRtModule(driver)) as session,
        pytest.raises(EngineError, match=rf"expected uint8 frames \(N, 8, 6, 3\), got {dtype} \(2, 8, 6, 3\)"),
    ):
        session.infer(some_frames().astype(dtype))
    assert driver.log.count("execute") == WARM_UP


def test_each_frame_is_waited_for_before_its_logits_are_read(driver: Driver) -> None:
    """The copy back is queued on the same stream: read earlier, the logits are the last frame's."""
    with TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        driver.log.clear()
        session.infer(some_frames(2))
    once = ["execute", "synchronize"] if driver.integrated else ["to device", "execute", "from device", "synchronize"]
    assert driver.log[: 2 * len(once)] == once * 2


def test_an_inference_that_fails_says_so_and_the_session_lives(driver: Driver) -> None:
    module = TensorRtModule(driver)
    with TensorRtSession(b"a plan", module) as session:
        module.runs = False
        with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0: inference failed \(enqueueV3: .* \(launch failed\)\)$"):
            session.infer(some_frames())
        assert not session._logger.errors  # it explains no later failure
        module.runs, driver.illness = True, "cuStreamSynchronize failed: an illegal memory access was encountered"
        with pytest.raises(EngineError, match="inference failed: cuStreamSynchronize failed: an illegal memory access") as caught:
            session.infer(some_frames())
        assert "\n" not in str(caught.value)
        driver.illness = ""
        images = some_frames()
        np.testing.assert_array_equal(session.infer(images), 2.0 * images.reshape(2, -1)[:, :CLASSES])
    assert driver.stack == []


def test_a_first_inference_that_fails_closes_what_was_loaded(driver: Driver) -> None:
    """In the order of every close: each needs the one behind it."""
    with pytest.raises(EngineError, match="inference failed"):
        TensorRtSession(b"a plan", TensorRtModule(driver, runs=False))
    freed = [line for line in driver.log if line.startswith("free") or line == "pop"]
    assert freed == [*FREED, *([] if driver.integrated else ["free device memory"] * 2), "pop"]
    assert driver.stack == []


def test_an_error_inside_the_with_block_closes_the_session(driver: Driver) -> None:
    with pytest.raises(ZeroDivisionError), TensorRtSession(b"a plan", TensorRtModule(driver)) as session:
        raise ZeroDivisionError
    with pytest.raises(EngineError, match="closed"):
        session.infer(some_frames())
    assert driver.log[-1] == "pop"
    assert driver.stack == []


def test_layers_are_timed_under_the_names_of_the_graph(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product of a fused kernel names it; what is of no node keeps its own name; nothing is freed too early."""
    module = TensorRtModule(driver)
    monkeypatch.setattr(engines, "builder_module", lambda _name: module)
    pictures = np.zeros((2, *SHAPE), np.uint8)
    found = layer_times("tensorrt", b"a graph", pictures, threads=None, runs=4, compiled=b"a plan")
    assert [(layer.name, layer.milliseconds) for layer in found] == [
        ("blocks.0/qkv/MatMul", 0.5), ("blocks.0/proj/Add", 0.25), ("a reformat", 0.125),
    ]  # fmt: skip
    assert driver.log.count("execute") == WARM_UP + profiling.WARM_UP + 4
    assert not any(line.endswith("WITHOUT CONTEXT") for line in driver.log)
    assert driver.stack == []


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"Layers": ["a name", "another"]}', '{"Layers": 3}'])
def test_an_inspector_that_says_nothing(text: str) -> None:
    assert node_names(text) == {}


def test_no_memory_on_the_gpu_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = next(installing := installed(Driver(integrated=False, memory=False), monkeypatch))
    with pytest.raises(EngineError, match=r"cannot be loaded: cuMemAlloc failed: out of memory"):
        TensorRtSession(b"a plan", TensorRtModule(fake))
    assert fake.stack == []
    assert fake.log[-5:] == [*FREED, "pop"]  # no device memory: there was none
    next(installing, None)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = next(installing := installed(Driver(integrated=False), monkeypatch))

    def init() -> None:
        msg = "cuInit failed: no CUDA-capable device is detected"
        raise fake.Error(msg)

    monkeypatch.setattr(fake, "init", init)
    with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0: no usable GPU: cuInit failed: no CUDA-capable device"):
        TensorRtSession(b"a plan", TensorRtModule(fake))
    assert fake.log == []
    next(installing, None)


def test_without_pycuda_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgevit\[jetson\]'"):
        TensorRtSession(b"a plan", TensorRtModule(Driver(integrated=True)))


def agree(ours: np.ndarray, reference: np.ndarray) -> None:
    np.testing.assert_allclose(ours, reference, atol=0.02 * np.abs(reference).max())


needs_gpu = pytest.mark.skipif(
    find_spec("pycuda") is None or not TensorRt().runs_here, reason="needs an NVIDIA GPU, TensorRT and pycuda"
)


@pytest.mark.gpu
@needs_gpu
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


@pytest.mark.gpu
@needs_gpu
def test_a_bundle_on_a_gpu(tmp_path: Path) -> None:
    """Compiled into the bundle, opened from it, its plan read from the real inspector; two sessions side by side."""
    from edgevit.engine import open_session
    from edgevit.engine.of_bundle import session_of
    from edgevit.engine.tensorrt import BuildOptions
    from edgevit.ondevice import compile_bundle

    model, plan = folded(), QuantPlan(model=folded())
    images = np.stack(list(frames(model.config, 3)))
    size = model.config.image_size
    manifest = Manifest(
        name="tiny", family="timm", model=asdict(model.config), preprocessing=Preprocessing(size=size, resize=size),
        labels=tuple("01234"), precision="fp16", blocks=(), recipe={"name": "default"}, target={"name": "jetson"},
        engine="tensorrt", provenance={"weights": {"sha256": "0" * 64}}, edgevit="0",
    )  # fmt: skip
    write_bundle(tmp_path / "tiny.edgevit", manifest, {MODEL: write_graph(plan, form_for("tensorrt", "fp16"))})
    bundle, built = compile_bundle(tmp_path / "tiny.edgevit", BuildOptions())
    found = examine(built, blocks=len(model.blocks))
    assert built.inspector is not None
    assert found.plan.kernels, found.warnings
    with open_session("onnxruntime", write_graph(plan)) as reference, session_of(bundle) as first, session_of(bundle) as second:
        kept = first.infer(images)
        agree(kept, reference.infer(images))
        agree(second.infer(images[::-1]), reference.infer(images[::-1]))
        agree(kept, reference.infer(images))
    with pytest.raises(EngineError, match="closed"):
        first.infer(images)
