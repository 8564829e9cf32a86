"""An engine on a device that was chosen, and for several frames at a time: right, or refused in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.bundle import Bundle, open_bundle
from edgevit.engine import CPU_ENGINES, backend, open_session
from edgevit.engine.check import FLOOR_DB, HALF_FLOOR_DB, floor_of
from edgevit.engine.of_bundle import session_of
from edgevit.engine.openvino import OpenVino, available_threads, openvino_options
from edgevit.engines import ENGINES
from edgevit.errors import ConfigError, EngineError
from edgevit.export.graph import write_graph
from edgevit.graphform import Form
from edgevit.model.quantplan import QuantPlan
from edgevit.unreported import import_openvino
from tests.zoo import ZOO, folded, frames, int8_of

MODEL = write_graph(QuantPlan(model=folded()))


class Core:
    """OpenVINO as it would be beside an Intel GPU: what it finds, and what it is told to compile with."""

    def __init__(self, *devices: str) -> None:
        openvino = import_openvino()
        self.available_devices, self.told = list(devices), list[tuple[str, dict]]()
        self._core = openvino.Core()

    def __getattr__(self, name: str):
        return getattr(self._core, name)

    def compile_model(self, graph, device: str, options: dict):
        """The CPU plays the device; it does not know the others' hints."""
        self.told.append((device, options))
        return self._core.compile_model(graph, "CPU", {})

    def get_property(self, device: str, name: str) -> str:
        return "Intel(R) Arc(TM) A770 Graphics (dGPU)" if device != "CPU" else self._core.get_property(device, name)


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> Core:
    pytest.importorskip("openvino")
    core = Core("CPU", "GPU.0", "GPU.1")
    monkeypatch.setattr("edgevit.engine.openvino._core", lambda: core)
    return core


# --- devices ---------------------------------------------------------------------------------------------------------


def test_device_that_is_the_default_changes_nothing(fp32_bundle_path: Path) -> None:
    pytest.importorskip("openvino")
    images = np.zeros((1, *open_bundle(fp32_bundle_path).manifest.preprocessing.size, 3), np.uint8)
    with session_of(open_bundle(fp32_bundle_path), "openvino", threads=1) as own:
        expected, device = own.infer(images), own.device
    with session_of(open_bundle(fp32_bundle_path), device="cpu", threads=1) as session:
        assert session.device == device
        assert session.engine.startswith("openvino")
        assert np.array_equal(session.infer(images), expected)


def test_device_that_is_not_there_is_refused_with_those_that_are(fp32_bundle_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(EngineError, match=r"--device GPU: OpenVINO finds CPU here, and no GPU\."):
        session_of(open_bundle(fp32_bundle_path), device="GPU")


@pytest.mark.parametrize("name", ["", "cuda", "GPU:0", "AUTO", "HETERO:GPU,CPU", "GPU.", "CPU.0", "../GPU", "GPU\n"])
def test_name_that_no_device_has_is_refused(name: str) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(ConfigError, match="no device of OpenVINO"):
        backend("openvino", name)


def test_engine_that_has_one_device_says_which_has_several(fp32_bundle_path: Path) -> None:
    for name in ENGINES:
        if not ENGINES[name].devices:
            with pytest.raises(ConfigError, match=f"--device GPU: {name} has but one device. .* --engine openvino"):
                backend(name, "GPU")
    with pytest.raises(ConfigError, match="onnxruntime has but one device"):
        session_of(open_bundle(fp32_bundle_path), "onnxruntime", device="GPU")


def test_gpu_gets_its_own_hints_and_keeps_what_was_compiled(
    intel: Core, fp32_bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path))
    with session_of(open_bundle(fp32_bundle_path), device="gpu.1") as session:
        assert (session.threads, session.device) == (1, "Intel(R) Arc(TM) A770 Graphics (dGPU) (GPU.1)")
    device, options = intel.told[0]
    assert device == "GPU.1"
    assert options == {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f16", "CACHE_DIR": str(tmp_path / "openvino")}
    assert (tmp_path / "openvino").is_dir()
    assert backend("openvino", "GPU").computes_bf16() is False
    with pytest.raises(ConfigError, match="--threads 2 is of a CPU"):
        session_of(open_bundle(fp32_bundle_path), device="GPU", threads=2)
    with pytest.raises(EngineError, match=r"finds CPU, GPU.0, GPU.1 here, and no GPU.2"):
        session_of(open_bundle(fp32_bundle_path), device="GPU.2")


def test_folder_that_cannot_be_made_costs_the_cache_alone(intel: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "file"))
    open_session("openvino", MODEL, device="GPU").close()
    assert "CACHE_DIR" not in intel.told[0][1]


