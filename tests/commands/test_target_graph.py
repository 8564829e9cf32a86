"""From a decision to the target's engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.commands import target_graph
from edgevit.engine import tensorrt
from edgevit.engine.tensorrt import BuilderRefusedError
from edgevit.export.variants import Variant
from edgevit.part import Part
from edgevit.target import load_target
from edgevit.workbench import Workbench


class Decided:
    """A decision that counts how often its graph is written: for a large model that takes seconds."""

    samples = None

    def __init__(self, written: list[str], parts: int = 2) -> None:
        self.written, self.parts = written, parts
        self.plan = SimpleNamespace(model=SimpleNamespace(blocks=()), attention={})

    def variant(self, engine: str) -> Variant:
        self.written.append(f"{engine} {self.parts}")
        return Variant(precision="int8", model=self.written[-1].encode(), blocks=())

    def without(self, parts: list[str], reason: str) -> Decided:
        return Decided(self.written, self.parts - len(parts))


def test_a_graph_is_written_once_for_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the builder takes is what the bundle gets."""
    written: list[str] = []

    def build_engine(model: bytes, *_: Any, **__: Any) -> Any:
        if model.endswith(b"2"):
            msg = "no kernel"
            raise BuilderRefusedError(msg, ("blocks.0",))
        return SimpleNamespace(engine=b"", timing_cache=b"")

    monkeypatch.setattr(tensorrt, "builder_version", lambda _engine: "tensorrt 10")
    monkeypatch.setattr(tensorrt, "build_engine", build_engine)
    monkeypatch.setattr(target_graph, "int8_parts", lambda _plan: [Part(0, "fc1")])
    monkeypatch.setattr(target_graph, "read_plan", lambda *_, **__: SimpleNamespace(warnings=(), plan=None))
    monkeypatch.setattr(target_graph, "_estimates", lambda *_: ())
    found = target_graph.compile_for(Decided(written), Workbench(target=load_target("jetson"), threads=1))  # type: ignore[arg-type]
    assert written == ["tensorrt 2", "tensorrt 1"]
    assert found.variant.model == b"tensorrt 1"
    assert any("INT8 refused by the builder" in note for note in found.notes)


@pytest.mark.parametrize(("here", "attention", "said"), [(True, True, True), (True, False, False), (False, True, False)])
def test_a_build_on_the_board_says_what_it_did_not_time(
    monkeypatch: pytest.MonkeyPatch, here: bool, attention: bool, said: bool
) -> None:
    plan = SimpleNamespace(unfused=lambda _blocks: [])
    monkeypatch.setattr(tensorrt, "builder_version", lambda _engine: "tensorrt 10")
    monkeypatch.setattr(tensorrt, "build_engine", lambda *_, **__: SimpleNamespace(engine=b"", timing_cache=b""))
    monkeypatch.setattr(target_graph, "read_plan", lambda *_, **__: SimpleNamespace(warnings=(), plan=plan))
    monkeypatch.setattr(target_graph, "_estimates", lambda *_: ())
    monkeypatch.setattr(target_graph, "is_here", lambda _target: here)
    monkeypatch.setattr(tensorrt, "stamp_here", lambda _engine: {})
    decided = Decided([])
    if attention:
        decided.plan.attention = {Part(0, "attention"): None}
    found = target_graph.compile_for(decided, Workbench(target=load_target("jetson"), threads=1))  # type: ignore[arg-type]
    assert (target_graph.UNTIMED in found.notes) == said


@pytest.mark.parametrize(("without_vnni", "engine"), [(True, "openvino"), (False, "openvino"), (True, "onnxruntime")])
def test_int8_that_gains_nothing_here_is_said(without_vnni: bool, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO's integers saturate without VNNI, so it multiplies in FP32; a build must not leave that to be wondered at."""
    monkeypatch.setattr(target_graph, "saturates", lambda: without_vnni)
    monkeypatch.setattr(target_graph, "is_here", lambda _target: True)
    monkeypatch.setattr(target_graph, "open_session", lambda *_, **__: SimpleNamespace(close=lambda: None))
    target = load_target("cpu").on(engine)
    found = target_graph.compile_for(Decided([]), Workbench(target=target, threads=1))  # type: ignore[arg-type]
    assert [note for note in found.notes if "no VNNI" in note] == (
        [target_graph.WITHOUT_VNNI] if without_vnni and engine == "openvino" else []
    )
