"""What TensorRT says while it compiles or runs, kept instead of written to the terminal."""

from __future__ import annotations

from collections import deque
from typing import Any

MOST = 100  # messages; a session lives for weeks and TensorRT may have something to say about every inference


def keeper(trt: Any) -> Any:
    """A logger for the module ``trt``.

    It has ``errors``, the latest last; ``warnings``, each text once; and ``layers``, the compiled plan, a line per
    layer, which a builder lists at level VERBOSE.
    """

    class Keeper(trt.ILogger):  # type: ignore[misc]  # the module is only known at run time
        def __init__(self) -> None:
            super().__init__()  # pybind11 wants it
            self.errors: deque[str] = deque(maxlen=MOST)
            self.warnings: list[str] = []
            self.layers: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(text.strip())
            elif severity == trt.ILogger.WARNING:
                if text.strip() not in self.warnings and len(self.warnings) < MOST:
                    self.warnings.append(text.strip())
            elif "Name: " in text and "LayerType: " in text:
                self.layers += [line for line in text.splitlines() if line.startswith("Name: ")]

    return Keeper()
