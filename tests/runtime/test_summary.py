"""A run in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevit.runtime.faults import Faults
from edgevit.runtime.source import open_source
from edgevit.runtime.summary import Summary
from tests.runtime.fakes import FakeCamera, prediction, result, write_image


def test_fps_counts_intervals() -> None:
    summary = Summary(FakeCamera(frames=0, seconds=0))
    assert summary.fps is None
    for i in range(11):
        summary.add(result(finished=50 + i / 10))
    assert summary.seconds == pytest.approx(1)
    assert summary.fps == pytest.approx(10)


def test_summary_counts_labels_and_drops() -> None:
    summary = Summary(FakeCamera(frames=0, seconds=0))
    for label, dropped in (("cat", 0), ("dog", 3), ("dog", 1)):
        summary.add(result(predictions=(prediction(label), prediction("other")), dropped=dropped))
    data = json.loads(json.dumps(summary.to_dict()))
    assert (data["frames"], data["dropped"], data["skipped"], data["fps"]) == (3, 4, 0, None)
    assert list(data["labels"].items()) == [("dog", 2), ("cat", 1)]
    for field, milliseconds in (("read_ms", 1), ("prepare_ms", 2), ("infer_ms", 3), ("latency_ms", 6)):
        assert data[field]["p50"] == data[field]["p99"] == pytest.approx(milliseconds, rel=0.01)


def test_summary_of_nothing() -> None:
    summary = Summary(FakeCamera(frames=0, seconds=0))
    assert summary.to_dict()["infer_ms"] is None
    assert summary.lines() == ["fake camera: no frames"]


def test_lines_say_it_all(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with open_source(str(tmp_path)) as source:
        summary = Summary(source)
        list(source)
    for i in range(8):
        summary.add(result(finished=i / 4, predictions=(prediction(f"label {min(i, 6)}"),), dropped=1))
    text = "\n".join(summary.lines())
    assert text.splitlines()[0] == f"2 images in {tmp_path}: 8 frames in 1.8 s: 4.0 fps"
    assert "8 frames, overtaken" in text
    assert "1 unreadable, first b.png" in text
    assert "capture to label  p50     6." in text
    assert "label 6 2, " in text
    assert text.endswith(", and 2 more")


def test_faults_and_retries_are_in_the_summary() -> None:
    camera = FakeCamera(frames=0, seconds=0)
    camera.faults = Faults(lost=2, reconnected=2, stalled=1, down_seconds=3.25, last="the stream ended")
    summary = Summary(camera)
    summary.add(result(retries=1))
    data = json.loads(json.dumps(summary.to_dict()))
    assert (data["policy"], data["engine_retries"], data["faults"]["lost"]) == ("latest", 1, 2)
    text = "\n".join(summary.lines())
    assert "faults            lost 2, stalled 1, reconnected 2, down 3.2 s (last: the stream ended)" in text
    assert "failed at first on 1 frames" in text
