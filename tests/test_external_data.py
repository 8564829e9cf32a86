"""Graphs with their weights apart: the same model to onnx and to every engine, and nothing is read from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgevit import externaldata
from edgevit.bundle import MODEL, REFERENCE, WEIGHTS, open_bundle, write_bundle
from edgevit.engine import CPU_ENGINES, open_session
from edgevit.engine.on_disk import on_disk
from edgevit.errors import BundleError
from edgevit.export.graph import write_graph
from edgevit.externaldata import ALIGNED, SMALLEST, joined, parted
from edgevit.model.quantplan import QuantPlan
from tests.support import Outcome, built
from tests.zoo import folded, frames, int8

PLACE = "weights.bin"


@pytest.fixture(scope="module", params=["fp32", "int8"])
def model(request: pytest.FixtureRequest) -> bytes:
    return write_graph(QuantPlan(model=folded()) if request.param == "fp32" else int8(folded()))


def test_onnx_reads_the_same_model(model: bytes, tmp_path: Path) -> None:
    parts = parted(model, PLACE)
    (tmp_path / "model.onnx").write_bytes(parts.graph)
    (tmp_path / PLACE).write_bytes(b"".join(parts.weights))
    assert (tmp_path / PLACE).stat().st_size == parts.size > SMALLEST
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    read, wanted = onnx.load(str(tmp_path / "model.onnx")), onnx.load_from_string(model)
    offsets = [int(item.value) for tensor in onnx.load_from_string(parts.graph).graph.initializer
               for item in tensor.external_data if item.key == "offset"]  # fmt: skip
    assert offsets
    assert not any(offset % ALIGNED for offset in offsets)
    for got, own in zip(read.graph.initializer, wanted.graph.initializer, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(got), onnx.numpy_helper.to_array(own)), own.name
    assert read.graph.node == wanted.graph.node


def test_joined_is_the_model_again(model: bytes) -> None:
    parts = parted(model, PLACE)
    assert joined(parts.graph, PLACE, b"".join(parts.weights)) == model
    assert joined(model, PLACE, b"") == model


@pytest.mark.parametrize("place", ["/etc/passwd", "../weights.bin", "other"])
def test_no_other_file_is_taken(model: bytes, place: str) -> None:
    parts = parted(model, place)
    with pytest.raises(ValueError, match="it takes weights from"):
        joined(parts.graph, PLACE, b"".join(parts.weights))


def test_weights_that_are_short_are_refused(model: bytes) -> None:
    parts = parted(model, PLACE)
    with pytest.raises(ValueError, match="a tensor wants"):
        joined(parts.graph, PLACE, b"".join(parts.weights)[:-1])


def test_files_are_gone_behind(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.engine.on_disk.LARGE", 0)
    with on_disk(model) as path:
        assert isinstance(path, Path)
        assert path.read_bytes() == parted(model, "weights").graph
    assert not path.parent.exists()
    with on_disk(b"no model \xff") as path:
        assert path == b"no model \xff"


# --- in a bundle -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def large(checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose FP32 graph counts as over 2 GiB: only the limit is made up."""
    monkeypatch.setattr(externaldata, "MESSAGE_LIMIT", 60_000)
    return built(checkpoint_path, tmp_path, data=image_folder)


def test_a_bundle_of_a_large_model(large: Path, bundle_path: Path, edgevit: Callable[..., Outcome]) -> None:
    bundle, plain = open_bundle(large), open_bundle(bundle_path)
    assert REFERENCE + WEIGHTS in bundle.manifest.files
    assert REFERENCE + WEIGHTS not in plain.manifest.files
    assert bundle.read(REFERENCE) == plain.read(REFERENCE)
    onnx.checker.check_model(str(large / REFERENCE))
    for engine in CPU_ENGINES:
        with open_session(engine, bundle.read(REFERENCE), threads=1) as session:
            assert np.isfinite(session.infer(np.zeros((1, *bundle.manifest.preprocessing.size, 3), np.uint8))).all()
    assert edgevit("inspect", large).code == 0


def test_it_is_vouched_for(large: Path) -> None:
    weights = large / (REFERENCE + WEIGHTS)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="is not the file that was built"):
        open_bundle(large).read(REFERENCE)
    weights.unlink()
    with pytest.raises(BundleError, match="is missing"):
        open_bundle(large).verify()


@pytest.mark.parametrize("name", ["copy.edgevit", "copy.zip"])
def test_it_is_written_again_as_it_was(large: Path, tmp_path: Path, name: str) -> None:
    """As ``compile`` and ``sign`` do, a folder or a zip."""
    bundle = open_bundle(large)
    copy = write_bundle(tmp_path / name, bundle.manifest, {file: bundle.read(file) for file in bundle.manifest.files})
    assert copy.manifest.files == bundle.manifest.files
    assert open_bundle(copy.path).read(REFERENCE) == bundle.read(REFERENCE)


def test_other_weights_beside_it_are_not_taken(large: Path, tmp_path: Path) -> None:
    """A manifest that vouches for a graph that reads from elsewhere."""
    bundle = open_bundle(large)
    elsewhere = parted(bundle.read(REFERENCE), "/etc/hostname").graph
    files = {MODEL: bundle.read(MODEL), REFERENCE: elsewhere}
    with pytest.raises(BundleError, match="it takes weights from another file"):
        open_bundle(write_bundle(tmp_path / "bad.edgevit", bundle.manifest, files).path).read(REFERENCE)
    files |= {REFERENCE + WEIGHTS: b""}
    with pytest.raises(BundleError, match="it takes weights from '/etc/hostname'"):
        open_bundle(write_bundle(tmp_path / "worse.edgevit", bundle.manifest, files).path).read(REFERENCE)


def test_frames_infer_alike_from_files(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = np.stack(list(frames(folded().config, 2)))
    for engine in CPU_ENGINES:
        with open_session(engine, model, threads=1) as plain:
            wanted = plain.infer(batch)
        with monkeypatch.context() as patch:
            patch.setattr("edgevit.engine.on_disk.LARGE", 0)
            with open_session(engine, model, threads=1) as session:
                assert np.array_equal(session.infer(batch), wanted)
