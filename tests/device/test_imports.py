"""What looks at a board needs nothing but NumPy: the doctor is for the day on which the rest does not load."""

from __future__ import annotations

import pkgutil

import edgevit.device
from tests.support import python

BLOCKED = ("torch", "onnx", "onnxruntime", "openvino", "cv2", "rich", "psutil", "cryptography", "tensorrt", "pycuda")


def test_every_module_imports_with_numpy_alone() -> None:
    modules = [module.name for module in pkgutil.walk_packages(edgevit.device.__path__, "edgevit.device.")]
    assert "edgevit.device.doctor.software" in modules
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    with python(code, *modules, without=(*BLOCKED, "click")) as process:
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


def test_doctor_runs_where_nothing_loads(edgevit_process) -> None:
    """And names what is missing."""
    outcome = edgevit_process("doctor", "--json", without=tuple(name for name in BLOCKED if name != "rich"))
    assert outcome.code in (0, 1), outcome.stderr
    assert outcome.json["findings"]
