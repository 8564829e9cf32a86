"""A stand-in for TensorRT whose engine launches real CUDA kernels: of a session on a GPU, all but TensorRT itself is real.

What TensorRT's library would do, this does through libcuda: load kernels into the current context, launch them on the stream
it is given, and say no where that fails. A plan is JSON (`plan`); logits are sums over the frame that NumPy gives exactly.
"""

from __future__ import annotations

import ctypes
import json
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevit.onnxfile import FEATURES

KERNELS = Path(__file__).with_name("cuda_kernels.ptx")
BLOCK = 128
NOWHERE = 16
"""An address that no allocation has."""
_POINTER, _UINT = ctypes.c_void_p, ctypes.c_uint
_SIGNATURES = {
    "cuModuleLoadData": (ctypes.POINTER(_POINTER), ctypes.c_char_p),
    "cuModuleGetFunction": (ctypes.POINTER(_POINTER), _POINTER, ctypes.c_char_p),
    "cuModuleUnload": (_POINTER,),
    "cuLaunchKernel": (_POINTER, *(_UINT,) * 7, _POINTER, ctypes.POINTER(_POINTER), _POINTER),
    "cuStreamSynchronize": (_POINTER,),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


def plan(
    shape: tuple[int, int, int] = (8, 6, 3), classes: int = 5, *, kernels: int = 3, pause_us: float = 0, features: int = 0
) -> bytes:  # fmt: skip
    """A plan of ``kernels`` launches a frame, one of which takes ``pause_us``, for frames uint8 ``shape``."""
    named = {"shape": shape, "classes": classes, "kernels": kernels, "pause_us": pause_us, "features": features}
    return json.dumps(named).encode()


def expected(engine: bytes, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits [N, classes] of ``frames`` uint8 [N, H, W, 3], by NumPy; exact."""
    what = json.loads(engine)
    flat = frames.reshape(len(frames), -1).astype(np.int64)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % what["classes"])))
    sums = padded.reshape(len(frames), -1, what["classes"]).sum(1)
    return (sums + what["kernels"] - 1).astype(np.float32)


class CudaModule:
    """The Python module ``tensorrt`` as far as a session uses it. ``lost``: the next launch writes to an address of nobody."""

    __name__, __version__ = "stand-in", "10.16.2"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    DataType = SimpleNamespace(UINT8="uint8", FLOAT="float32")
    LayerInformationFormat = SimpleNamespace(JSON="json")

    class IProfiler:
        pass

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    def __init__(self) -> None:
        self.lost = False

    def Runtime(self, logger: Any) -> Any:  # noqa: N802  # TensorRT's own name
        def load(engine: bytes) -> Engine | None:
            try:
                return Engine(self, logger, json.loads(engine))
            except ValueError:
                logger.log(self.ILogger.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magic tag)")
                return None

        return SimpleNamespace(deserialize_cuda_engine=load)


class Engine:
    """A plan, loaded."""

    def __init__(self, module: CudaModule, logger: Any, what: dict[str, Any]) -> None:
        self.module, self.logger, self.what = module, logger, what
        outputs = {"logits": what["classes"]} | ({FEATURES: what["features"]} if what["features"] else {})
        self._io = {"frames": ("input", "uint8", (1, *what["shape"]))}
        self._io |= {name: ("output", "float32", (1, size)) for name, size in outputs.items()}
        self.num_io_tensors = len(self._io)

    def get_tensor_name(self, index: int) -> str:
        return list(self._io)[index]

    def get_tensor_mode(self, name: str) -> str:
        return self._io[name][0]

    def get_tensor_dtype(self, name: str) -> str:
        return self._io[name][1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._io[name][2]

    def create_execution_context(self) -> Execution | None:
        try:
            return Execution(self)
        except OSError as error:
            self.logger.log(CudaModule.ILogger.ERROR, f"IExecutionContext: Error Code 1: Cuda Driver ({error})")
            return None

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": [{"Name": "sums"}]}))


class Execution:
    """An execution context: the kernels of a frame, launched in order on the stream that is given."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._addresses, self._launches = engine, dict[str, int](), list[tuple[str, Any]]()
        self.profiler: Any = None
        self._module = _POINTER()
        _check(_cuda().cuModuleLoadData(ctypes.byref(self._module), KERNELS.read_bytes() + b"\0"))

    def __del__(self) -> None:
        if self._module:
            _cuda().cuModuleUnload(self._module)

    def set_input_shape(self, _name: str, _shape: tuple[int, ...]) -> bool:
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        self._launches.clear()
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if not self._launches or self._engine.module.lost:
            self._launches = list(self._prepared())
        for name, launch in self._launches:
            start = time.perf_counter()
            if code := launch(stream):
                self._engine.logger.log(CudaModule.ILogger.ERROR, f"enqueueV3: Error Code 1: Cuda Runtime ({_text(code)})")
                return False  # TensorRT raises nothing: it logs
            if self.profiler is not None:
                _cuda().cuStreamSynchronize(stream)
                self.profiler.report_layer_time(name, 1e3 * (time.perf_counter() - start))
        return True

    def _prepared(self) -> Any:
        what, u64, u32 = self._engine.what, ctypes.c_uint64, ctypes.c_uint32
        values = int(np.prod(what["shape"]))
        to = NOWHERE if self._engine.module.lost else self._addresses["logits"]
        yield (
            "sums",
            self._launch("sums", what["classes"], u64(self._addresses["frames"]), u64(to), u32(values), u32(what["classes"])),
        )
        if what["features"]:
            address, size = u64(self._addresses[FEATURES]), u32(what["features"])
            yield "features", self._launch("sums", what["features"], u64(self._addresses["frames"]), address, u32(values), size)
        for i in range(1, what["kernels"]):
            yield f"add {i}", self._launch("add_one", what["classes"], u64(to), u32(what["classes"]))
        if what["pause_us"]:
            yield "pause", self._launch("pause", 1, u64(round(1e3 * what["pause_us"])))

    def _launch(self, kernel: str, threads: int, *arguments: Any) -> Any:
        """A call that launches ``kernel`` on a stream, and gives CUDA's error."""
        function = _POINTER()
        _check(_cuda().cuModuleGetFunction(ctypes.byref(function), self._module, kernel.encode()))
        places = (_POINTER * len(arguments))(*(ctypes.cast(ctypes.byref(each), _POINTER) for each in arguments))
        start, blocks, width = _cuda().cuLaunchKernel, -(-threads // BLOCK), min(threads, BLOCK)

        def launch(stream: int, _alive: Any = arguments) -> int:
            return start(function, blocks, 1, 1, width, 1, 1, 0, stream, places, None)

        return launch


@cache
def _cuda() -> Any:
    library = ctypes.CDLL("libcuda.so.1")
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library


def _text(code: int) -> str:
    text = ctypes.c_char_p()
    _cuda().cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown error").decode()


def _check(code: int) -> None:
    if code:
        msg = f"its kernels cannot be loaded: {_text(code)}"
        raise OSError(msg)
