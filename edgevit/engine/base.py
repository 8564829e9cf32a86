"""What every inference engine offers: a backend compiles and loads, a session infers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from edgevit.device.processor import processor
from edgevit.engines import traits_of
from edgevit.errors import EngineError, is_brought

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

    Frames = NDArray[np.uint8]
    Logits = NDArray[np.float32]
    Features = NDArray[np.float32]
    Given = tuple[Logits, Features | None]


UNCOUNTED = 3
"""Inferences under a profiler before the first that counts."""


@dataclass(frozen=True, kw_only=True)
class GraphUse:
    """Whether a session replays a CUDA graph, and what that was found to be worth when it was loaded."""

    used: bool
    with_ms: float | None = None
    """Median of an inference with the graph; None if it was not timed."""
    without_ms: float | None = None
    """The same without."""
    reason: str = ""
    """Why it is not used; empty if it is."""

    def __str__(self) -> str:
        """One line for people."""
        timed = ""
        if self.with_ms is not None and self.without_ms is not None:
            timed = f"{self.with_ms:.2f} ms an inference with it, {self.without_ms:.2f} without"
        return ", ".join(filter(None, ("used" if self.used else self.reason, timed)))


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One kernel of the compiled model."""

    name: str
    """The graph's node, such as ``blocks.3/fc1/MatMul``, or one that the engine made up."""
    kind: str
    """What the engine calls the operation."""
    milliseconds: float
    """Median over the runs."""


class Session(Protocol):
    """One loaded model. Use it as a context manager, from one thread at a time."""

    engine: str
    """Name and version of the engine, such as ``openvino 2026.4.1``."""
    device: str
    """The processor that runs it, in the engine's own words."""
    threads: int
    """CPU threads that one inference uses."""
    batch: int
    """Frames that one inference is best given."""

    @property
    def graph(self) -> GraphUse | None:
        """Of a GPU; None where engines have no such thing."""
        ...

    @property
    def features(self) -> Features | None:
        """What the head saw in the last inference, float32 [N, features], the caller's own; None if the graph gives none."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the engine warned of when it was loaded."""
        ...

    def warn(self, text: str) -> None:
        """Add one of edgevit's own to ``warnings``."""
        ...

    def infer(self, frames_bgr: Frames) -> Logits:
        """Logits float32 [N, classes] of prepared frames uint8 [N, H, W, 3] BGR.

        The result is the caller's own: a later call does not change it.
        Raises EngineError when the engine fails or the shape is not the model's.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; the session is of no use afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Backend(Protocol):
    """One inference engine, in what it does; what is known of it without its package is in `edgevit.engines`.

    One that is compiled long before it runs, or elsewhere, is a `edgevit.engine.builder.Builder`, too. ``threads`` is the
    number of CPU threads; None lets the engine choose.
    """

    name: str
    """As in `edgevit.engines.ENGINES`."""

    @property
    def version(self) -> str:
        """Name and version of what compiles. Raises MissingPackageError if it is not installed."""
        ...

    def lacking(self) -> str:
        """What this machine would need to run it and has not, packages and hardware, with how to get it; empty if it has all.

        Loads none of its packages.
        """
        ...

    def open(self, model: bytes, *, threads: int | None = None, batch: int = 1) -> Session:
        """Compile an ONNX model for this machine and load it, for ``batch`` frames an inference.

        Raises EngineError naming the cause.
        """
        ...

    def computes_bf16(self) -> bool:
        """Whether it computes here in bfloat16 what a graph allows it to (`edgevit.onnxfile.allows_bf16`)."""
        ...

    def stamp(self) -> dict[str, str]:
        """What an engine compiled on this machine is bound to, in words for people; empty if nothing is kept."""
        ...

    def check_stamp(self, stamp: Mapping[str, str]) -> None:
        """Raise EngineError if an engine with ``stamp`` was compiled elsewhere, saying what differs."""
        ...

    def layer_times(
        self, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None
    ) -> list[LayerTime]:  # fmt: skip
        """Layers in the order they run, by the engine's own profiler: see `edgevit.engine.profiling.layer_times`."""
        ...


