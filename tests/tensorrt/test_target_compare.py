"""`edgevit compare --target`: plans and estimates of a checkpoint's precisions on a board that is not here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_for_a_board(
    builder: Path, edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Plans and estimates of every variant in place of this machine's milliseconds, and a recommendation by them."""
    precisions = ("fp32", "fp16", "int8-linear", "int8", "int8+prune30")
    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "markdown", "csv")}
    asked = ("--data", image_folder, "--target", "jetson-orin-nano-8gb", "--recipe", "fast")
    outcome = edgevit("compare", checkpoint_path, *asked, "--precisions", ",".join(precisions), "--json")
    assert outcome.code == 0, outcome.stderr
    rows = {row["precision"]: row for row in outcome.json["rows"]}
    assert tuple(rows) == precisions
    for row in rows.values():
        assert row["latency"] is None
        assert row["startup"] is None
        assert row["device"]["kernels"] > 10
        assert row["device"]["stand_in"]
        assert {"15W", "7W"} <= {item["mode"] for item in row["device"]["estimates"]}
    assert rows["fp16"]["device"]["int8_share"] == 0
    assert rows["int8"]["device"]["int8_share"] >= rows["int8-linear"]["device"]["int8_share"] > 0.5
    assert rows["int8+prune30"]["bytes"] < rows["int8"]["bytes"]
    assert any(
        "estimated from compiled plans for jetson-orin-nano-8gb" in text for text in outcome.json["recommendation"]["reasons"]
    )
    # The same tables of fewer rows: to compile each takes seconds.
    asked += ("--precisions", "fp16,int8", *(item for kind in files for item in (f"--{kind}", files[kind])))
    people = edgevit("compare", checkpoint_path, *asked)
    assert people.code == 0, people.stderr
    assert "On the device" in people.stdout
    assert "a stand-in for the device's own" in people.stdout
    assert "are estimated, not measured" in " ".join(people.stdout.split())
    assert "<h2>On the device</h2>" in files["html"].read_text(encoding="utf-8")
    assert "estimated on jetson-orin-nano-8gb in mode" in files["html"].read_text(encoding="utf-8")
    assert "ms_jetson-orin-nano-8gb_15W" in files["csv"].read_text(encoding="utf-8").splitlines()[0]
    assert "On the device:" in files["markdown"].read_text(encoding="utf-8")


def test_without_a_builder(edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path) -> None:
    """Accuracy and size are left, and a note says what is missing."""
    asked = ("--data", image_folder, "--precisions", "fp16,int8", "--target", "jetson", "--recipe", "fast", "--json")
    outcome = edgevit("compare", checkpoint_path, *asked)
    assert outcome.code == 0, outcome.stderr
    assert [row["device"] for row in outcome.json["rows"]] == [None, None]
    assert "smaller than fp16" in outcome.json["recommendation"]["headline"]
    assert sum(note.startswith("fp16, int8: preflight: not compiled") for note in outcome.json["notes"]) == 1


def test_a_boards_bundle_elsewhere(
    builder: Path, edgevit: Callable[..., Any], checkpoint_path: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Its plan is shown; this machine's milliseconds only on request, as they would recommend for another machine."""
    bundle = tmp_path / "board.edgevit"
    asked = ("--data", image_folder, "--recipe", "fast", "--target", "jetson-orin-nano-8gb", "-o", bundle)
    assert edgevit("build", checkpoint_path, *asked).code == 0
    outcome = edgevit("compare", bundle, "--data", image_folder, "--json")
    assert outcome.code == 0, outcome.stderr
    first, second = outcome.json["rows"]
    assert (first["latency"], second["latency"], first["device"]) == (None, None, None)
    assert second["device"]["kernels"] > 10
    assert "smaller than fp32" in outcome.json["recommendation"]["headline"]
    assert "tensorrt does not run here: compared on openvino; not timed without --engines openvino" in outcome.json["notes"]
    timed = edgevit("compare", bundle, "--data", image_folder, "--engines", "openvino", "--runs", 5, "--json").json
    assert all(row["latency"] for row in timed["rows"])
