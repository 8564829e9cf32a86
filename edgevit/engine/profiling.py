"""Time of every layer, from the engines' own profilers. Profiling slows an engine: shares count, not milliseconds."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from edgevit.engine import backend
from edgevit.engine.base import available_threads, cause
from edgevit.engine.openvino import openvino_options
from edgevit.errors import ConfigError, EdgevitError, EngineError
from edgevit.unreported import import_onnxruntime, import_openvino

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

WARM_UP = 3
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_PRODUCTS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One kernel of the compiled model."""

    name: str
    """The graph's node, such as ``blocks.3/fc1/MatMul``, or one that the engine made up."""
    kind: str
    """What the engine calls the operation."""
    milliseconds: float
    """Median over the runs."""


def layer_times(
    engine: str, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None
) -> list[LayerTime]:
    """Layers of ONNX ``model`` in the order they run, over ``runs`` inferences of ``frames`` uint8 [N, H, W, 3], one at a time.

    ``compiled`` is what TensorRT made of it on this machine. Raises ConfigError without it, EngineError if the model is refused.
    """
    profilers: dict[str, Callable[[bytes, Frames, int, int], list[LayerTime]]] = {
        "openvino": _openvino,
        "onnxruntime": _onnxruntime,
    }
    if engine not in profilers:
        if compiled is None:
            msg = f"{engine}: layers are timed on its device, once the bundle is compiled there: edgevit compile BUNDLE"
            raise ConfigError(msg)
        return _tensorrt(engine, compiled, frames, runs)
    try:
        return profilers[engine](model, frames, threads or available_threads(), runs)
    except EdgevitError:
        raise
    except Exception as error:  # the engines' exceptions share no base class but Exception
        msg = f"{backend(engine).version} cannot profile this model: {cause(error)}"
        raise EngineError(msg) from error


def _openvino(model: bytes, frames: Frames, threads: int, runs: int) -> list[LayerTime]:
    core = import_openvino().Core()
    graph = core.read_model(model)
    graph.reshape({graph.input(0).any_name: [1, *frames.shape[1:]]})
    options = openvino_options(threads) | {"PERF_COUNT": True}
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
    from edgevit.engine.onnxruntime import OnnxRuntime

    onnxruntime = import_onnxruntime()
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


def _tensorrt(engine: str, compiled: bytes, frames: Frames, runs: int) -> list[LayerTime]:
    from edgevit.engine.tensorrt import builder_module
    from edgevit.engine.tensorrt_session import TensorRtSession

    with TensorRtSession(compiled, builder_module(engine)) as session:
        times = session.profile(frames, WARM_UP + runs)
        origins = node_names(session.inspect())
    return [
        LayerTime(name=origins.get(name, name), kind="", milliseconds=median(values[WARM_UP:])) for name, values in times.items()
    ]


def node_names(inspected: str) -> dict[str, str]:
    """By the name of a TensorRT layer the graph's node that it is of: the product among those that were fused, else the first.

    ``inspected`` is the engine inspector's JSON; empty where it says nothing of the graph (built without detailed verbosity).
    """
    found = {}
    try:
        layers = json.loads(inspected)["Layers"]
        for layer in layers:
            nodes = _NODE.findall(layer.get("Metadata", ""))
            if nodes:
                found[layer["Name"]] = next((node for node in nodes if node.endswith(_PRODUCTS)), nodes[0])
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found
