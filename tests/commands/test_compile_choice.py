"""`compile` chooses by time among what is right. What plays the GPU is ONNX Runtime on the graph that is to be compiled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import ENGINE, MODEL, Bundle, open_bundle, write_bundle
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.commands import compile as ondevice
from edgevit.commands import compile_choice
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.compile import compile_bundle
from edgevit.device.gpu_clock import GpuClock, gpu_clock
from edgevit.device.jetson import GPU_CLOCKS
from edgevit.engine.base import GraphUse
from edgevit.engine.cut import END
from edgevit.engine.forms import careful_forms, equal_forms
from edgevit.engine.onnx_nodes import nodes_of
from edgevit.engine.onnxruntime import OnnxRuntime
from edgevit.engine.rewrite import float_attention, int8_attention
from edgevit.engine.tensorrt import BuildOptions, BuiltEngine, TensorRt
from edgevit.errors import EngineError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.progress import Progress
from edgevit.recipe import load_recipe
from edgevit.target import load_target
from tests.plan.plans import recorded
from tests.zoo import folded

Graph = bytes
USE = GraphUse(used=True, with_ms=1.0, without_ms=1.5)


@pytest.fixture(scope="module")
def source(checkpoint_path: Path, image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An INT8 bundle with INT8 attention, as it comes to a board. Read only."""
    recipe = load_recipe("fast")
    recipe = replace(recipe, quantize=replace(recipe.quantize, attention="full"))
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "RUNS", 5)
        patch.setattr("edgevit.engine.tensorrt.find_spec", lambda _name: None)
        request = BuildRequest(model=checkpoint_path, target=load_target("jetson"), recipe=recipe, out=folder / "b.edgevit",
                               data=image_folder, threads=1)  # fmt: skip
        return build_module.run_build(request, Cache(), Progress()).bundle.path


class Device(TensorRt):
    """A board: an engine is the graph. ``seconds`` an inference takes, ``wrong`` graphs go wrong from block 1 on."""

    version = "tensorrt 10.3"

    def __init__(self) -> None:
        self.seconds: Callable[[Graph], float] = lambda _: 0.0
        self.wrong: Callable[[Graph], bool] = lambda _: False
        self.refuses: Callable[[Graph], bool] = lambda _: False
        self.room = 10
        self.compiled: list[Graph] = []
        self.caches: list[bytes] = []

    def build_engine(self, model: Graph, *_: Any, timing_cache: bytes, **__: Any) -> BuiltEngine:
        self.caches.append(timing_cache)
        if self.refuses(model):
            msg = "tensorrt 10.3 refuses this graph: no kernel"
            raise EngineError(msg)
        self.compiled.append(model)
        return BuiltEngine(engine=model, timing_cache=b"timings", version=self.version, seconds=1.0, peak_mib=1.0,
                           layers=recorded("dequantized"), inspector=None, warnings=())  # fmt: skip

    def open(self, model: Graph, *, threads: int | None = None, batch: int = 1) -> Any:
        return self.load(model)

    def load(self, engine: bytes, *, graph: bool = True) -> Any:
        if not self.room:
            msg = "the engine finds no room in memory"
            raise EngineError(msg)
        self.room -= 1
        session = OnnxRuntime().open(engine, threads=1)
        infer, close = session.infer, session.close
        ends = [node.inputs[0] for node in nodes_of(engine) if node.outputs == (END,)]  # of a graph that was cut short
        seconds, wrong = (
            self.seconds(engine),
            self.wrong(engine) and not any(end.startswith(("embed", "blocks.0")) for end in ends),
        )

        def run(frames: np.ndarray) -> np.ndarray:
            time.sleep(seconds)
            found = np.concatenate([infer(frame[None]) for frame in frames])
            return found + found.std() * np.sin(np.arange(found.size)).reshape(found.shape) if wrong else found

        def closed() -> None:
            self.room += 1
            close()

        session.infer, session.close, session.graph = run, closed, USE  # type: ignore[method-assign, misc]
        return session


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    for name in ("edgevit.commands.compile.backend", "edgevit.engine.backend"):
        monkeypatch.setattr(name, lambda _name, *_device: made)
    monkeypatch.setattr("edgevit.engine.tensorrt.build_engine", made.build_engine)
    monkeypatch.setattr(compile_choice, "HEAT_UP", 0.0)
    monkeypatch.setattr(compile_choice, "RUNS", 10)
    monkeypatch.setattr(compile_choice, "gpu_clock", lambda: None)
    monkeypatch.setattr(ondevice, "runs_here", lambda _name: True)
    monkeypatch.setattr("edgevit.engine.tensorrt.builder_version", lambda _engine: "tensorrt 10.3")
    return made


