"""A compiled TensorRT engine on the GPU, through pycuda.

The primary context is used, the one that CUDA's runtime and other libraries share, and one thread owns
it: the one that opens the session. Host buffers are pinned; on an integrated GPU they are mapped into its
address space and nothing is copied. There is no CUDA graph: pycuda has no call to capture one, and a second
CUDA binding for it would be one more thing to keep alive on a board.
"""

from __future__ import annotations

import threading
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine.base import cause
from edgevit.engine.tensorrt_log import keeper
from edgevit.errors import EngineError, needs_extra

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgevit.engine.base import Frames, Logits

WARM_UP = 3  # inferences before the first that counts: lazy loading, clocks


@cache
def _gpu(cuda: Any) -> tuple[Any, Any]:
    """The first GPU and its primary context, retained once: sessions push and pop it in whatever order they begin and end.

    One retained per session would be popped by another's `close`, and pycuda leaves a context that it detaches
    on the driver's stack.
    """
    cuda.init()
    device = cuda.Device(0)
    return device, device.retain_primary_context()


class _Buffer:
    """One tensor's memory: pinned on the host, and where the GPU sees it."""

    def __init__(self, cuda: Any, shape: tuple[int, ...], dtype: Any, *, mapped: bool) -> None:
        self.mapped = mapped
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: Any = cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        self.memory: Any = None if mapped else cuda.mem_alloc(self.host.nbytes)
        address: Any = self.host.base.get_device_pointer() if mapped else self.memory
        self.address = int(address)

    def free(self) -> None:
        if self.memory is not None:
            self.memory.free()
        self.host = self.memory = None


