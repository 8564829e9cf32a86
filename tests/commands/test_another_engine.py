"""A build for an engine that edgevit has never heard of: what is decided follows its traits, from the form to the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgevit.bundle import ENGINE, MODEL, Bundle, open_bundle
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.commands import compile_choice
from edgevit.commands.build import run_build
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.compile import compile_bundle
from edgevit.commands.plan import plan_build
from edgevit.commands.profile import profile_bundle
from edgevit.engine import runs_here
from edgevit.engine.builder import BuildOptions
from edgevit.engine.check import HALF_FLOOR_DB, floor_of
from edgevit.engine.here import is_here, proxy_engine_of
from edgevit.engine.of_bundle import session_of
from edgevit.errors import ConfigError, EngineError
from edgevit.model.checkpoint import load_checkpoint
from edgevit.progress import Progress
from edgevit.pruning.layer_times import costs_on
from edgevit.recipe import load_recipe
from edgevit.runtime.source import open_source
from edgevit.target import Target, load_target
from edgevit.workbench import Workbench
from tests.engine.fake_npu import HEADER, TARGET, registered
from tests.support import Outcome

CPU = load_target("cpu").engine()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    path = tmp_path / "fake.toml"
    path.write_text(TARGET)
    with registered():
        return load_target(str(path))


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A machine that can compile and has no such device."""
    with registered():
        yield


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The device itself."""
    monkeypatch.setattr(compile_choice, "HEAT_UP", 0.0)
    monkeypatch.setattr(compile_choice, "RUNS", 5)
    with registered("123"):
        yield


@pytest.fixture
def request_of(
    target: Target, checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], BuildRequest]:
    monkeypatch.setattr(build_module, "RUNS", 5)
    recipe = load_recipe("fast")
    recipe = replace(recipe, quantize=replace(recipe.quantize, attention="full"))
    return lambda: BuildRequest(model=checkpoint_path, target=target, recipe=recipe, out=tmp_path / "b.edgevit",
                                data=image_folder, threads=1)  # fmt: skip


def batch_of(model: bytes) -> object:
    return onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim[0].dim_value


def test_what_the_table_decides(elsewhere: None, target: Target, checkpoint_path: Path) -> None:
    assert target.multiple == 24
    assert floor_of("fake_npu") == HALF_FLOOR_DB
    assert (is_here(target), proxy_engine_of(target)) == (False, CPU)
    costs = costs_on(Workbench(target=target, threads=1), load_checkpoint(checkpoint_path).model.config, "int8")
    assert costs.source == "multiply-accumulates"  # neither timed, as it is compiled ahead, nor estimated without kernels


def test_a_build_elsewhere(elsewhere: None, request_of: Callable[[], BuildRequest]) -> None:
    """Judged by this machine's engine, timed by none, compiled as a trial, and left to the device."""
    stages = [stage.name for stage in plan_build(request_of(), Cache()).stages]
    assert "compile with fake_npu 1.0" in stages
    assert not {"measure latency", "check fp16 range"} & set(stages)
    result = run_build(request_of(), Cache(), Progress())
    manifest = result.bundle.manifest
    assert (manifest.engine, manifest.latency, manifest.compiled) == ("fake_npu", None, None)
    assert ENGINE not in manifest.files
    assert batch_of(result.bundle.read(MODEL)) == 1
    assert {block["scores"] for block in manifest.blocks} == {"fp32"}
    assert any(reason.startswith("FakeNPU fuses INT8 attention of head sizes 4096 only") for reason in manifest.reasons.values())
    assert result.comparison is not None
    assert {row.engine.split()[0] for row in result.comparison.rows} == {CPU}
    assert "fake_npu_runtime" not in manifest.provenance["versions"]


def says(act: Callable[[], object], error: type[Exception] = EngineError) -> str:
    with pytest.raises(error) as caught:
        act()
    return str(caught.value)


def test_from_the_build_to_the_device(request_of: Callable[[], BuildRequest], monkeypatch: pytest.MonkeyPatch) -> None:
    """Built elsewhere, compiled where the device is, refused where another is."""
    monkeypatch.setattr(compile_choice, "HEAT_UP", 0.0)
    monkeypatch.setattr(compile_choice, "RUNS", 5)
    with registered():
        path = run_build(request_of(), Cache(), Progress()).bundle.path
        assert "fake_npu cannot run here: no fake NPU (connect one)" in says(lambda: session_of(open_bundle(path)))
        assert "this one cannot: no fake NPU" in says(lambda: compile_bundle(path, BuildOptions()))
    with registered("123"):
        assert runs_here("fake_npu")
        assert "not compiled yet. On the device that runs it: edgevit compile" in says(lambda: session_of(open_bundle(path)))
        compiled, built = compile_bundle(path, BuildOptions())
        assert compiled.read(ENGINE) == built.engine == HEADER + compiled.read(MODEL)
        facts = compiled.manifest.compiled
        assert facts is not None
        assert facts["plan"] is None  # its builder lists no kernels, so nothing is said about them
        assert facts["engine"] == {"builder": "fake_npu 1.0", "device": "123"}
        assert not [note for note in compiled.manifest.notes if note.startswith("plan: ")]
        size = compiled.manifest.preprocessing.size
        with session_of(open_bundle(path)) as session:
            assert session.infer(np.zeros((2, *size, 3), np.uint8)).shape == (2, 3)
    with registered("456"):
        assert "compiled elsewhere: device was 123 and is 456" in says(lambda: session_of(open_bundle(path)))


def test_a_build_on_the_device(at_home: None, request_of: Callable[[], BuildRequest]) -> None:
    """Compiled for good, judged by it and timed on it."""
    bundle = run_build(request_of(), Cache(), Progress()).bundle
    manifest = bundle.manifest
    assert bundle.read(ENGINE) == HEADER + bundle.read(MODEL)
    assert manifest.compiled is not None
    assert manifest.compiled["engine"]["device"] == "123"
    assert manifest.accuracy is not None
    assert manifest.accuracy["conditions"]["engine"] == "fake_npu 1.0"
    assert manifest.latency is not None
    profiled(bundle)


def profiled(bundle: Bundle) -> None:
    """An engine without a profiler still has its stages timed."""
    with session_of(bundle) as session, open_source("test://64x64@1000?frames=20") as source:
        found = profile_bundle(bundle, source, session, None, threads=1, runs=3, progress=Progress())
    assert (found.parts, found.without) == ((), "fake_npu has no profiler")
    assert found.stages


def test_the_command_line(elsewhere: None, edgevit: Callable[..., Outcome], request_of: Callable[[], BuildRequest]) -> None:
    bundle = run_build(request_of(), Cache(), Progress()).bundle
    told = edgevit("inspect", bundle.path)
    assert "not compiled; on the device that runs it: edgevit compile" in " ".join(told.stdout.split())
    assert "fake_npu cannot run here: no fake NPU" in " ".join(edgevit("doctor", bundle.path).stdout.split())


def test_it_is_gone_afterwards(target: Target) -> None:
    assert "unknown engine 'fake_npu'" in says(lambda: runs_here(target.engine()), ConfigError)
