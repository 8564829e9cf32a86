"""Inference engines behind one protocol; pick one by name with `backend`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from edgevit.engine.base import Backend, Session
from edgevit.errors import ConfigError, did_you_mean

# name -> (module, class); a module is imported when its engine is asked for.
BACKENDS = {
    "openvino": ("edgevit.engine.openvino", "OpenVino"),
    "onnxruntime": ("edgevit.engine.onnxruntime", "OnnxRuntime"),
    "tensorrt": ("edgevit.engine.tensorrt", "TensorRt"),
    "tensorrt_rtx": ("edgevit.engine.tensorrt", "TensorRtRtx"),
}
CPU_ENGINES = ("openvino", "onnxruntime")
"""Those that run on any machine they are installed on."""


def backend(name: str) -> Backend:
    """The engine called ``name``. Raises ConfigError for an unknown one."""
    if name not in BACKENDS:
        msg = f"unknown engine {name!r}. {did_you_mean(name, BACKENDS)}"
        raise ConfigError(msg)
    module, attribute = BACKENDS[name]
    engine: Backend = getattr(import_module(module), attribute)()
    return engine


def open_session(name: str, model: bytes, *, threads: int | None = None) -> Session:
    """Compile an ONNX model with the engine called ``name`` and load it, on this machine."""
    engine = backend(name)
    return engine.load(engine.compile(model, threads=threads), threads=threads)


def runs_here(name: str) -> bool:
    """Whether this machine has what the engine called ``name`` takes: its packages and, for TensorRT, a GPU."""
    from edgevit.engine.tensorrt import TensorRt

    engine = backend(name)
    return engine.runs_here if isinstance(engine, TensorRt) else find_spec(name) is not None


def alternatives(name: str) -> list[str]:
    """The engine called ``name``, then the other CPU engines that are installed here; TensorRT has none."""
    if not backend(name).just_in_time:
        return [name]
    return [name, *(other for other in CPU_ENGINES if other != name and runs_here(other))]
