"""A TensorRT bundle on the machine that runs it, and on one that cannot: compiled into it, opened from it, shown."""

from __future__ import annotations

import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgevit.bundle import ENGINE, MODEL, REPORT, TIMING_CACHE, Bundle, Manifest, open_bundle, write_bundle
from edgevit.commands import compile as ondevice
from edgevit.commands import compile_choice
from edgevit.commands.compile import compile_bundle
from edgevit.engine import of_bundle, runs_here, tensorrt
from edgevit.engine.base import SessionBase
from edgevit.engine.of_bundle import session_of
from edgevit.engine.tensorrt import BuildOptions, BuiltEngine, TensorRt, lacking
from edgevit.errors import ConfigError, EngineError, StorageError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from edgevit.plan.kernels import parse_layers
from edgevit.preprocess import Preprocessing
from edgevit.target import load_target
from tests.plan.plans import recorded
from tests.zoo import folded, frames

STAND_IN = {
    "kernels": 999,
    "megabytes": 1.0,
    "int8_share": 0.0,
    "fused_attention": 0,
    "builder": "tensorrt_rtx 0",
    "warnings": [],
}
CPU = load_target("cpu").engine()
elsewhere = pytest.mark.skipif(runs_here("tensorrt"), reason="this machine runs TensorRT engines")


