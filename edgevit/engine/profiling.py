"""Time of every layer, from the engines' own profilers. Profiling slows an engine: shares count, not milliseconds."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from edgevit.engine import backend
from edgevit.engine.base import available_threads, cause
from edgevit.errors import ConfigError, EngineError, needs_extra

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One kernel of the compiled model."""

    name: str
    """The graph's node, such as ``blocks.3/fc1/MatMul``, or one that the engine made up."""
    kind: str
    """What the engine calls the operation."""
    milliseconds: float
    """Median over the runs."""


def layer_times(engine: str, model: bytes, frames: Frames, *, threads: int | None, runs: int) -> list[LayerTime]:
    """Layers of ONNX ``model`` in the order they run, over ``runs`` inferences of ``frames`` uint8 [N, H, W, 3], one at a time.

    Raises ConfigError for an engine without a profiler here, EngineError if it refuses the model.
    """
    profilers: dict[str, Callable[[bytes, Frames, int, int], list[LayerTime]]] = {
        "openvino": _openvino,
        "onnxruntime": _onnxruntime,
    }
    if engine not in profilers:
        msg = f"{engine}: its layers are not timed by edgevit. On its device: trtexec --loadEngine=engine.plan --dumpProfile"
        raise ConfigError(msg)
    try:
        return profilers[engine](model, frames, threads or available_threads(), runs)
    except RuntimeError as error:  # both engines' exceptions derive from it
        msg = f"{backend(engine).version} cannot profile this model: {cause(error)}"
        raise EngineError(msg) from error


def _openvino(model: bytes, frames: Frames, threads: int, runs: int) -> list[LayerTime]:
    with needs_extra("cpu"):
        import openvino
    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape({graph.input(0).any_name: [1, *frames.shape[1:]]})
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    request = core.compile_model(graph, "CPU", options).create_infer_request()
    times: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for i in range(WARM_UP + runs):
        request.infer([frames[i % len(frames)][None]], share_inputs=True)
        if i < WARM_UP:
            continue
        for node in request.get_profiling_info():
            if milliseconds := 1e3 * node.real_time.total_seconds():
                times.setdefault(node.node_name, []).append(milliseconds)
                kinds[node.node_name] = node.node_type
    return [LayerTime(name=name, kind=kinds[name], milliseconds=median(values)) for name, values in times.items()]


def _onnxruntime(model: bytes, frames: Frames, threads: int, runs: int) -> list[LayerTime]:
    with needs_extra("cpu"):
        import onnxruntime
    from edgevit.engine.onnxruntime import OnnxRuntime

    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        compiled = OnnxRuntime().compile(model, threads=threads)
        session = onnxruntime.InferenceSession(compiled, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        for i in range(WARM_UP + runs):
            session.run(None, {name: frames[i % len(frames)][None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in events:
        node, ending, _ = event["name"].partition("_kernel_time")
        if event.get("cat") == "Node" and ending:
            times.setdefault(node, []).append(event["dur"] / 1e3)
            kinds[node] = event["args"].get("op_name", "")
    return [LayerTime(name=node, kind=kinds[node], milliseconds=median(values[WARM_UP:])) for node, values in times.items()]