@pytest.fixture
def bundle(source: Path, tmp_path: Path) -> Bundle:
    """A copy that may be compiled."""
    opened = open_bundle(source)
    files = {name: opened.read(name) for name in opened.manifest.files}
    return write_bundle(tmp_path / "b.edgevit", opened.manifest, files)


def compiled(bundle: Bundle) -> Bundle:
    return compile_bundle(bundle.path, BuildOptions())[0]


def facts(bundle: Bundle) -> dict[str, Any]:
    assert bundle.manifest.compiled is not None
    return bundle.manifest.compiled


def in_fp32(op: str) -> Callable[[Graph], bool]:
    """Whether a graph does not have ``op`` between casts."""
    return lambda graph: not any(name.endswith(f"{op}/fp32") for node in nodes_of(graph) for name in node.outputs)


@pytest.mark.parametrize("faster", ["INT8 attention", "FP16 attention"])
def test_the_faster_form_is_kept(bundle: Bundle, device: Device, faster: str) -> None:
    device.seconds = lambda graph: 0.004 if bool(int8_attention(graph)) == (faster == "FP16 attention") else 0.0
    model = bundle.read(MODEL)
    found = compiled(bundle)
    assert facts(found)["form"] == faster
    assert found.read(ENGINE) == (model if faster == "INT8 attention" else float_attention(model))
    assert found.read(MODEL) == model  # it is compiled from again after an upgrade
    assert [item["form"] for item in facts(found)["tried"]] == ["INT8 attention", "FP16 attention"]
    times = {item["form"]: item["p50_ms"] for item in facts(found)["tried"]}
    assert min(times, key=times.__getitem__) == faster
    assert found.manifest.latency is not None
    assert found.manifest.latency[found.manifest.precision]["p50_ms"] == times[faster]
    kind = "int8" if faster == "INT8 attention" else "fp16"
    assert {block[part] for block in found.manifest.blocks for part in ("scores", "values")} == {kind}
    assert {block[part] for block in found.manifest.blocks for part in ("qkv", "proj", "fc1", "fc2")} == {"int8"}
    assert facts(found)["graph"] == {"used": True, "with_ms": 1.0, "without_ms": 1.5, "reason": ""}
    assert device.caches == [b"", b"timings"]  # most kernels of the second are the first's


def test_another_choice_later_is_told_as_such(bundle: Bundle, device: Device) -> None:
    device.seconds = lambda graph: 0.004 if int8_attention(graph) else 0.0
    assert compiled(bundle).manifest.blocks[0]["scores"] == "fp16"
    device.seconds = lambda graph: 0.0 if int8_attention(graph) else 0.004
    found = compiled(open_bundle(bundle.path))
    assert facts(found)["form"] == "INT8 attention"
    assert found.manifest.blocks == bundle.manifest.blocks


def test_a_wrong_form_is_not_kept_however_fast(bundle: Bundle, device: Device) -> None:
    device.wrong = lambda graph: bool(int8_attention(graph))
    device.seconds = lambda graph: 0.0 if int8_attention(graph) else 0.004
    found = compiled(bundle)
    assert facts(found)["form"] == "FP16 attention"
    (note,) = [text for text in found.manifest.notes if text.startswith("compile: ")]
    assert note.startswith("compile: INT8 attention is not kept: ")
    assert note.endswith("it first goes wrong in blocks.1")
    assert facts(found)["tried"][0]["p50_ms"] is None


