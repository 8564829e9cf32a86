"""A compiled TensorRT engine on the GPU, through pycuda.

The primary context is used, the one that CUDA's runtime and other libraries share, and is current only while a call
lasts. So a session may be used and closed by any thread, one at a time; what nobody closes is closed when it is collected,
or at exit. Host buffers are pinned; on an integrated GPU they are mapped into its address space and nothing is copied.
A frame's work is replayed as a CUDA graph where that gives the same logits in less time.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine.base import GraphUse, cause, closed, require_frames
from edgevit.engine.cuda_graph import CudaGraph, CudaGraphError, capture
from edgevit.engine.cuda_memory import Buffer, GpuLostError, current, first_gpu, never_freed
from edgevit.engine.tensorrt_log import Messages, logger_of
from edgevit.errors import EngineError, needs_extra
from edgevit.onnxfile import FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from edgevit.engine.base import Frames, Logits

WARM_UP = 3  # inferences before the first that counts: lazy loading, clocks
ROUNDS = 20  # inferences with and without the graph, in turns, at most
SECONDS = 0.2  # that these may take, so that a start does not wait for a large model
SAME = 1e-3  # of the largest logit: by how much two executions of one plan may differ
PATIENCE = 10.0  # seconds that closing waits for an inference of another thread
NOT_ASKED = "off: --no-graph, or graph=False"


class _Held:
    """What a session holds on the GPU. Apart from it, so that it can be freed once the session is gone."""

    def __init__(self, cuda: Any, context: Any) -> None:
        self.cuda, self.context, self.process = cuda, context, os.getpid()
        self.lock = threading.Lock()
        self.graph: CudaGraph | None = None
        self.execution: Any = None
        self.plan: Any = None
        self.runtime: Any = None
        self.stream: Any = None
        self.buffers: list[Buffer] = []

    def free(self) -> None:
        """The graph, what TensorRT holds, the stream, the buffers: each needs the one behind it, and all the context."""
        if os.getpid() != self.process:  # a forked child has a copy of the handles and nothing of what they stand for
            self.abandon()
            return
        if not self.lock.acquire(timeout=PATIENCE):  # a thread that hangs in an inference must not keep the process from its end
            self.abandon()
            return
        try:
            with current(self.context):
                if self.stream is not None:
                    self.stream.is_done()  # raises what ended the context: nothing can be freed then, and pycuda complains of it
                self.drop_graph()
                for name in ("execution", "plan", "runtime", "stream"):
                    setattr(self, name, None)
                for buffer in self.buffers:
                    buffer.free()
                self.buffers.clear()
        except (self.cuda.Error, GpuLostError):  # the GPU is lost, and all of this with it
            self.abandon()
        finally:
            self.lock.release()

    def abandon(self) -> None:
        """Leave all to the driver, which frees it with the process: pycuda's destructors would end the process with abort()."""
        never_freed(self, self.execution, self.plan, self.runtime, self.stream, *self.buffers)

    def drop_graph(self) -> None:
        """Free the graph, if there is one."""
        if self.graph is not None:
            self.graph.close()
            self.graph = None


