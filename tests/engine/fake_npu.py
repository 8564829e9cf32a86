"""An engine for a device that there is not, compiled ahead of time: all that adding one takes is here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edgevit.engine.base import LayerTime, Session, SessionBase
from edgevit.engine.builder import Advance, AheadOfTime, BuildOptions, BuiltEngine
from edgevit.engine.onnxruntime import OnnxRuntime
from edgevit.engines import ENGINES, EngineTraits, Int8Attention
from edgevit.errors import ConfigError, EngineError
from edgevit.graphform import Form, Forms
from tests.zoo import Frames

TRAITS = EngineTraits(
    backend="tests.engine.fake_npu:FakeNpu",
    title="FakeNPU",
    processor="npu",
    ahead_of_time=True,
    modules=("fake_npu_runtime",),
    extra="fake",
    multiple=24,
    forms=Forms(fp32=Form(batch=1), fp16=Form(batch=1), int8=Form(attention="rank4", batch=1)),
    int8_attention=Int8Attention(head_dims=(4096,), tokens=1),
    exact_fp32=False,
)
TARGET = 'description = "a fake NPU"\nprecisions = ["fp32", "int8"]\n\n[engine]\ndefault = "fake_npu"\n'
HEADER = b"fake engine: "


class FakeNpu(AheadOfTime):
    """Its engines are graphs behind a header, and ONNX Runtime plays the device."""

    name, version = "fake_npu", "fake_npu 1.0"
    serial: str | None = None
    """Of the device; None if none is connected."""

    def lacking(self) -> str:
        return "" if self.serial else "no fake NPU (connect one)"

    def build(
        self, model: bytes, options: BuildOptions, advance: Advance | None = None, *, timing_cache: bytes = b""
    ) -> BuiltEngine:  # fmt: skip
        OnnxRuntime().open(model, threads=1).close()  # refuses what is no graph
        return BuiltEngine(
            engine=HEADER + model, timing_cache=b"", version=self.version, seconds=0.0, peak_mib=0.0, layers=(), inspector=None,
            warnings=(),
        )  # fmt: skip

    def load(self, engine: bytes, *, graph: bool = True) -> Session:
        if not engine.startswith(HEADER):
            msg = "fake_npu: this is no engine of its"
            raise EngineError(msg)
        inner = OnnxRuntime().open(engine.removeprefix(HEADER), threads=1)
        shape = inner.shape  # type: ignore[attr-defined]
        return SessionBase(
            engine=self.version, threads=1, shape=shape,
            run=lambda frames: (np.concatenate([inner.infer(f[None]) for f in frames]), None),
        )  # fmt: skip

    def stamp(self) -> dict[str, str]:
        return {"builder": self.version, "device": str(self.serial)}

    def layer_times(
        self, model: bytes, frames: Frames, *, threads: int | None, runs: int, compiled: bytes | None = None
    ) -> list[LayerTime]:  # fmt: skip
        msg = "fake_npu has no profiler"
        raise ConfigError(msg)


@contextmanager
def registered(serial: str | None = None) -> Iterator[None]:
    """With its row in the table, and a device that has ``serial``; None for a machine without one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "fake_npu", TRAITS)
        patch.setattr(FakeNpu, "serial", serial)
        yield
