"""All outputs of an ONNX graph, on ONNX Runtime: for graphs that show more than logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.engine.base import cause
from edgevit.engine.onnxruntime import onnxruntime_session, session_options
from edgevit.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.engine.base import Frames


class NamedOutputs:
    """A graph to run for everything it gives."""

    def __init__(self, model: bytes, *, threads: int | None = None) -> None:
        """Load ``model``, ONNX. Raises EngineError if ONNX Runtime refuses it."""
        self._session: Any = onnxruntime_session(model, session_options(threads))
        self._input = self._session.get_inputs()[0].name
        self.names = tuple(output.name for output in self._session.get_outputs())

    def run(self, frames: Frames) -> dict[str, NDArray[np.float32]]:
        """Every output by name, float32, for frames uint8 [N, H, W, 3]. Raises EngineError if the engine fails."""
        try:
            values = self._session.run(None, {self._input: frames})
        except Exception as error:  # its exceptions share no base class but Exception
            msg = f"onnxruntime: inference failed: {cause(error)}"
            raise EngineError(msg) from error
        return {name: np.asarray(value, np.float32) for name, value in zip(self.names, values, strict=True)}
