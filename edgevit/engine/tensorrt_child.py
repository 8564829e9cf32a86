"""The process that runs TensorRT's builder; `edgevit.engine.tensorrt.build_engine` starts it and reads what it leaves.

Its folder holds model.onnx, options.json (`BuildOptions` and the module's name) and timing.cache. Progress goes to
stdout, a line ``phase<TAB>step/steps`` each. Then come engine.plan, unless the graph is refused; result.json; and
inspector.json, if there is a GPU. That comes last as it takes the engine's memory a second time: where a small
board cannot give that, this process fails or is killed, and the engine is already there.
"""

from __future__ import annotations

import ctypes
import json
import resource
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from edgevit.engine.base import cause
from edgevit.engine.tensorrt_log import Messages, logger_of
from edgevit.files.writing import write_whole

Refused = list[tuple[str, str]]
"""Node, where one is known, and the builder's text."""

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main(path: str) -> None:
    """Compile what the folder at ``path`` holds."""
    _die_with_parent()
    folder = Path(path)
    options = json.loads((folder / "options.json").read_text())
    trt = import_module(options["module"])
    messages = Messages()
    with logger_of(trt).heard(messages):
        result = _compile(trt, messages, options, folder)
        write_whole(folder / "result.json", json.dumps(result), durable=False)  # whole, or the parent finds none
        if not (result["refused"] or result["no_builder"]):
            _inspect(trt, messages, folder)


def _compile(trt: Any, messages: Messages, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write engine.plan and say how it went. The builder's memory is free when this returns."""
    result: dict[str, Any] = {"version": f"{trt.__name__} {trt.__version__}", "refused": [], "no_builder": []}
    try:
        builder = trt.Builder(logger_of(trt))
    except Exception as error:  # pybind11's TypeError: without a driver the library returns no builder
        result["no_builder"] = list(messages.errors) or [cause(error)]
    else:
        result["refused"] = _build(trt, builder, messages, options, folder)
    result["layers"], result["warnings"] = messages.layers, messages.warnings
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    return result


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def _build(trt: Any, builder: Any, messages: Messages, options: dict[str, Any], folder: Path) -> Refused:
    """Write engine.plan and timing.cache, or return why not."""
    flags, refused = _network_flags(trt)
    if refused:
        return refused
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger_of(trt))
    if not parser.parse((folder / "model.onnx").read_bytes()):
        return [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)] or [("", "it cannot be parsed")]
    if not network.num_inputs:
        return [("", "it has no input: this is no model")]
    config = builder.create_builder_config()
    _configure(trt, config, options)
    _set_batch(builder, network, config, tuple(options["batch"]))
    cache = _timing_cache(config, (folder / "timing.cache").read_bytes())
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return [("", text) for text in messages.errors] or [("", "the builder returned nothing and gave no reason")]
    (folder / "engine.plan").write_bytes(bytes(memoryview(plan)))
    cache = config.get_timing_cache() if hasattr(config, "get_timing_cache") else cache
    (folder / "timing.cache").write_bytes(bytes(memoryview(cache.serialize())) if cache else b"")
    return []


def _network_flags(trt: Any) -> tuple[int, Refused]:
    """Strongly typed: by a flag up to 10, without one from 11 on, not at all before 10."""
    flag = getattr(getattr(trt, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    if flag is not None:
        return 1 << int(flag), []
    if hasattr(trt.BuilderFlag, "FP16"):
        return 0, [("", "it has no strongly typed networks. TensorRT 10.3 has: on a Jetson, JetPack 6.1 or later")]
    return 0, []


def _parser_error(error: Any) -> tuple[str, str]:
    node = error.node_name() if hasattr(error, "node_name") else ""
    return node, " ".join(error.desc().split())


def _configure(trt: Any, config: Any, options: dict[str, Any]) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options["workspace"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace"])
    if options["optimization_level"] is not None:
        config.builder_optimization_level = options["optimization_level"]
    if not options["tf32"] and hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(trt)


def _set_batch(builder: Any, network: Any, config: Any, batch: tuple[int, int, int]) -> None:
    """One shape for one batch size, an optimization profile for a range of them."""
    frames = network.get_input(0)
    shape = tuple(frames.shape)[1:]
    smallest, likeliest, largest = batch
    if smallest == largest:
        frames.shape = (largest, *shape)
        return
    frames.shape = (-1, *shape)
    profile = builder.create_optimization_profile()
    profile.set_shape(frames.name, (smallest, *shape), (likeliest, *shape), (largest, *shape))
    config.add_optimization_profile(profile)


def _timing_cache(config: Any, known: bytes) -> Any:
    if not hasattr(config, "create_timing_cache"):
        return None
    cache = config.create_timing_cache(known)
    # Not ignoring a mismatch: measurements of another GPU would choose the wrong kernels; TensorRT then starts anew.
    if cache is not None and not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the same
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps
            self._say(phase, 0)

        def step_complete(self, phase: str, step: int) -> bool:
            self._say(phase, step + 1)
            return True

        def phase_finish(self, phase: str) -> None:
            self._say(phase, self.steps.pop(phase, 0))

        def _say(self, phase: str, step: int) -> None:
            print(f"{phase}\t{step}/{self.steps.get(phase, step)}", flush=True)

    return Monitor()


def _inspect(trt: Any, messages: Messages, folder: Path) -> None:
    """Write the engine inspector's JSON, where there is a GPU to load the engine on; what goes wrong is the parent's to tell."""
    from edgevit.device.gpu import gpu

    if gpu() is None:
        return
    engine = trt.Runtime(logger_of(trt)).deserialize_cuda_engine((folder / "engine.plan").read_bytes())
    if engine is None:
        sys.exit(messages.errors[-1] if messages.errors else "the runtime gives no engine and no reason")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    write_whole(folder / "inspector.json", text, durable=False)