class TensorRtSession:
    """See `edgevit.engine.base.Session`. Any thread may use it, one at a time."""

    threads = 1
    batch = 1
    features: NDArray[np.float32] | None = None

    def __init__(self, engine: bytes, module: Any, *, graph: bool = True) -> None:
        """Load ``engine``, which TensorRT's Python ``module`` compiled, as bytes; ``graph`` allows a CUDA graph.

        Raises EngineError if it is not for this GPU and TensorRT or finds no memory, MissingPackageError without pycuda.
        """
        with needs_extra("jetson"):
            import pycuda.driver as cuda
        self.engine = f"{module.__name__} {module.__version__}"
        self._module, self._logger, self._messages = module, logger_of(module), Messages()
        try:
            device, context = first_gpu(cuda)
            self.device = device.name()
            mapped = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        except cuda.Error as error:
            msg = f"{self.engine}: no usable GPU: {cause(error)}"
            raise EngineError(msg) from error
        self._held = _Held(cuda, context)
        # Also where an exception or a notebook keeps the session, and at exit, before pycuda and TensorRT are unloaded.
        self._closing = weakref.finalize(self, self._held.free)
        try:
            with self._on_the_gpu():
                self._load(engine, mapped)
                self.graph = self._with_graph() if graph else GraphUse(used=False, reason=NOT_ASKED)
        except cuda.Error as error:
            self.close()
            msg = f"{self.engine}: the engine cannot be loaded: {cause(error)}. If that is memory, close other programs"
            raise EngineError(msg) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _on_the_gpu(self) -> Iterator[None]:
        with self._held.lock, ExitStack() as stack:
            if not self._closing.alive:
                raise EngineError(closed(self.engine))
            try:
                stack.enter_context(current(self._held.context))
            except (self._held.cuda.Error, GpuLostError) as error:
                msg = f"{self.engine}: the GPU is lost: {cause(error)}. Start the program again"
                raise EngineError(msg) from error
            with self._logger.heard(self._messages):
                yield

    def _load(self, engine: bytes, mapped: bool) -> None:
        held, module = self._held, self._module
        held.runtime = module.Runtime(self._logger)
        held.plan = held.runtime.deserialize_cuda_engine(engine)
        if held.plan is None:
            msg = f"{self.engine}: no engine for this TensorRT and GPU{self._said()}. Compile it here: edgevit compile BUNDLE"
            raise EngineError(msg)
        held.execution = held.plan.create_execution_context()
        if held.execution is None:
            msg = f"{self.engine}: the engine finds no room in memory{self._said()}. Close other programs"
            raise EngineError(msg)
        held.stream = held.cuda.Stream()
        names = [held.plan.get_tensor_name(i) for i in range(held.plan.num_io_tensors)]
        found = {name: (held.plan.get_tensor_mode(name), held.plan.get_tensor_dtype(name)) for name in names}
        sources, sinks = ([name for name, (mode, _) in found.items() if (mode == module.TensorIOMode.INPUT) is taken]
                          for taken in (True, False))  # fmt: skip
        sinks.sort(key=FEATURES.__eq__)  # logits first
        types = [found[name][1] for name in (*sources, *sinks)]
        right = len(sources) == 1 and len(sinks) == (2 if FEATURES in sinks else 1)
        if not right or types != [module.DataType.UINT8] + [module.DataType.FLOAT] * len(sinks):  # bytes would be misread
            msg = f"{self.engine}: this engine is not edgevit's: those take frames of uint8 and give logits of float32"
            raise EngineError(msg)
        (source,) = sources
        self.shape = tuple(held.plan.get_tensor_shape(source))[1:]
        held.execution.set_input_shape(source, (1, *self.shape))
        self._input = self._buffer(source, (1, *self.shape), np.uint8, mapped)
        self._outputs = [
            self._buffer(name, (1, *tuple(held.plan.get_tensor_shape(name))[1:]), np.float32, mapped) for name in sinks
        ]
        for _ in range(WARM_UP):
            self._once(np.zeros(self.shape, np.uint8), self._enqueue)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: Any, mapped: bool) -> Buffer:
        buffer = Buffer(self._held.cuda, shape, dtype, mapped=mapped)
        self._held.buffers.append(buffer)
        self._held.execution.set_tensor_address(name, buffer.address)
        return buffer

    @property
    def warnings(self) -> tuple[str, ...]:
        """TensorRT's so far, each once: that an engine is of another GPU model, that lazy loading is off."""
        return tuple(self._messages.warnings)

    def warn(self, text: str) -> None:
        """See `edgevit.engine.base.Session.warn`."""
        self._messages.warnings.append(text)

    def _said(self) -> str:
        """TensorRT's last error, in brackets; nothing if it gave none."""
        said = " ".join(self._messages.errors[-1].split()) if self._messages.errors else ""
        self._messages.errors.clear()  # the next failure is not explained by this one
        return f" ({said})" if said else ""

    def infer(self, frames_bgr: Frames) -> Logits:
        """See `edgevit.engine.base.Session.infer`."""
        with self._on_the_gpu():
            require_frames(self.engine, frames_bgr, self.shape)
            queue = self._enqueue if self._held.graph is None else self._replay
            logits, *more = map(np.concatenate, zip(*(self._once(frame, queue) for frame in frames_bgr), strict=True))
            self.features = more[0] if more else None
            return logits

    def _once(self, frame: Any, queue: Callable[[], None]) -> list[NDArray[np.float32]]:
        """Logits [1, classes] of one frame, and features if the engine gives them, by what ``queue`` gives the stream to do."""
        np.copyto(self._input.host[0], frame)
        try:
            queue()
            self._held.stream.synchronize()
        except (self._held.cuda.Error, CudaGraphError) as error:
            msg = f"{self.engine}: inference failed: {cause(error)}"
            raise EngineError(msg) from error
        return [output.host.copy() for output in self._outputs]

    def _enqueue(self) -> None:
        """A frame's work, in order: the copies are captured, too, as their addresses stay."""
        held = self._held
        if not self._input.mapped:
            held.cuda.memcpy_htod_async(self._input.address, self._input.host, held.stream)
        if not held.execution.execute_async_v3(held.stream.handle):
            msg = f"{self.engine}: inference failed{self._said()}"
            raise EngineError(msg)
        for output in self._outputs:
            if not output.mapped:
                held.cuda.memcpy_dtoh_async(output.host, output.address, held.stream)

    def _replay(self) -> None:
        assert self._held.graph is not None
        self._held.graph.launch(self._held.stream.handle)

    def _with_graph(self) -> GraphUse:
        """Capture a frame's work; the graph is kept if it gives the same logits in less time."""
        held = self._held
        try:
            held.graph = capture(held.stream.handle, self._enqueue)
            found = self._compared()
        except (CudaGraphError, EngineError, held.cuda.Error) as error:
            found = GraphUse(used=False, reason=f"none: {cause(error)}")
        if not found.used:
            held.drop_graph()
        return found

    def _compared(self) -> GraphUse:
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (2, *self.shape), np.uint8)
        # One frame behind the other: a graph that does nothing would be right wherever plain execution was just before.
        wanted, found = (np.stack([self._once(frame, queue)[0] for frame in frames]) for queue in (self._enqueue, self._replay))
        if not np.allclose(found, wanted, rtol=0, atol=SAME * float(np.abs(wanted).max()), equal_nan=True):
            return GraphUse(used=False, reason="not used: it gives other logits than plain execution")
        plain, replayed = list[float](), list[float]()
        end = time.perf_counter() + SECONDS
        while len(plain) < ROUNDS and (len(plain) < WARM_UP or time.perf_counter() < end):
            for times, queue in ((plain, self._enqueue), (replayed, self._replay)):
                start = time.perf_counter()
                self._once(frames[len(plain) % 2], queue)
                times.append(1e3 * (time.perf_counter() - start))
        with_ms, without_ms = median(replayed), median(plain)
        used = with_ms < without_ms
        return GraphUse(used=used, with_ms=with_ms, without_ms=without_ms, reason="" if used else "not used: it is not faster")

    def profile(self, frames_bgr: Frames, runs: int) -> dict[str, list[float]]:
        """Milliseconds of every layer in ``runs`` inferences of ``frames_bgr`` uint8 [N, H, W, 3], by TensorRT's profiler.

        Without the graph, in which there are no layers to time.
        """
        times: dict[str, list[float]] = {}

        class Profiler(self._module.IProfiler):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                times.setdefault(layer_name, []).append(ms)

        with self._on_the_gpu():
            self._held.execution.profiler = Profiler()  # while one is set, every inference waits for its layers' times
            try:
                for i in range(runs):
                    self._once(frames_bgr[i % len(frames_bgr)], self._enqueue)
            finally:
                self._held.execution.profiler = None
        return times

    def inspect(self) -> str:
        """The engine inspector's JSON: layers, and what of the graph is in them."""
        with self._on_the_gpu():
            inspector = self._held.plan.create_engine_inspector()
            text: str = inspector.get_engine_information(self._module.LayerInformationFormat.JSON)
            return text

    def close(self) -> None:
        """See `edgevit.engine.base.Session.close`. From any thread; a second time is of no effect."""
        self._closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
