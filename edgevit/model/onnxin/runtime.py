"""ONNX Runtime on graphs that somebody else wrote: on the CPU, from memory, so that it opens no file that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.unreported import import_onnxruntime

if TYPE_CHECKING:
    from edgevit.model.onnxin.values import Array


class RuntimeRefusal(Exception):  # noqa: N818  # it is caught and said as what it means
    """ONNX Runtime does not take a graph, or fails in it. Its text is one line."""


class Session:
    """A graph that is ready to run."""

    def __init__(self, model: bytes, weights: dict[str, Array] | None = None, *, threads: int = 0) -> None:
        """``weights`` are the tensors that ``model`` has elsewhere. Raises RuntimeRefusal."""
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what is wrong comes as an exception
        self._weights = weights or {}  # which the session does not copy
        self._values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        if self._values:
            options.add_external_initializers(list(self._weights), self._values)
        try:
            self._session: Any = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class but Exception
            raise RuntimeRefusal(_line(error)) from error

    def __call__(self, given: dict[str, Array]) -> list[Array]:
        """The outputs for inputs by name. Raises RuntimeRefusal."""
        try:
            return list(self._session.run(None, given))
        except Exception as error:  # the same
            raise RuntimeRefusal(_line(error)) from error


def _line(error: Exception) -> str:
    """Without the code that its messages begin with."""
    return str(error).rpartition(" : ")[2].partition("\n")[0].strip() or type(error).__name__
