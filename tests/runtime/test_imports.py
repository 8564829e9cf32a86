"""The on-device part loads where torch, onnx and the engines are not installed, and OpenCV only when used."""

from __future__ import annotations

import pkgutil

import edgevit.runtime
from tests.support import python

BLOCKED = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "cv2",
    "click",
    "rich",
    "paho",
    "prometheus_client",
    "starlette",
    "uvicorn",
)


def test_every_module_imports_with_numpy_alone() -> None:
    modules = [module.name for module in pkgutil.walk_packages(edgevit.runtime.__path__, "edgevit.runtime.")]
    assert len(modules) > 5
    assert "edgevit.runtime.sinks.mqtt" in modules
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    with python(code, *modules, without=BLOCKED) as process:
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