class OnDevices(Backend, Protocol):
    """An engine that runs on several devices of a machine: `edgevit.engines.EngineTraits.devices`."""

    def on(self, device: str) -> Backend:
        """The same engine on ``device``.

        Raises ConfigError for a name that no device of this engine has, EngineError if there is none here, with those that are.
        """
        ...


class JustInTime:
    """What engines share that compile at every start: nothing is kept, so nothing is bound to a machine."""

    name: str

    def lacking(self) -> str:
        """See `Backend.lacking`."""
        traits = traits_of(self.name)
        found = [f"no Python module {module}" for module in traits.modules if find_spec(module) is None]
        if not found or not all(map(is_brought, traits.modules)):
            return ", ".join(found)
        return f"{', '.join(found)} (pip install 'edgevit[{traits.extra}]')"

    def stamp(self) -> dict[str, str]:
        """See `Backend.stamp`."""
        return {}

    def check_stamp(self, stamp: Mapping[str, str]) -> None:
        """See `Backend.check_stamp`."""

    def computes_bf16(self) -> bool:
        """See `Backend.computes_bf16`."""
        return False


class SessionBase:
    """What sessions share: the shape check, and closing on exit."""

    features: Features | None = None

    engine: str
    device: str
    threads: int
    graph: GraphUse | None = None
    warnings: tuple[str, ...] = ()

    def __init__(
        self, *, engine: str, threads: int, shape: tuple[int, ...], run: Callable[[Frames], Given], batch: int = 1,
        device: str | None = None,
    ) -> None:  # fmt: skip
        """``device`` is what runs it, in the engine's words; this machine's processor by default."""
        self.engine, self.device, self.threads, self.shape, self.batch = engine, device or processor(), threads, shape, batch
        self._run: Callable[[Frames], Given] | None = run

    def warn(self, text: str) -> None:
        """See `Session.warn`."""
        self.warnings = (*self.warnings, text)

    def infer(self, frames_bgr: Frames) -> Logits:
        """See `Session.infer`."""
        if self._run is None:
            raise EngineError(closed(self.engine))
        require_frames(self.engine, frames_bgr, self.shape)
        try:
            logits, self.features = self._run(frames_bgr)
        except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
            msg = f"{self.engine}: inference failed: {cause(error)}"
            raise EngineError(msg) from error
        return logits

    def close(self) -> None:
        """See `Session.close`."""
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def closed(engine: str) -> str:
    """What is said to whoever uses a session of ``engine`` after its end."""
    return f"{engine}: this session is closed; load the bundle again"


def require_frames(engine: str, frames: Frames, shape: tuple[int, ...]) -> None:
    """Raise EngineError unless ``frames`` are uint8 [N, H, W, 3] with at least one, of ``shape`` (H, W, 3)."""
    if frames.dtype.name != "uint8" or frames.ndim != 4 or frames.shape[1:] != shape or not len(frames):
        expected = ", ".join(map(str, shape))
        msg = f"{engine}: expected uint8 frames (N, {expected}), got {frames.dtype} {frames.shape}"
        raise EngineError(msg)


def require_batch(engine: str, fixed: int | None, batch: int) -> None:
    """Raise EngineError if a graph's first dimension is ``fixed``, and not at ``batch``; None is a free one."""
    if fixed not in (None, batch):
        msg = (
            f"{engine}: --batch {batch}: this bundle's graph takes {fixed} frame at a time, as engines want it that are compiled "
            "ahead of time. Leave it out, or build for a target whose engine is a CPU's"
        )
        raise EngineError(msg)


def cause(error: BaseException) -> str:
    """The last non-empty line of a native library's message, where the cause stands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def saturates() -> bool:
    """Whether this processor's INT8 products are added in 16 bits that saturate: x86 without VNNI, as far as Linux tells.

    oneDNN and MLAS then use vpmaddubsw, which adds two products of 8 bits each: up to 65,025, and 16 bits end at 32,767.
    """
    try:
        flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    except OSError:
        return False
    return bool(flags) and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags.split())


def available_threads() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