class TensorRtSession:
    """See `edgevit.engine.base.Session`. Use it from the thread that made it, as a context manager."""

    threads = 1

    def __init__(self, engine: bytes, module: Any) -> None:
        with needs_extra("jetson"):
            import pycuda.driver as cuda
        self.engine = f"{module.__name__} {module.__version__}"
        self._module, self._cuda, self._owner, self._open = module, cuda, threading.get_ident(), False
        try:
            device, self._context = _gpu(cuda)
            self.device = device.name()
            mapped = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
            self._context.push()
        except cuda.Error as error:
            msg = f"{self.engine}: no usable GPU: {cause(error)}"
            raise EngineError(msg) from error
        self._open, self._buffers = True, list[_Buffer]()
        try:
            self._load(engine, module, mapped)
        except cuda.Error as error:
            self.close()
            msg = f"{self.engine}: the engine cannot be loaded: {cause(error)}. If that is memory, close other programs"
            raise EngineError(msg) from error
        except BaseException:
            self.close()
            raise

    def _load(self, engine: bytes, module: Any, mapped: bool) -> None:
        self._logger = keeper(module)
        self._runtime = module.Runtime(self._logger)
        self._plan = self._runtime.deserialize_cuda_engine(engine)
        if self._plan is None:
            msg = f"{self.engine}: no engine for this TensorRT and GPU{self._said()}. Compile it here: edgevit compile BUNDLE"
            raise EngineError(msg)
        self._execution = self._plan.create_execution_context()
        if self._execution is None:
            msg = f"{self.engine}: the engine finds no room in memory{self._said()}. Close other programs"
            raise EngineError(msg)
        self._stream = self._cuda.Stream()
        names = [self._plan.get_tensor_name(i) for i in range(self._plan.num_io_tensors)]
        found = {(self._plan.get_tensor_mode(name), self._plan.get_tensor_dtype(name)): name for name in names}
        wanted = ((module.TensorIOMode.INPUT, module.DataType.UINT8), (module.TensorIOMode.OUTPUT, module.DataType.FLOAT))
        if len(names) != len(wanted) or set(found) != set(wanted):  # its bytes would be read as what they are not
            msg = f"{self.engine}: this engine is not edgevit's: those take frames of uint8 and give logits of float32"
            raise EngineError(msg)
        source, sink = (found[kind] for kind in wanted)
        self.shape = tuple(self._plan.get_tensor_shape(source))[1:]
        self._execution.set_input_shape(source, (1, *self.shape))
        self._input = self._buffer(source, (1, *self.shape), np.uint8, mapped)
        self._output = self._buffer(sink, (1, *tuple(self._plan.get_tensor_shape(sink))[1:]), np.float32, mapped)
        for _ in range(WARM_UP):
            self._once(np.zeros(self.shape, np.uint8))

    @property
    def warnings(self) -> tuple[str, ...]:
        """TensorRT's so far, each once: that an engine is of another GPU model, that lazy loading is off."""
        return tuple(self._logger.warnings)

    def warn(self, text: str) -> None:
        """See `edgevit.engine.base.Session.warn`."""
        self._logger.warnings.append(text)

    def _said(self) -> str:
        """TensorRT's last error, in brackets; nothing if it gave none."""
        said = " ".join(self._logger.errors[-1].split()) if self._logger.errors else ""
        self._logger.errors.clear()  # the next failure is not explained by this one
        return f" ({said})" if said else ""

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: Any, mapped: bool) -> _Buffer:
        buffer = _Buffer(self._cuda, shape, dtype, mapped=mapped)
        self._buffers.append(buffer)
        self._execution.set_tensor_address(name, buffer.address)
        return buffer

    def infer(self, frames_bgr: Frames) -> Logits:
        """See `edgevit.engine.base.Session.infer`."""
        if not self._open:
            msg = f"{self.engine}: this session is closed; load the bundle again"
            raise EngineError(msg)
        if threading.get_ident() != self._owner:
            msg = f"{self.engine}: this session belongs to the thread that opened it; open another one here"
            raise EngineError(msg)
        if frames_bgr.dtype.name != "uint8" or frames_bgr.ndim != 4 or frames_bgr.shape[1:] != self.shape or not len(frames_bgr):
            expected = ", ".join(map(str, self.shape))
            msg = f"{self.engine}: expected uint8 frames (N, {expected}), got {frames_bgr.dtype} {frames_bgr.shape}"
            raise EngineError(msg)
        return np.concatenate([self._once(frame) for frame in frames_bgr])

    def _once(self, frame: Any) -> Logits:
        np.copyto(self._input.host[0], frame)
        try:
            if not self._input.mapped:
                self._cuda.memcpy_htod_async(self._input.address, self._input.host, self._stream)
            if not self._execution.execute_async_v3(self._stream.handle):
                msg = f"{self.engine}: inference failed{self._said()}"
                raise EngineError(msg)
            if not self._output.mapped:
                self._cuda.memcpy_dtoh_async(self._output.host, self._output.address, self._stream)
            self._stream.synchronize()
        except self._cuda.Error as error:
            msg = f"{self.engine}: inference failed: {cause(error)}"
            raise EngineError(msg) from error
        logits: Logits = self._output.host.copy()
        return logits

    def profile(self, frames_bgr: Frames, runs: int) -> dict[str, list[float]]:
        """Milliseconds of every layer in ``runs`` inferences of ``frames_bgr`` uint8 [N, H, W, 3], by TensorRT's profiler."""
        times: dict[str, list[float]] = {}

        class Profiler(self._module.IProfiler):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        profiler = Profiler()
        self._execution.profiler = profiler  # while one is set, every inference waits for its layers' times
        for i in range(runs):
            self._once(frames_bgr[i % len(frames_bgr)])
        # It cannot be taken off again: TensorRT keeps a pointer to it, so it lives as long as what points there.
        self._profiler = profiler
        return times

    def inspect(self) -> str:
        """The engine inspector's JSON: layers, and what of the graph is in them."""
        inspector = self._plan.create_engine_inspector()
        text: str = inspector.get_engine_information(self._module.LayerInformationFormat.JSON)
        return text

    def close(self) -> None:
        """Free what TensorRT holds, then the buffers, then the context: each needs the one behind it."""
        if not self._open:
            return
        if threading.get_ident() != self._owner:
            msg = f"{self.engine}: this session belongs to the thread that opened it; close it there"
            raise EngineError(msg)
        self._open = False
        for name in ("_execution", "_profiler", "_plan", "_runtime", "_stream"):
            self.__dict__.pop(name, None)
        for buffer in self._buffers:
            buffer.free()
        self._buffers.clear()
        self._context.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
