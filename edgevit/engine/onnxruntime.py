"""ONNX Runtime on the CPU: runs everywhere, Arm boards included."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from edgevit.engine.base import UNCOUNTED, JustInTime, LayerTime, Session, SessionBase, available_threads, cause, require_batch
from edgevit.engine.on_disk import on_disk
from edgevit.errors import EngineError
from edgevit.onnxfile import FEATURES
from edgevit.unreported import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

    from edgevit.engine.base import Frames, Given

# MatMul + Add becomes a Gemm, which the Q/DQ fusion does not know: INT8 would run dequantized, 4 times slower.
DISABLED = ["MatMulAddFusion"]
# What its rewriting of weights for processors without VNNI says where layers share their zero points.
SHARED_ZEROS = "Attempt to replace the existing tensor"


class OnnxRuntime(JustInTime):
    """Compiles at every start, for any batch."""

    name = "onnxruntime"

    @property
    def version(self) -> str:
        """See `edgevit.engine.base.Backend.version`."""
        return f"onnxruntime {import_onnxruntime().__version__}"

    def open(self, model: bytes, *, threads: int | None = None, batch: int = 1) -> Session:
        """See `edgevit.engine.base.Backend.open`."""
        options = session_options(threads)
        session = onnxruntime_session(model, options)
        first, *shape = session.get_inputs()[0].shape
        if batch > 1:
            require_batch(self.version, first if isinstance(first, int) else None, batch)
        return SessionBase(
            engine=self.version, threads=options.intra_op_num_threads, shape=tuple(shape), run=_runner(session), batch=batch
        )

    def layer_times(
        self, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None
    ) -> list[LayerTime]:  # fmt: skip
        """See `edgevit.engine.base.Backend.layer_times`; ``model`` is compiled, there is nothing ``compiled``."""
        times: dict[str, list[float]] = {}
        kinds: dict[str, str] = {}
        for event in self._profile(model, frames, threads, runs):
            node, ending, _ = event["name"].partition("_kernel_time")
            if event.get("cat") == "Node" and ending:
                times.setdefault(node, []).append(event["dur"] / 1e3)
                kinds[node] = event["args"].get("op_name", "")
        return [LayerTime(name=node, kind=kinds[node], milliseconds=median(values[UNCOUNTED:])) for node, values in times.items()]

    def _profile(self, model: bytes, frames: Frames, threads: int | None, runs: int) -> list[dict[str, Any]]:
        """The events of the profiler, over `UNCOUNTED` and ``runs`` inferences."""
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            options = session_options(threads)
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
            session = onnxruntime_session(model, options)
            name = session.get_inputs()[0].name
            for i in range(UNCOUNTED + runs):
                session.run(None, {name: frames[i % len(frames)][None]})
            events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
        return events


def _runner(session: onnxruntime.InferenceSession) -> Callable[[Frames], Given]:
    name, outputs = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    wanted = [outputs[0], *([FEATURES] if FEATURES in outputs else [])]

    def run(frames: Frames) -> Given:
        logits, *more = session.run(wanted, {name: frames})
        return logits, more[0] if more else None

    return run


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """How every session is made; all threads for None."""
    options = import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.log_severity_level = 3  # warnings about hardware-specific graphs: they never leave this machine
    # x86 without VNNI adds products of INT8 in pairs of 16 bits, which saturate: over 10 dB of a ViT's logits. Where the
    # processor is such a one, weights become uint8, whose kernel adds in 32 bits; elsewhere this changes nothing.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def onnxruntime_session(model: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """An ONNX model on the CPU. Raises EngineError if ONNX Runtime refuses it."""
    onnxruntime = import_onnxruntime()
    try:
        with on_disk(model) as source:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED)
    except Exception as error:  # its exceptions share no base class but Exception
        if SHARED_ZEROS in str(error):
            msg = (
                "this processor has no VNNI, and the bundle was built by an older edgevit, whose INT8 graph ONNX Runtime "
                "computes wrongly there. Build it again."
            )
            raise EngineError(msg) from error
        msg = f"onnxruntime {onnxruntime.__version__} cannot load this model: {cause(error)}"
        raise EngineError(msg) from error
