"""The process that runs TensorRT's builder: ``python -m edgevit.engine.tensorrt_child FOLDER``.

FOLDER holds model.onnx, options.json (`BuildOptions` and the module's name) and timing.cache. Progress goes to
stdout, a line ``phase<TAB>step/steps`` each; result.json comes last, and engine.plan unless the graph is refused.
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

Refused = list[tuple[str, str]]
"""Node, where one is known, and the builder's text."""

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main(folder: Path) -> None:
    """Compile what FOLDER holds."""
    _die_with_parent()
    options = json.loads((folder / "options.json").read_text())
    trt = import_module(options["module"])
    result: dict[str, Any] = {"version": f"{trt.__name__} {trt.__version__}", "inspector": None, "refused": [], "no_builder": []}
    logger = _logger(trt)
    try:
        builder = trt.Builder(logger)
    except Exception as error:  # pybind11's TypeError: without a driver the library returns no builder
        result["no_builder"] = logger.errors or [str(error)]
    else:
        result["refused"] = _build(trt, builder, logger, options, folder)
    result["layers"], result["warnings"] = logger.layers, list(dict.fromkeys(logger.warnings))
    if not (result["refused"] or result["no_builder"]):
        result["inspector"] = _inspect(trt, logger, folder / "engine.plan")
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
    partial = folder / "result.partial"
    partial.write_text(json.dumps(result))
    partial.rename(folder / "result.json")  # whole, or the parent says that the builder died


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def _logger(trt: Any) -> Any:
    """A logger that keeps errors, warnings and the list of layers, which comes at level VERBOSE."""

    class Keeper(trt.ILogger):  # type: ignore[misc]  # the module is only known at run time
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(text.strip())
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(text.strip())
            elif "Name: " in text and "LayerType: " in text:
                self.layers += [line for line in text.splitlines() if line.startswith("Name: ")]

    return Keeper()


def _build(trt: Any, builder: Any, logger: Any, options: dict[str, Any], folder: Path) -> Refused:
    """Write engine.plan and timing.cache, or return why not."""
    flags, refused = _network_flags(trt)
    if refused:
        return refused
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse((folder / "model.onnx").read_bytes()):
        return [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)] or [("", "it cannot be parsed")]
    if not network.num_inputs:
        return [("", "it has no input: this is no model")]
    config = builder.create_builder_config()
    refused = _configure(trt, builder, config, options) or _set_batch(builder, network, config, tuple(options["batch"]))
    if refused:
        return refused
    cache = _timing_cache(config, (folder / "timing.cache").read_bytes())
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return [("", text) for text in logger.errors] or [("", "the builder returned nothing and gave no reason")]
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


def _configure(trt: Any, builder: Any, config: Any, options: dict[str, Any]) -> Refused:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options["workspace"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace"])
    if options["optimization_level"] is not None:
        config.builder_optimization_level = options["optimization_level"]
    if options["dla_core"] is not None:
        if options["dla_core"] >= builder.num_DLA_cores:
            return [("", f"DLA core {options['dla_core']} is asked for, and there are {builder.num_DLA_cores} here")]
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, options["dla_core"]
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    if hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(trt)
    return []


def _set_batch(builder: Any, network: Any, config: Any, batch: tuple[int, int, int]) -> Refused:
    """One shape for one batch size, an optimization profile for a range of them."""
    frames = network.get_input(0)
    shape = tuple(frames.shape)[1:]
    smallest, likeliest, largest = batch
    if smallest == largest:
        frames.shape = (largest, *shape)
        return []
    frames.shape = (-1, *shape)
    profile = builder.create_optimization_profile()
    profile.set_shape(frames.name, (smallest, *shape), (likeliest, *shape), (largest, *shape))
    config.add_optimization_profile(profile)
    return []


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


def _inspect(trt: Any, logger: Any, plan: Path) -> str | None:
    """The engine inspector's JSON, where there is a GPU to load the engine on."""
    from edgevit.engine.tensorrt import gpu

    if gpu() is None:
        return None
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        return None
    text: str = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return text


if __name__ == "__main__":
    main(Path(sys.argv[1]))
