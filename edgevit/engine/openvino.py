"""OpenVINO: the fastest engine on the CPU of an x86-64, and the one for Intel's GPUs and NPUs."""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from edgevit.cache import default_cache_dir
from edgevit.engine.base import (
    UNCOUNTED,
    JustInTime,
    LayerTime,
    Session,
    SessionBase,
    available_threads,
    cause,
    require_batch,
    saturates,
)
from edgevit.engine.on_disk import on_disk
from edgevit.errors import ConfigError, EngineError
from edgevit.onnxfile import FEATURES, allows_bf16
from edgevit.unreported import import_openvino

if TYPE_CHECKING:
    import openvino

    from edgevit.engine.base import Frames, Given


CPU = "CPU"
DEVICE = re.compile(r"CPU|GPU(?:\.\d{1,2}){0,2}|NPU")
"""By OpenVINO's names. Its virtual devices, which choose or mix, are left out: figures should be of one that is known."""


class OpenVino(JustInTime):
    """Compiles for one frame, the camera's case (a dynamic batch costs about 5 %), or for so many as are asked for."""

    name = "openvino"

    def __init__(self, device: str = CPU) -> None:
        """On ``device``; see `on`."""
        self._device = device

    def on(self, device: str) -> OpenVino:
        """See `edgevit.engine.base.OnDevices.on`. ``device`` is CPU, GPU, GPU.1 and so on, or NPU."""
        wanted = device.upper()
        if not DEVICE.fullmatch(wanted):
            msg = f"--device {device!r}: no device of OpenVINO. Write CPU, GPU, GPU.0, GPU.1 or NPU"
            raise ConfigError(msg)
        here = _core().available_devices
        if wanted not in here and not any(name.startswith(f"{wanted}.") for name in here):
            msg = (
                f"--device {device}: OpenVINO finds {', '.join(here)} here, and no {wanted}. A GPU or NPU of Intel's needs its "
                "driver, and you in the group render: see docs.openvino.ai, Additional Configurations for Hardware"
            )
            raise EngineError(msg)
        return OpenVino(wanted)

    @property
    def version(self) -> str:
        """See `edgevit.engine.base.Backend.version`."""
        return f"openvino {import_openvino().__version__.partition('-')[0]}"

    def open(self, model: bytes, *, threads: int | None = None, batch: int = 1) -> Session:
        """See `edgevit.engine.base.Backend.open`."""
        on_cpu = self._device == CPU
        if not on_cpu and threads is not None:
            msg = f"--threads {threads} is of a CPU, and the engine is to run on {self._device}. Leave one of them out"
            raise ConfigError(msg)
        try:
            compiled = self.compiled(model, threads, {}, batch=batch)
        except EngineError:
            raise
        except Exception as error:  # its bindings turn C++ exceptions into several kinds
            msg = f"{self.version} cannot compile this model: {cause(error)}"
            raise EngineError(msg) from error
        return SessionBase(
            engine=self.version,
            threads=compiled.get_property("INFERENCE_NUM_THREADS") if on_cpu else 1,
            shape=tuple(compiled.input(0).shape)[1:],
            run=_runner(compiled, batch),
            batch=batch,
            device=None if on_cpu else f"{_core().get_property(self._device, 'FULL_DEVICE_NAME')} ({self._device})",
        )

    def compiled(
        self, model: bytes, threads: int | None, options: dict[str, object], *, batch: int = 1
    ) -> openvino.CompiledModel:  # fmt: skip
        """For ``batch`` frames, with ``options`` more than all models are compiled with."""
        core = _core()
        with on_disk(model) as source:
            graph = core.read_model(source)
            frames = graph.input(0)
            first, *shape = frames.partial_shape
            if batch > 1:
                require_batch(self.version, first.get_length() if first.is_static else None, batch)
            graph.reshape({frames.any_name: [batch, *shape]})
            if self._device != CPU:
                return core.compile_model(graph, self._device, device_options(self._device) | options)
            bf16 = allows_bf16(model) and self.computes_bf16()
            return core.compile_model(graph, CPU, openvino_options(threads, bf16=bf16) | options)

    def computes_bf16(self) -> bool:
        """See `edgevit.engine.base.Backend.computes_bf16`."""
        return self._device == CPU and "BF16" in _core().get_property(CPU, "OPTIMIZATION_CAPABILITIES")

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


def _runner(compiled: openvino.CompiledModel, batch: int) -> Callable[[Frames], Given]:
    """Any number of frames, ``batch`` at a time; what lacks in the last is the last frame again, and thrown away."""
    import numpy as np

    request = compiled.create_infer_request()
    wanted = [0, *(i for i, output in enumerate(compiled.outputs) if FEATURES in output.get_names())]

    def run(frames: Frames) -> Given:
        missing = -len(frames) % batch
        whole = np.concatenate([frames, frames[-1:].repeat(missing, 0)]) if missing else frames
        # Copies of the request's own.
        found = [request.infer([whole[at : at + batch]], share_inputs=True) for at in range(0, len(whole), batch)]
        logits, *more = (np.concatenate([each[i] for each in found])[: len(frames)] for i in wanted)
        return logits, more[0] if more else None

    return run


def _core() -> openvino.Core:
    return import_openvino().Core()


def device_options(device: str) -> dict[str, object]:
    """How every model is compiled for a GPU or an NPU.

    Both compute in FP16 what is not INT8, as their plugins do by default; the GPU is told, because an FP32 graph may be taken at
    its word. Compiling takes seconds to minutes there, so what was compiled is kept beside edgevit's other results.
    """
    options: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if device.startswith("GPU"):
        options["INFERENCE_PRECISION_HINT"] = "f16"
    folder = default_cache_dir() / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a board may be read-only: then every start compiles
        return options
    return options | {"CACHE_DIR": str(folder)}


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
        # It binds threads to cores from the first on: two processes of one thread each would share a core, and leave the others.
        **({"ENABLE_CPU_PINNING": False} if threads is not None and threads < available_threads() else {}),
        **exact,
    }
