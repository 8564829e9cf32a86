"""All outputs of an ONNX graph, on ONNX Runtime: for graphs that show more than logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine.base import available_threads, cause
from edgevit.engine.onnxruntime import DISABLED
from edgevit.errors import EngineError
from edgevit.unreported import import_onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.engine.base import Frames


class Outputs:
    """A graph to run for everything it gives."""

    def __init__(self, model: bytes, *, threads: int | None = None) -> None:
        """Load ``model``, ONNX. Raises EngineError if ONNX Runtime refuses it."""
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_threads()
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED
            )
        except Exception as error:  # its exceptions share no base class but Exception
            msg = f"onnxruntime {onnxruntime.__version__} cannot load this model: {cause(error)}"
            raise EngineError(msg) from error
        self._input = self._session.get_inputs()[0].name
        self.names = tuple(output.name for output in self._session.get_outputs())

    def run(self, frames: Frames) -> dict[str, NDArray[np.float32]]:
        """Every output by name, float32, for frames uint8 [N, H, W, 3]."""
        values = self._session.run(None, {self._input: frames})
        return {name: np.asarray(value, np.float32) for name, value in zip(self.names, values, strict=True)}
