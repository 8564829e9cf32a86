"""A bundle's session is checked once, and replaced by another engine's where it is wrong or not installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit import load
from edgevit.bundle import MODEL, SAMPLES, Bundle, open_bundle, write_bundle
from edgevit.engine import of_bundle
from edgevit.engine.base import SessionBase
from edgevit.engine.of_bundle import UNCHECKED, session_of
from edgevit.errors import EngineError, MissingPackageError

Run = Callable[..., Any]


@pytest.fixture
def bundle(fp32_bundle_path: Path) -> Bundle:
    return open_bundle(fp32_bundle_path)


def spoil(monkeypatch: pytest.MonkeyPatch, *engines: str) -> list[str]:
    """Let every session of ``engines`` compute something else. What is returned collects the names of engines that inferred."""
    whole, seen = SessionBase.infer, list[str]()

    def infer(self: SessionBase, frames: Any) -> Any:
        seen.append(self.engine.split()[0])
        found = whole(self, frames)
        return found[:, ::-1] * 2 if seen[-1] in engines else found

    monkeypatch.setattr(SessionBase, "infer", infer)
    return seen


def hide(monkeypatch: pytest.MonkeyPatch, *engines: str) -> None:
    """As on a machine where ``engines`` are not installed."""
    known = of_bundle.runs_here
    monkeypatch.setattr(of_bundle, "runs_here", lambda name: name not in engines and known(name))


def test_every_bundle_carries_samples(bundle: Bundle) -> None:
    assert SAMPLES in bundle.manifest.files
    assert [check["precision"] for check in bundle.manifest.checks] == ["fp32"]
    assert all(check["sqnr_db"] >= 60 for check in bundle.manifest.checks)


def test_a_start_is_checked_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spoil(monkeypatch)
    session_of(bundle, threads=1).close()
    first = len(seen)
    assert first > 0
    session_of(bundle, threads=1).close()
    assert len(seen) == first, "remembered"
    session_of(bundle, threads=2).close()
    assert len(seen) == 2 * first, "another number of threads may be computed otherwise"


def test_the_next_engine_is_taken_with_a_note(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    own = bundle.manifest.engine
    other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[own]
    spoil(monkeypatch, own)
    with session_of(bundle, threads=1) as session:
        assert session.engine.startswith(other)
        (warning,) = session.warnings
    assert f"{own} " in warning
    assert "computes the fp32 graph wrongly here" in warning
    assert "it first goes wrong in embed" in warning
    assert f"{other} is taken instead" in warning
    with session_of(bundle, threads=1) as session:  # remembered, and said again
        assert session.warnings == (warning,)


def test_an_engine_that_was_asked_for_is_not_replaced(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "openvino")
    with pytest.raises(EngineError, match=r"openvino .* wrongly here.*it first goes wrong in") as caught:
        session_of(bundle, "openvino", threads=1)
    assert caught.value.exit_code == 6
    with load(bundle.path, engine="onnxruntime", threads=1) as classifier:
        assert classifier.warnings == ()


def test_no_engine_is_left(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(EngineError, match=r"openvino .*onnxruntime .*No engine is left that is right"):
        session_of(bundle, threads=1)


def test_an_arm_board_without_openvino_runs_a_bundle_made_on_a_pc(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    shutil.copytree(bundle.path, tmp_path / "pc.edgevit")
    (tmp_path / "pc.edgevit/manifest.json").write_text(json.dumps(manifest | {"engine": "openvino"}))
    hide(monkeypatch, "openvino")
    with load(tmp_path / "pc.edgevit", threads=1) as classifier:
        assert classifier.engine.startswith("onnxruntime")
        (warning,) = classifier.warnings
        assert "built for openvino, which is not installed here: runs on onnxruntime" in warning
        assert len(classifier.classify(np.zeros((32, 32, 3), np.uint8))) == 3


def test_no_engine_is_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "openvino", "onnxruntime")
    monkeypatch.setitem(__import__("sys").modules, bundle.manifest.engine, None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgevit\[cpu\]'"):
        session_of(bundle)


def test_a_cache_that_cannot_be_written_costs_the_check_only(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "file" / "cache"))
    seen = spoil(monkeypatch)
    for _ in range(2):
        session_of(bundle, threads=1).close()
    assert len(seen) == 2 * (2 + 2 * 8)


def test_a_slow_board_checks_two_frames(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start waits for less than a second, but for what two frames take twice."""
    monkeypatch.setattr(of_bundle, "SECONDS", 0.0)
    seen = spoil(monkeypatch)
    session_of(bundle, threads=1).close()
    assert len(seen) == 2 + 2 * 2


def test_a_bundle_of_before_has_no_samples(bundle: Bundle, tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "old.edgevit", bundle.manifest, {MODEL: bundle.read(MODEL)})
    with session_of(old, threads=1) as session:
        assert of_bundle.checked(old, "openvino", session).text == UNCHECKED


def test_doctor_says_how_close_the_engine_is(edgevit: Run, bundle: Bundle) -> None:
    found = edgevit("doctor", bundle.path, "--json").json["findings"]
    (line,) = [item["text"] for item in found if item["topic"] == "engine" and "as torch does" in item["text"]]
    assert "on the worst of 8 frames, at least 60 dB needed" in line


def test_doctor_finds_a_wrong_engine(edgevit: Run, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "openvino", "onnxruntime")
    outcome = edgevit("doctor", bundle.path, "--json")
    assert outcome.code == 1
    assert any(item["level"] == "problem" and "it first goes wrong in" in item["text"] for item in outcome.json["findings"])


def test_run_says_that_another_engine_runs(edgevit: Run, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, bundle.manifest.engine)
    outcome = edgevit("run", bundle.path, "test://32x32?frames=2", "--headless", "--no-telemetry")
    assert outcome.code == 0
    assert "is taken instead" in outcome.stderr


def test_build_takes_the_next_engine_and_says_so(
    edgevit: Run, checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "openvino")
    out = tmp_path / "out.edgevit"
    outcome = edgevit("build", checkpoint_path, "--data", image_folder, "--threads", 1, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "openvino" in outcome.stderr
    assert "onnxruntime is taken instead" in outcome.stderr
    assert "Checked against torch on 8 frames, the worst of them: fp32 on onnxruntime" in outcome.stdout
    manifest = open_bundle(out).manifest
    assert manifest.engine == "onnxruntime"
    assert {check["engine"].split()[0] for check in manifest.checks} == {"onnxruntime"}
    assert {check["precision"] for check in manifest.checks} == {"fp32", "int8"}


def test_build_without_a_right_engine_is_exit_6(
    edgevit: Run, checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "openvino", "onnxruntime")
    outcome = edgevit("build", checkpoint_path, "--data", image_folder, "--threads", 1, "-o", tmp_path / "out.edgevit")
    assert (outcome.code, len(outcome.stderr.strip().splitlines()[-1:])) == (6, 1)
    assert "No engine is left that is right" in outcome.stderr
    assert not (tmp_path / "out.edgevit").exists()


def test_compare_leaves_a_wrong_engine_out(
    edgevit: Run, bundle: Bundle, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "openvino")
    options = ("--data", image_folder, "--runs", 5, "--json")
    both = edgevit("compare", bundle.path, "--engines", "onnxruntime,openvino", *options).json
    assert {row["engine"].split()[0] for row in both["rows"]} == {"onnxruntime"}
    assert any("on openvino is left out: openvino" in note for note in both["notes"])
    assert [check["engine"].split()[0] for check in both["checks"]] == ["onnxruntime"]
    alone = edgevit("compare", bundle.path, "--engines", "openvino", *options)
    assert alone.code == 6
