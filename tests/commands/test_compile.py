"""The check of a fresh engine on the bundle's samples; what plays the GPU is ONNX Runtime on the graph that ships."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.bundle import MODEL, SAMPLES, Bundle, open_bundle
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.compile_choice import SpotCheck, spot_check
from edgevit.engine import open_session
from edgevit.engine.onnxruntime import OnnxRuntime
from edgevit.engine.samples import load_samples
from edgevit.engine.tensorrt import TensorRt
from edgevit.errors import EngineError
from edgevit.images.dataset import load_images
from edgevit.progress import Progress
from edgevit.recipe import load_recipe
from edgevit.target import load_target

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(params=["int8", "fp16"])
def bundle(
    request: pytest.FixtureRequest, checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bundle:
    monkeypatch.setattr(build_module, "RUNS", 5)
    monkeypatch.setattr("edgevit.engine.tensorrt.find_spec", lambda _name: None)  # no preflight: it is not what is tested
    return built(checkpoint_path, image_folder, tmp_path, precision=request.param)


def built(model: Path, data: Path, folder: Path, **changes: Any) -> Bundle:
    target, recipe = load_target("jetson"), load_recipe("fast")
    wanted = BuildRequest(model=model, target=target, recipe=recipe, out=folder / "out.edgevit", data=data, threads=1, **changes)
    return open_bundle(build_module.run_build(wanted, Cache(), Progress()).bundle.path)


class Device(TensorRt):
    """A backend whose engines are ONNX models; ``change`` is what its hardware does to logits."""

    def __init__(self, change: Change) -> None:
        self.change = change

    version = "tensorrt 10.3"

    def open(self, model: bytes, *, threads: int | None = None, batch: int = 1) -> Any:
        return self.load(model)

    def load(self, engine: bytes, *, graph: bool = True) -> Any:
        session = OnnxRuntime().open(engine, threads=1)
        infer = session.infer
        session.infer = lambda frames: self.change(np.concatenate([infer(frame[None]) for frame in frames]))  # type: ignore[method-assign]
        return session


def check(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, change: Change = lambda logits: logits) -> SpotCheck:
    monkeypatch.setattr("edgevit.engine.backend", lambda _name, *_device: Device(change))
    return spot_check("tensorrt", bundle.read(MODEL), bundle.read(MODEL), bundle.read(SAMPLES))


def test_samples_are_frames_with_their_logits(bundle: Bundle) -> None:
    with np.load(io.BytesIO(bundle.read(SAMPLES)), allow_pickle=False) as stored:
        frames, logits, expected = stored["frames"], stored["logits"], stored["expected"]
    assert frames.dtype == np.uint8
    assert frames.shape == (8, 32, 32, 3)
    assert logits.shape == expected.shape == (8, len(bundle.manifest.labels))
    with open_session("onnxruntime", bundle.read("reference.onnx"), threads=1) as session:
        assert np.abs(np.concatenate([session.infer(frame[None]) for frame in frames]) - logits).max() < 1e-4


def test_an_engine_that_computes_the_graph_passes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check(bundle, monkeypatch)
    assert (found.images, found.agreement) == (8, 1.0)
    assert found.sqnr_db is not None
    assert found.expected_db is not None
    assert found.sqnr_db > 25


def test_an_engine_of_infinities_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="values that are not finite on 8 frames"):
        check(bundle, monkeypatch, lambda logits: np.where(logits == logits.max(), np.inf, logits))


def test_an_engine_that_computes_something_else_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"wrongly here: \d+ dB from torch on 8 frames, and at least \d+ dB are needed"):
        check(
            bundle, monkeypatch, lambda logits: logits + 0.5 * logits.std() * np.sin(np.arange(logits.size)).reshape(logits.shape)
        )


def test_without_images_the_frames_are_synthetic(
    checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.engine.tensorrt.find_spec", lambda _name: None)
    bundle = built(checkpoint_path, image_folder, tmp_path, reference=False)
    assert set(bundle.manifest.files) == {MODEL, "report.json", SAMPLES}
    frames = load_samples(bundle.read(SAMPLES)).frames
    images, contract = load_images(image_folder), bundle.manifest.preprocessing
    theirs = np.concatenate(list(images.prepared(contract)))
    assert not any((frame == theirs).all((1, 2, 3)).any() for frame in frames)
