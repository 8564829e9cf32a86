"""A plan can carry code for the GPU: TensorRT sees none whose hash or origin is not the manifest's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import ENGINE, MANIFEST, SAMPLES, open_bundle, write_bundle
from edgevit.engine import of_bundle
from edgevit.engine.of_bundle import session_of
from edgevit.engine.tensorrt import TensorRt
from edgevit.errors import BundleError, EdgevitError, EngineError

HERE = {"builder": "tensorrt 10.3.0", "compute capability": "8.7", "CUDA driver": "12.6", "platform": "linux aarch64"}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The engines that TensorRT was given, on a machine that is what `HERE` says."""
    given: list[bytes] = []

    class Backend(TensorRt):
        def load(self, engine: bytes, **_: Any) -> object:
            given.append(engine)
            return object()

    for name in ("edgevit.engine.backend", "edgevit.engine.of_bundle.backend"):
        monkeypatch.setattr(name, lambda _: Backend())
    monkeypatch.setattr(of_bundle, "runs_here", lambda _: True)
    monkeypatch.setattr("edgevit.engine.tensorrt.stamp_here", lambda *_: HERE)
    return given


@pytest.fixture
def compiled(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle with an engine that was compiled here."""
    source = open_bundle(bundle_path)
    # Without samples: what plays the engine here infers nothing that could be checked.
    files = {name: source.read(name) for name in source.manifest.files if name != SAMPLES} | {ENGINE: b"a plan"}
    manifest = replace(source.manifest, engine="tensorrt", compiled={"engine": HERE})
    return write_bundle(tmp_path / "b.edgevit", manifest, files).path


def test_own_engine(compiled: Path, loaded: list[bytes]) -> None:
    session_of(open_bundle(compiled))
    assert loaded == [b"a plan"]


def test_another_engine(compiled: Path, loaded: list[bytes]) -> None:
    """Of the same size, in the same place."""
    (compiled / ENGINE).write_bytes(b"b plan")
    with pytest.raises(BundleError, match=r"engine\.plan is not the file that was built"):
        session_of(open_bundle(compiled))
    assert loaded == []


@pytest.mark.parametrize("key", [*HERE, "all"])
def test_another_origin(key: str, compiled: Path, loaded: list[bytes]) -> None:
    """One thing that differs is enough, and so is one that is not said; the plan is not even read."""
    for stamp in ({**HERE, key: "else"}, {name: value for name, value in HERE.items() if name != key}):
        if key == "all":
            stamp = {}
        data = json.loads((compiled / MANIFEST).read_text(encoding="utf-8"))
        data["compiled"]["engine"] = stamp
        (compiled / MANIFEST).write_text(json.dumps(data), encoding="utf-8")
        (compiled / ENGINE).unlink(missing_ok=True)
        with pytest.raises(EngineError, match="compiled elsewhere"):
            session_of(open_bundle(compiled))
    assert loaded == []


def test_engine_in_an_unsigned_bundle(compiled: Path, loaded: list[bytes], tmp_path: Path) -> None:
    """Hash and stamp can be forged together with the manifest; a required signature cannot."""
    pytest.importorskip("cryptography")
    from edgevit.signing import generate

    with pytest.raises(EdgevitError, match="not signed"):
        session_of(open_bundle(compiled, [generate(tmp_path / "maker")]))
    assert loaded == []
