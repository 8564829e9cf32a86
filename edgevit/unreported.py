"""OpenVINO and ONNX Runtime without their reports to Intel and Microsoft: every import of the two goes through here.

Left alone, ``import openvino`` sends an event to Google Analytics and keeps a client's id in ``~/intel``; ``import onnxruntime``
(official Linux wheels from 1.29 on) keeps a device's id in ``~/.cache/Microsoft``, and sends what sessions load: file and graph
names, hashes of graphs and weights. Nobody was asked.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgevit.errors import needs_extra

REPORTER = "openvino_telemetry"
"""The module that OpenVINO and NNCF report with. Where it cannot be imported, both take a stand-in that sends nothing."""
OPT_OUT = "ORT_DISABLE_TELEMETRY"
"""Environment variable that ONNX Runtime reads once, as it is loaded: then no uploader, no id and no file."""
SILENCE = f"import os, sys; sys.modules[{REPORTER!r}], os.environ[{OPT_OUT!r}] = None, '1'"
"""A line that does the same for good: for the script of a process that is there to import one of them."""
_lock = threading.Lock()
_silent: set[str] = set()  # modules that were imported here, or have been told


@contextmanager
def unreported() -> Iterator[None]:
    """What is imported inside reports nothing, for as long as the process lives. Afterwards the process is as it was."""
    with _lock:
        reporter, opted = sys.modules.get(REPORTER, _lock), os.environ.get(OPT_OUT)
        sys.modules[REPORTER] = None  # type: ignore[assignment]  # Python's own way to say: not importable
        os.environ[OPT_OUT] = "1"
        try:
            yield
        finally:
            if reporter is _lock:
                del sys.modules[REPORTER]
            else:
                sys.modules[REPORTER] = reporter  # type: ignore[assignment]  # what was there
            if opted is None:
                del os.environ[OPT_OUT]
            else:
                os.environ[OPT_OUT] = opted


def import_openvino() -> Any:
    """The module ``openvino``. Raises MissingPackageError."""
    return _known("openvino") or _imported("openvino", "cpu")


def import_onnxruntime(extra: str = "cpu") -> Any:
    """The module ``onnxruntime``. Raises MissingPackageError that names ``extra`` of edgevit's."""
    if module := _known("onnxruntime"):
        return module
    others = sys.modules.get("onnxruntime") is not None
    module = _imported("onnxruntime", extra)
    if others:  # somebody else's import, with its way out open: it is not to tell of what edgevit loads
        module.disable_telemetry_events()
    return module


def _known(name: str) -> Any:
    """The module called ``name``, if it is there and was silenced; else None."""
    return sys.modules.get(name) if name in _silent else None


def _imported(name: str, extra: str) -> Any:
    with needs_extra(extra), unreported():
        module = importlib.import_module(name)
    _silent.add(name)
    return module
