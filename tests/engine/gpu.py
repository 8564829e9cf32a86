"""A GPU that only keeps books: pycuda, TensorRT and the part of libcuda that captures graphs, as far as sessions use them."""

from __future__ import annotations

import json
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgevit.engine.cuda_graph import CudaGraphError
from edgevit.engine.cuda_memory import first_gpu

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
        self.captured: list[Callable[[], None]] | None = None  # while a stream captures, what it is given
        self.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        self.device_attribute = SimpleNamespace(INTEGRATED="integrated")

    def init(self) -> None:
        pass

    def queued(self, what: str, work: Callable[[], None]) -> None:
        """Work on the stream: done at once, or, while it captures, written down."""
        self.needs_context(f"captured {what}" if self.captured is not None else what)
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

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
        return Freed(self, "stream", handle=7, synchronize=self.synchronize, is_done=self.is_done)

    def synchronize(self) -> None:
        assert self.captured is None, "a capturing stream must not be waited for"
        self.needs_context("synchronize")
        if self.illness:
            raise self.Error(self.illness)

    def is_done(self) -> bool:
        if self.illness:
            raise self.Error(self.illness)
        return True

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
        def copy() -> None:
            self.regions[address][:] = np.asarray(source).view(np.uint8).ravel()

        self.queued("to device", copy)

    def memcpy_dtoh_async(self, target: Any, address: int, _stream: Any) -> None:
        def copy() -> None:
            np.asarray(target).view(np.uint8).ravel()[:] = self.regions[address]

        self.queued("from device", copy)


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

    def __init__(
        self, driver: Driver, *, logits: str = "float32", room: bool = True, runs: bool = True, captures: bool = True,
        launching: float = 0.0,
    ) -> None:  # fmt: skip
        """``launching`` is how many seconds the CPU takes to launch all kernels, which a graph spares."""
        self.driver, self.logits, self.room, self.runs = driver, logits, room, runs
        self.captures, self.launching, self.loggers = captures, launching, list[Any]()

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's own name
        self.logger = logger
        self.loggers.append(logger)
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
            if not self.runs or (self.driver.captured is not None and not self.captures):
                self.logger.log(self.ILogger.ERROR, "enqueueV3: Error Code 1: Cask (launch failed)\n")
                return False  # TensorRT raises nothing: it logs
            time.sleep(self.launching)
            self.driver.queued("execute", compute)
            if context().profiler is not None:
                assert self.driver.captured is None, "no capture while a profiler is set"
                for name, milliseconds in LAYERS.items():
                    context().profiler.report_layer_time(name, milliseconds)
            return True

        def compute() -> None:
            regions = self.driver.regions
            source = regions[addresses["frames"]].view(np.uint8).ravel()
            target = regions[addresses["logits"]].view(np.uint8).ravel()
            target[:] = (2.0 * source[:CLASSES]).astype(np.float32).view(np.uint8)

        made = Freed(
            self.driver, "execution context", set_input_shape=lambda *_: True, set_tensor_address=addresses.__setitem__,
            execute_async_v3=execute, profiler=None,
        )  # fmt: skip
        context = weakref.ref(made)  # a session is what keeps it alive
        return made


class LibCuda:
    """libcuda as far as graphs are captured with it; ``fails`` names a call that gives error 900.

    A launch runs what was captured, each with what its addresses then hold; ``wrong`` makes it run nothing.
    """

    def __init__(self, driver: Driver, *, fails: str = "", wrong: bool = False) -> None:
        self.driver, self.fails, self.wrong = driver, fails, wrong
        self.graphs: dict[int, list[Callable[[], None]]] = {}

    def _done(self, name: str) -> int:
        self.driver.needs_context(name)
        return 900 if name == self.fails else 0

    def cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:  # noqa: N802  # CUDA's own name, here and below
        assert (stream, mode) == (7, 1), "not the default stream, and of this thread alone"
        if not (code := self._done("begin capture")):
            self.driver.captured = []
        return code

    def cuStreamEndCapture(self, _stream: int, graph: Any) -> int:  # noqa: N802
        work, self.driver.captured = self.driver.captured, None
        assert work is not None
        if not (code := self._done("end capture")):
            graph._obj.value = 100 + len(self.graphs)
            self.graphs[graph._obj.value] = work
        return code

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: int) -> int:  # noqa: N802
        assert flags == 0
        if not (code := self._done("instantiate")):
            executable._obj.value = 1000 + graph.value
            self.graphs[1000 + graph.value] = self.graphs[graph.value]
        return code

    def cuGraphLaunch(self, executable: Any, stream: int) -> int:  # noqa: N802
        assert stream == 7
        if not (code := self._done("launch")) and not self.wrong:
            for work in self.graphs[executable.value]:
                work()
        return code

    def cuGraphDestroy(self, graph: Any) -> int:  # noqa: N802
        del self.graphs[graph.value]
        return self._done("free graph")

    def cuGraphExecDestroy(self, executable: Any) -> int:  # noqa: N802
        del self.graphs[executable.value]
        return self._done("free executable graph")

    def cuGetErrorString(self, _code: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"operation not permitted when stream is capturing"
        return 0


def installed(fake: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    def no_library() -> Any:
        msg = "no CUDA driver: libcuda.so.1"
        raise CudaGraphError(msg)

    monkeypatch.setattr("edgevit.engine.cuda_graph.libcuda", no_library)  # nothing is ever captured on a real GPU
    package = ModuleType("pycuda")
    package.driver = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    yield fake
    first_gpu.cache_clear()


def some_frames(count: int = 2) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)