@pytest.mark.parametrize(
    ("wrong", "kept"),
    [
        (in_fp32("Softmax"), ["softmax in FP32"]),
        (in_fp32("LayerNormalization"), ["softmax in FP32", "norms in FP32"]),
        (
            lambda graph: any(node.name == "blocks.1/fc1/QuantizeLinear" for node in nodes_of(graph)),
            ["softmax in FP32", "norms in FP32", "blocks.1 in FP16"],
        ),
    ],
    ids=["softmax", "norms", "block"],
)
def test_more_careful_forms_are_tried_in_turn(
    bundle: Bundle, device: Device, wrong: Callable[[Graph], bool], kept: list[str]
) -> None:
    device.wrong = wrong
    found = compiled(bundle)
    assert facts(found)["form"] == ", ".join(["FP16 attention", *kept])
    assert len(facts(found)["tried"]) == 2 + len(kept)  # it ends with the first that is right
    notes = [text for text in found.manifest.notes if text.startswith("compile: ")]
    assert len(notes) == 1 + len(kept)
    assert all("wrongly here" in text for text in notes)
    if "blocks.1 in FP16" in kept:
        assert set(found.manifest.blocks[1].values()) == {"fp16"}
        assert found.manifest.blocks[0]["fc1"] == "int8"


def test_where_nothing_is_right_all_that_was_tried_is_told(bundle: Bundle, device: Device) -> None:
    device.wrong = lambda _: True
    with pytest.raises(EngineError) as caught:
        compiled(bundle)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith("Build it with --precision fp32.")
    assert "; it first goes wrong in blocks.1. " in said
    for name in ("FP16 attention", "softmax in FP32", "norms in FP32", "blocks.1 in FP16"):
        assert re.search(rf"{name} \(-?\d+ dB\)", said)
    assert len(said) < 700
    assert "update" not in said.lower()  # on JetPack 6 there is nothing to update to
    assert ENGINE not in open_bundle(bundle.path).manifest.files


def test_a_form_that_is_refused_leaves_the_other(bundle: Bundle, device: Device) -> None:
    device.refuses = lambda graph: bool(int8_attention(graph))
    found = compiled(bundle)
    assert facts(found)["form"] == "FP16 attention"
    assert "compile: INT8 attention is not kept: tensorrt 10.3 refuses this graph: no kernel" in found.manifest.notes


def test_all_refused_is_one_line(bundle: Bundle, device: Device) -> None:
    device.refuses = lambda _: True
    with pytest.raises(EngineError, match="refuses this graph: no kernel"):
        compiled(bundle)
    assert len(device.caches) == 2  # what is refused is not wrong: nothing more careful is tried


def test_no_room_for_two_keeps_the_first(bundle: Bundle, device: Device) -> None:
    device.room = 1
    found = compiled(bundle)
    assert facts(found)["form"] == "INT8 attention"
    assert "finds no room in memory" in facts(found)["tried"][1]["failure"]


def test_fp32_has_nothing_more_careful(bundle: Bundle, device: Device) -> None:
    device.wrong = lambda _: True
    question = compile_choice.Question(
        engine="tensorrt", model=float_attention(bundle.read(MODEL)), samples=bundle.read("samples.npz"), size=(32, 32),
        precision="fp32", problem_type="single_label", bare=(), blocks=2, options=BuildOptions(), timing_cache=b"",
    )  # fmt: skip
    with pytest.raises(EngineError, match="wrongly here"):
        compile_choice.choose_form(question)
    assert len(device.compiled) == 1


def test_forms_of_what_is_no_model() -> None:
    assert [form.name for form in equal_forms(b"junk")] == ["as built"]


def test_fp16_has_no_int8_to_give_up() -> None:
    model = folded()
    graph = write_graph(QuantPlan(model=model), form_for("tensorrt", "fp16"))
    assert [form.name for form in equal_forms(graph)] == ["as built"]
    assert [form.name for form in careful_forms(graph, "blocks.1")] == ["softmax in FP32", "softmax in FP32, norms in FP32"]


