"""OpenVINO on the CPU: the fastest engine on x86-64."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from edgevit.engine.base import UNCOUNTED, JustInTime, LayerTime, Session, SessionBase, available_threads, cause, saturates
from edgevit.engine.on_disk import on_disk
from edgevit.errors import EngineError
from edgevit.onnxfile import FEATURES, allows_bf16
from edgevit.unreported import import_openvino

if TYPE_CHECKING:
    import openvino

    from edgevit.engine.base import Frames, Given


class OpenVino(JustInTime):
    """Compiles for batch 1, the camera's case (a dynamic batch costs about 5 %); larger batches run frame by frame."""

    name = "openvino"

    @property
    def version(self) -> str:
        """See `edgevit.engine.base.Backend.version`."""
        return f"openvino {import_openvino().__version__.partition('-')[0]}"

    def open(self, model: bytes, *, threads: int | None = None) -> Session:
        """See `edgevit.engine.base.Backend.open`."""
        try:
            compiled = self.compiled(model, threads, {})
        except Exception as error:  # its bindings turn C++ exceptions into several kinds
            msg = f"{self.version} cannot compile this model: {cause(error)}"
            raise EngineError(msg) from error
        return SessionBase(
            engine=self.version,
            threads=compiled.get_property("INFERENCE_NUM_THREADS"),
            shape=tuple(compiled.input(0).shape)[1:],
            run=_runner(compiled),
        )

    def compiled(self, model: bytes, threads: int | None, options: dict[str, object]) -> openvino.CompiledModel:
        """For one frame, with ``options`` more than all models are compiled with."""
        core = _core()
        with on_disk(model) as source:
            graph = core.read_model(source)
            frames = graph.input(0)
            graph.reshape({frames.any_name: [1, *frames.partial_shape[1:]]})
            bf16 = allows_bf16(model) and self.computes_bf16()
            return core.compile_model(graph, "CPU", openvino_options(threads, bf16=bf16) | options)

    def computes_bf16(self) -> bool:
        """See `edgevit.engine.base.Backend.computes_bf16`."""
        return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def layer_times(
        self, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None
    ) -> list[LayerTime]:  # fmt: skip
        """See `edgevit.engine.base.Backend.layer_times`; ``model`` is compiled, there is nothing ``compiled``."""
        request = self.compiled(model, threads, {"PERF_COUNT": True}).create_infer_request()
        times: dict[str, list[float]] = {}
        kinds: dict[str, str] = {}
        for i in range(UNCOUNTED + runs):
            request.infer([frames[i % len(frames)][None]], share_inputs=True)
            if i < UNCOUNTED:
                continue
            for node in request.get_profiling_info():
                if milliseconds := 1e3 * node.real_time.total_seconds():
                    times.setdefault(node.node_name, []).append(milliseconds)
                    kinds[node.node_name] = node.node_type
        return [LayerTime(name=name, kind=kinds[name], milliseconds=median(values)) for name, values in times.items()]


def _runner(compiled: openvino.CompiledModel) -> Callable[[Frames], Given]:
    import numpy as np

    request = compiled.create_infer_request()
    wanted = [0, *(i for i, output in enumerate(compiled.outputs) if FEATURES in output.get_names())]

    def run(frames: Frames) -> Given:
        found = [request.infer([frame[None]], share_inputs=True) for frame in frames]  # copies of the request's own
        logits, *more = (np.concatenate([each[i] for each in found]) for i in wanted)
        return logits, more[0] if more else None

    return run


def _core() -> openvino.Core:
    return import_openvino().Core()


def openvino_options(threads: int | None, *, bf16: bool = False) -> dict[str, object]:
    """How every model is compiled and loaded; all threads for None. ``bf16``: what is in floating point, in bfloat16."""
    # x86 without VNNI adds INT8 products in 16 bits that saturate: then the rounded values are multiplied in FP32, which takes
    # as long there. (A key of the CPU plugin's own; no public one does it.)
    exact = {"LP_TRANSFORMS_MODE": "OFF"} if saturates() else {}
    return {
        "PERFORMANCE_HINT": "LATENCY",
        # On CPUs with bfloat16 the default would round activations behind our back.
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads or available_threads(),
        **exact,
    }
