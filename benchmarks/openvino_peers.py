"""OpenVINO with models that other quantizers compiled, beside those that edgevit writes: see `speed.py`."""

from __future__ import annotations

from typing import Any

from edgevit.engine.base import Session, SessionBase
from edgevit.engine.openvino import OpenVino


class OpenVinoWithPeers(OpenVino):
    """Opens as it is what is in ``compiled``, by the content that stands for it; everything else as `OpenVino` does."""

    compiled_models: dict[bytes, Any] = {}  # noqa: RUF012  # one table for the process

    def open(self, model: bytes, *, threads: int | None = None, batch: int = 1) -> Session:
        """See `edgevit.engine.base.Backend.open`."""
        import numpy as np

        if model not in self.compiled_models:
            return super().open(model, threads=threads, batch=batch)
        compiled = self.compiled_models[model]
        request = compiled.create_infer_request()
        return SessionBase(
            engine=self.version, threads=compiled.get_property("INFERENCE_NUM_THREADS"), shape=tuple(compiled.input(0).shape)[1:],
            run=lambda frames: (np.concatenate([request.infer([frame[None]], share_inputs=True)[0] for frame in frames]), None),
        )  # fmt: skip