def test_a_block_that_is_not_named_is_not_rewritten(bundle: Bundle) -> None:
    graph = bundle.read(MODEL)
    assert [form.name for form in careful_forms(graph, None)] == [
        "FP16 attention, softmax in FP32", "FP16 attention, softmax in FP32, norms in FP32",
    ]  # fmt: skip
    assert len(list(careful_forms(graph, "the head"))) == 2


@pytest.mark.parametrize(("factor", "said"), [(1.2, False), (2, True)])
def test_a_plan_far_from_the_stand_ins_is_said(bundle: Bundle, device: Device, factor: float, said: bool) -> None:
    """And again at the next compile, though the bundle then has the device's own plan."""
    kernels = len(compile_choice.read_plan(device.build_engine(b"", timing_cache=b""), blocks=2).plan.kernels)
    plan = {"stand_in": True, "builder": "tensorrt 11.4", "kernels": int(factor * kernels)}
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    bundle = write_bundle(bundle.path, replace(bundle.manifest, compiled={"plan": plan}), files)
    for _ in range(2):
        found = compiled(open_bundle(bundle.path))
        notes = [text for text in found.manifest.notes if "estimates of the build do not hold" in text]
        assert len(notes) == said
        assert facts(found)["stand_in"] == {"builder": "tensorrt 11.4", "kernels": plan["kernels"]}
        assert facts(found)["plan"]["stand_in"] is False


def test_a_free_clock_is_said(bundle: Bundle, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    for clock, said in ((GpuClock(lowest=306, highest=918, now=306), True), (GpuClock(lowest=918, highest=918, now=918), False)):
        monkeypatch.setattr(compile_choice, "gpu_clock", lambda clock=clock: clock)
        found = compiled(open_bundle(bundle.path))
        assert any("sudo jetson_clocks" in text for text in found.manifest.notes) == said
        assert found.manifest.latency is not None
        assert found.manifest.latency["conditions"]["clock"]["locked"] != said


def test_the_clock_is_the_kernels(tmp_path: Path) -> None:
    assert gpu_clock(tmp_path) is None
    folder = tmp_path / GPU_CLOCKS[0]
    folder.mkdir(parents=True)
    for name, hertz in (("min_freq", 306_000_000), ("max_freq", 918_000_000), ("cur_freq", 612_000_000)):
        (folder / name).write_text(f"{hertz}\n")
    found = gpu_clock(tmp_path)
    assert found == GpuClock(lowest=306, highest=918, now=612)
    assert not found.locked
    (folder / "min_freq").write_text("918000000\n")
    assert str(gpu_clock(tmp_path)) == "GPU clock locked at 918 MHz"


def test_the_gpu_is_warm_before_it_is_timed(bundle: Bundle, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_choice, "HEAT_UP", 0.3)
    seen: list[float] = []
    real = compile_choice.take_turns

    def take_turns(*args: Any, **kwargs: Any) -> Any:
        seen.append(time.perf_counter() - start)
        return real(*args, **kwargs)

    monkeypatch.setattr(compile_choice, "take_turns", take_turns)
    start = time.perf_counter()
    compiled(bundle)
    assert seen[0] >= 0.3


def test_what_was_tried_is_printed(edgevit: Callable[..., Any], bundle: Bundle, device: Device) -> None:
    device.seconds = lambda graph: 0.004 if int8_attention(graph) else 0.0
    outcome = edgevit("compile", bundle.path)
    assert outcome.code == 0, outcome.stderr
    assert "Tried on this machine" in outcome.stdout
    assert any(line.split()[:2] == ["FP16", "attention"] and line.endswith("kept") for line in outcome.stdout.splitlines())
    assert "CUDA graph: used, 1.00 ms an inference with it, 1.50 without" in outcome.stdout
    shown = " ".join(edgevit("inspect", bundle.path).stdout.split())
    assert "FP16 attention, chosen by timing; INT8 attention" in shown
    assert "CUDA graph used, 1.00 ms an inference with it" in shown
    document = edgevit("compile", bundle.path, "--json").json
    assert [item["form"] for item in document["tried"]] == ["INT8 attention", "FP16 attention"]
    assert document["graph"]["used"]