@pytest.fixture(params=["folder", "zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle for a Jetson, as built elsewhere: a folder, then a zip by another name."""
    model = folded()
    size = model.config.image_size
    manifest = Manifest(
        name="tiny", family="timm", model=asdict(model.config), preprocessing=Preprocessing(size=size, resize=size),
        labels=tuple(map(str, range(model.config.classes))), precision="fp16", blocks=({"qkv": "fp16"},) * len(model.blocks),
        recipe={"name": "default"}, target={"name": "jetson"}, engine="tensorrt", provenance={"weights": {"sha256": "0" * 64}},
        compiled={"plan": STAND_IN, "estimates": [], "engine": None}, edgevit="0",
        accuracy={"fp16": {"images": 8, "top1": None, "agreement": 1.0}, "conditions": {"engine": "openvino 2026.1"}},
        notes=("plan: of the stand-in", "preflight: not compiled", "preprocessing: assumed"),
    )  # fmt: skip
    written = tmp_path / ("b.zip" if request.param == "zip" else "b.edgevit")
    graph = write_graph(QuantPlan(model=model), form_for("tensorrt", "fp16"))
    write_bundle(written, manifest, {MODEL: graph, REPORT: b"{}"})
    return written.rename(tmp_path / "tiny.edgevit")


class Gpu(TensorRt):
    """What a fresh engine is tried on; every inference takes a millisecond."""

    def load(self, _engine: bytes, **_: object) -> SessionBase:
        def run(frames: np.ndarray) -> tuple[np.ndarray, None]:
            time.sleep(0.001)
            return np.zeros((len(frames), 5), np.float32), None

        return SessionBase(engine="a GPU", threads=1, shape=(*folded().config.image_size, 3), run=run)


@pytest.fixture
def on_the_device(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A machine that compiles and runs; the list fills with the timing caches that its builder was given."""
    given: list[bytes] = []

    def build_engine(_model: bytes, *_: object, timing_cache: bytes, **__: object) -> BuiltEngine:
        given.append(timing_cache)
        return BuiltEngine(
            engine=b"engine", timing_cache=b"timings", version="tensorrt 10.3.0", seconds=2.0, peak_mib=1.0,
            layers=recorded("dequantized"), inspector=None, warnings=(),
        )  # fmt: skip

    monkeypatch.setattr(ondevice, "runs_here", lambda _name: True)
    monkeypatch.setattr(of_bundle, "runs_here", lambda _name: True)
    monkeypatch.setattr("edgevit.engine.runs_here", lambda _name: True)
    monkeypatch.setattr("edgevit.report.bundle_facts.runs_here", lambda _name: True)
    monkeypatch.setattr("edgevit.engine.tensorrt.build_engine", build_engine)
    for name in ("edgevit.commands.compile.backend", "edgevit.engine.backend"):
        monkeypatch.setattr(name, lambda _name: Gpu())
    monkeypatch.setattr(compile_choice, "HEAT_UP", 0.0)
    monkeypatch.setattr("edgevit.engine.tensorrt.builder_version", lambda _engine: "tensorrt 10.3.0")
    return given


def message(call: Callable[[], object], error: type[Exception] = EngineError) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_bundle_that_is_not_compiled_says_how(path: Path, on_the_device: list[bytes]) -> None:
    said = message(lambda: session_of(open_bundle(path)))
    assert said == f"{path}: not compiled yet. On the device that runs it: edgevit compile {path}"


@elsewhere
def test_a_bundle_that_cannot_run_here_says_what_can(path: Path) -> None:
    said = message(lambda: session_of(open_bundle(path)))
    assert "tensorrt cannot run here: no " in said
    assert said.endswith(f"--engine {CPU}")
    with session_of(open_bundle(path), "onnxruntime", threads=1) as session:  # any engine runs the graph
        assert session.engine.startswith("onnxruntime")
        assert session.infer(frames(folded().config, 1)).shape[0] == 1


@pytest.mark.parametrize(("engine", "targets"), [("tensorrt", "dgx-spark or jetson"), ("tensorrt_rtx", "rtx-ada or rtx-ampere")])
def test_another_ahead_of_time_engine_is_refused_at_once(bundle_path: Path, engine: str, targets: str) -> None:
    """Not with 'edgevit compile', which would refuse, too."""
    said = message(lambda: session_of(open_bundle(bundle_path), engine), ConfigError)
    assert f"built for {CPU}" in said
    assert f"--target {targets}" in said
    assert "edgevit compile" not in said


@pytest.mark.parametrize("missing", ["gpu", "tensorrt", "pycuda"])
def test_what_is_lacking_is_named_and_nothing_else(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu", lambda: None if missing == "gpu" else SimpleNamespace())
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: None if name == missing else SimpleNamespace())
    said = lacking("tensorrt")
    named = {"gpu": "no NVIDIA GPU", "tensorrt": "no Python module tensorrt", "pycuda": "no pycuda"}
    assert [key for key, text in named.items() if text in said] == [missing]


def test_nothing_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "gpu", SimpleNamespace)
    monkeypatch.setattr(tensorrt, "find_spec", lambda _name: SimpleNamespace())
    assert lacking("tensorrt") == ""


# --- compiling -------------------------------------------------------------------------------------------------------


@elsewhere
def test_compiling_where_it_cannot_run_is_refused(path: Path) -> None:
    said = message(lambda: compile_bundle(path, BuildOptions()))
    assert said.endswith(f"this one cannot: {lacking('tensorrt')}")


def test_a_cpu_bundle_has_nothing_to_compile(bundle_path: Path) -> None:
    with pytest.raises(ConfigError, match="compiles in a second at every start"):
        compile_bundle(bundle_path, BuildOptions())


def test_compile_keeps_the_rest_and_tells_the_devices_own_plan(path: Path, on_the_device: list[bytes]) -> None:
    before, was_zip = open_bundle(path), zipfile.is_zipfile(path)
    kept = before.read(MODEL)
    after, _ = compile_bundle(path, BuildOptions())
    assert zipfile.is_zipfile(path) == was_zip  # whatever its name
    assert (after.read(ENGINE), after.read(TIMING_CACHE), after.read(MODEL)) == (b"engine", b"timings", kept)
    manifest = open_bundle(path).manifest
    assert manifest.compiled is not None
    assert manifest.compiled["engine"]["builder"] == "tensorrt 10.3.0"
    plan = manifest.compiled["plan"]
    assert (plan["stand_in"], plan["builder"], plan["engine_bytes"]) == (False, "tensorrt 10.3.0", 6)
    assert plan["kernels"] == len(parse_layers(recorded("dequantized")))
    assert manifest.latency is not None
    assert manifest.latency["fp16"]["p50_ms"] >= 1
    assert manifest.latency["conditions"]["engine"] == "tensorrt 10.3.0"
    assert manifest.latency["conditions"]["runs"] == compile_choice.RUNS
    assert manifest.notes == ("preprocessing: assumed", *(f"plan: {text}" for text in plan["warnings"]))
    assert len(manifest.notes) > 1
    compile_bundle(path, BuildOptions())
    assert on_the_device == [b"", b"timings"]  # the second search starts from the first


def test_a_place_that_cannot_be_written_is_found_before_compiling(
    path: Path, on_the_device: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    assert "Read-only file system" in message(lambda: compile_bundle(path, BuildOptions()), StorageError)
    assert on_the_device == []


def test_the_inspector_is_not_believed(path: Path, on_the_device: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of another form costs its figures, never the engine: the log has them, too."""
    real = tensorrt.build_engine
    monkeypatch.setattr(
        tensorrt, "build_engine", lambda *a, **k: replace(real(*a, **k), inspector='{"Layers": [{"Inputs": [3]}]}')
    )
    after, _ = compile_bundle(path, BuildOptions())
    assert after.manifest.compiled is not None
    assert after.manifest.compiled["plan"]["kernels"] > 10


def test_an_engine_of_the_real_builder(builder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a board, but for the GPU: bound to this machine, and refused on another."""
    monkeypatch.setattr(ondevice, "runs_here", lambda _name: True)
    monkeypatch.setattr(of_bundle, "runs_here", lambda _name: True)
    for name in ("edgevit.commands.compile.backend", "edgevit.engine.backend"):
        monkeypatch.setattr(name, lambda _name: Gpu())
    monkeypatch.setattr(compile_choice, "HEAT_UP", 0.0)
    after, compiled = compile_bundle(path, BuildOptions())
    assert after.read(ENGINE) == compiled.engine
    assert open_bundle(path).manifest.compiled["engine"]["builder"] == compiled.version  # type: ignore[index]
    assert open_bundle(path).manifest.compiled["plan"]["builder"] == compiled.version  # type: ignore[index]
    monkeypatch.setattr("edgevit.engine.tensorrt.platform.machine", lambda: "aarch64")
    with pytest.raises(EngineError, match="compiled elsewhere: platform was linux x86_64 and is linux aarch64"):
        session_of(open_bundle(path))


# --- inspect ---------------------------------------------------------------------------------------------------------


def lines_of(edgevit: Callable[..., object], bundle: Bundle) -> dict[str, str]:
    """The lines of ``edgevit inspect`` by their first word, folded ones joined."""
    outcome = edgevit("inspect", bundle.path)
    assert outcome.code == 0, outcome.stderr  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    key = ""
    for line in outcome.stdout.splitlines():  # type: ignore[attr-defined]
        if line and not line[0].isspace():
            key = line.split()[0]
        found[key] = f"{found.get(key, '')} {line.removeprefix(key).strip()}".strip()
    return found


def test_inspect_before_compiling(edgevit: Callable[..., object], path: Path) -> None:
    lines = lines_of(edgevit, open_bundle(path))
    assert lines["engine"].startswith("not compiled; on the device that runs it: edgevit compile")
    assert lines["plan"].startswith("999 kernels, 0.0 % of products in INT8, 1.0 MB moved, fused attention in 0 blocks")
    assert "a stand-in for the device's own" in lines["plan"]
    assert "agreement 100.0 % on 8 images by openvino 2026.1" in lines["fp16"]


def test_inspect_after_compiling(
    edgevit: Callable[..., object], path: Path, on_the_device: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _ = compile_bundle(path, BuildOptions())
    lines = lines_of(edgevit, bundle)
    assert "compiled for builder tensorrt 10.3.0" in lines["engine"]
    assert lines["engine"].endswith("fits this machine")
    assert "stand-in" not in lines["plan"]
    assert "by tensorrt 10.3.0" in lines["plan"]
    monkeypatch.setattr("edgevit.engine.tensorrt.builder_version", lambda _engine: "tensorrt 10.7.0")
    assert "builder was tensorrt 10.3.0 and is tensorrt 10.7.0" in lines_of(edgevit, bundle)["engine"]
    monkeypatch.setattr("edgevit.report.bundle_facts.runs_here", lambda _name: False)
    assert "compiled for builder tensorrt 10.3.0" in lines_of(edgevit, bundle)["engine"]
    assert "cannot run here" in lines_of(edgevit, bundle)["engine"]


def test_inspect_of_a_cpu_bundle(edgevit: Callable[..., object], bundle_path: Path) -> None:
    lines = lines_of(edgevit, open_bundle(bundle_path))
    assert lines["engine"] == f"{CPU} compiles at every start; nothing is kept"
    assert "plan" not in lines
    assert f"images by {CPU}" in lines["int8"]


def test_inspect_of_an_engine_from_the_future(edgevit: Callable[..., object], path: Path) -> None:
    bundle = open_bundle(path)
    newer = write_bundle(path, replace(bundle.manifest, engine="tpu"), {MODEL: bundle.read(MODEL)})
    assert "unknown engine 'tpu'" in lines_of(edgevit, newer)["engine"]