def test_other_device_is_held_to_fp16() -> None:
    assert floor_of("openvino") == floor_of("openvino", "cpu") == FLOOR_DB
    assert floor_of("openvino", "GPU.1") == floor_of("openvino", "npu") == floor_of("tensorrt") == HALF_FLOOR_DB


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize("name", ["plain", "merging", "rotary by head and merging", "attention pooling", "features of length 1"])
def test_batch_gives_what_single_frames_give(engine: str, name: str) -> None:
    """Of FP32 and INT8 graphs, tokens merged too, where each frame merges its own. Five frames: the last batch is not full."""
    pytest.importorskip(engine)
    model = folded(**ZOO[name])
    images = frames(model.config, 5)
    for graph in (write_graph(QuantPlan(model=model)), write_graph(int8_of(name))):
        with open_session(engine, graph, threads=1) as single, open_session(engine, graph, threads=1, batch=4) as batched:
            assert batched.batch == 4
            expected = [(single.infer(image[None])[0], single.features) for image in images]
            features = [each[0] for _, each in expected if each is not None]
            for count in (1, 3, 5):
                found = batched.infer(images[:count])
                assert found.shape == (count, model.config.classes)
                assert np.abs(found - [logits for logits, _ in expected[:count]]).max() < 1e-4
                if batched.features is not None:
                    assert np.abs(batched.features - features[:count]).max() < 1e-4


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_graph_of_one_frame_is_refused(engine: str) -> None:
    pytest.importorskip(engine)
    model = write_graph(QuantPlan(model=folded()), Form(batch=1))
    open_session(engine, model, threads=1).close()
    with pytest.raises(EngineError, match=r"--batch 3: this bundle's graph takes 1 frame at a time"):
        open_session(engine, model, threads=1, batch=3)


def test_engine_of_one_frame_refuses(fp32_bundle_path: Path) -> None:
    bundle = open_bundle(fp32_bundle_path)
    with pytest.raises(ConfigError, match="--batch 2: TensorRT is compiled for one frame at a time"):
        session_of(bundle, "tensorrt", batch=2)


def test_batch_is_checked_by_itself(fp32_bundle_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A session for batches is another session: that single frames were right says nothing of it."""
    from edgevit.engine.base import SessionBase

    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path))
    bundle: Bundle = open_bundle(fp32_bundle_path)
    session_of(bundle, threads=1).close()
    whole = SessionBase.infer
    monkeypatch.setattr(SessionBase, "infer", lambda self, given: whole(self, given) * (2 if self.batch > 1 else 1))
    session_of(bundle, threads=1).close()
    with pytest.raises(EngineError):
        session_of(bundle, threads=1, batch=2)


@pytest.mark.skipif(available_threads() < 2, reason="one core has nothing to be bound to")
@pytest.mark.parametrize(("threads", "told"), [(1, False), (None, None)])
def test_an_engine_of_few_threads_is_bound_to_no_core(threads: int | None, told: bool | None) -> None:
    """OpenVINO binds from the first core on: two processes of one thread each would share it, and gain nothing by being two."""
    compiled = OpenVino().compiled(MODEL, threads, {})
    assert openvino_options(threads).get("ENABLE_CPU_PINNING") is told
    assert told is None or compiled.get_property("ENABLE_CPU_PINNING") is told
