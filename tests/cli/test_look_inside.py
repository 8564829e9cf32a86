"""`edgevit profile`, and the layers and differences that `edgevit inspect` shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import MANIFEST, MODEL, open_bundle, write_bundle
from edgevit.commands.inspect_diff import Difference, differences
from edgevit.engine import of_bundle
from edgevit.engine.base import GraphUse

# --- profile -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_profile(edgevit: Callable[..., Any], bundle_path: Path, image_folder: Path, engine: str) -> None:
    outcome = edgevit("profile", bundle_path, image_folder, "--engine", engine, "--runs", 5, "--threads", 1, "--json")
    assert outcome.code == 0, outcome.stderr
    found = outcome.json
    assert [stage["name"] for stage in found["stages"]] == ["read", "prepare", "infer", "classify", "draw"]
    assert sum(stage["share"] for stage in found["stages"]) == pytest.approx(1)
    assert all(0 <= stage["p50_ms"] <= stage["p90_ms"] for stage in found["stages"])
    assert {part["part"] for part in found["parts"]} >= {"qkv", "attention", "proj", "fc1", "fc2", "head"}
    assert found["layers"]
    assert found["conditions"]["engine"].startswith(engine)


def test_profile_for_people(edgevit: Callable[..., Any], bundle_path: Path) -> None:
    """On a synthetic picture, if nothing else is given."""
    outcome = edgevit("profile", bundle_path, "--runs", 5, "--threads", 1)
    assert outcome.code == 0, outcome.stderr
    for text in ("test pattern 640x480", "prepare", "trust shares", "attention", "5 frames."):
        assert text in outcome.stdout


def test_profile_of_a_source_that_ends(edgevit: Callable[..., Any], bundle_path: Path) -> None:
    outcome = edgevit("profile", bundle_path, "test://64x64?frames=4", "--runs", 5)
    assert outcome.code == 7
    assert "no more frames. Give a longer source, or fewer --runs." in outcome.stderr


@pytest.mark.parametrize("option", [(), ("--no-graph",)], ids=["with", "without"])
@pytest.mark.parametrize("command", ["profile", "run"])
def test_a_cuda_graph_is_told_and_can_be_left_out(
    edgevit: Callable[..., Any], bundle_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: tuple[str, ...]
) -> None:
    """On a session that has one; what it was asked for is what it is told."""
    asked: list[bool] = []

    def session_of(bundle: Any, engine: str | None, *, threads: int | None, graph: bool, **_others: Any) -> Any:
        asked.append(graph)
        session = of_bundle.open_session("onnxruntime", bundle.read(MODEL), threads=threads)
        session.graph = GraphUse(used=graph, with_ms=1.0, without_ms=1.5, reason="" if graph else "off")  # type: ignore[misc]
        return session

    monkeypatch.setattr(of_bundle, "session_of", session_of)
    options = ("--runs", 5) if command == "profile" else ("--headless", "--limit", 1)
    outcome = edgevit(command, bundle_path, "test://64x64", "--threads", 1, *options, *option)
    assert outcome.code == 0, outcome.stderr
    assert asked == [not option]
    if command == "profile":
        said = "used, 1.00 ms an inference with it, 1.50 without" if not option else "off, 1.00 ms"
        assert f"CUDA graph: {said}" in outcome.stdout
        document = edgevit(command, bundle_path, "test://64x64", "--threads", 1, *options, *option, "--json").json
        assert document["conditions"]["graph"]["used"] == (not option)


# --- inspect --layers ----------------------------------------------------------------------------------------------------------


def test_layers(edgevit: Callable[..., Any], bundle_path: Path) -> None:
    """Every part of every block, with the precision that the manifest states."""
    found = edgevit("inspect", bundle_path, "--layers", "--threads", 1, "--json").json
    parts = {(part["block"], part["part"]): part for part in found["layers"]}
    for i, block in enumerate(found["blocks"]):
        for kind in ("qkv", "proj", "fc1", "fc2"):
            assert parts[i, kind]["precision"] == block[kind]
            assert (parts[i, kind]["input_scale"] is not None) == (block[kind] == "int8")
            assert parts[i, kind]["milliseconds"] > 0
        assert parts[i, "attention"]["precision"] == "+".join(dict.fromkeys((block["scores"], block["values"])))
    assert parts[0, "fc1"]["macs"] == 17 * 32 * 64
    assert parts[0, "fc1"]["weight_bytes"] == 32 * 64


def test_layers_for_people(edgevit: Callable[..., Any], bundle_path: Path) -> None:
    outcome = edgevit("inspect", bundle_path, "--layers", "--engine", "onnxruntime", "--threads", 1)
    assert outcome.code == 0, outcome.stderr
    for text in ("MMACs", "By part", "attention", "weights kB"):
        assert text in outcome.stdout


def test_engine_without_layers(edgevit: Callable[..., Any], bundle_path: Path) -> None:
    outcome = edgevit("inspect", bundle_path, "--engine", "openvino")
    assert outcome.code == 2
    assert "--engine and --threads are for --layers" in outcome.stderr


def test_layers_need_onnx(edgevit_process: Callable[..., Any], bundle_path: Path) -> None:
    outcome = edgevit_process("inspect", bundle_path, "--layers", without=("onnx",))
    assert outcome.code == 8
    assert "edgevit[build]" in outcome.stderr


# --- inspect --diff ------------------------------------------------------------------------------------------------------------


def test_equal_bundles(edgevit: Callable[..., Any], bundle_path: Path) -> None:
    outcome = edgevit("inspect", bundle_path, "--diff", bundle_path)
    assert outcome.code == 0
    assert "no difference but their names" in outcome.stdout
    assert edgevit("inspect", bundle_path, "--diff", bundle_path, "--json").json["differences"] == []


def test_what_differs(edgevit: Callable[..., Any], bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    blocks = (bundle.manifest.blocks[0], bundle.manifest.blocks[1] | {"fc2": "fp32"})
    manifest = replace(bundle.manifest, name="other", blocks=blocks, precision="mixed")
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    other = write_bundle(tmp_path / "other.edgevit", manifest, files)
    assert differences(bundle.manifest, other.manifest) == [
        Difference(key="precision", one="int8", other="mixed"),
        Difference(key="blocks.1.fc2", one="int8", other="fp32"),
    ]
    outcome = edgevit("inspect", bundle_path, "--diff", other.path)
    assert "blocks.1.fc2" in outcome.stdout
    found = edgevit("inspect", bundle_path, "--diff", other.path, "--json").json["differences"]
    assert found[1] == {"key": "blocks.1.fc2", "one": "int8", "other": "fp32"}


def test_images_are_counted(bundle_path: Path) -> None:
    manifest = open_bundle(bundle_path).manifest
    images = manifest.provenance["calibration_images"]
    other = replace(manifest, provenance=manifest.provenance | {"calibration_images": [*images[:10], "new"]})
    found = differences(manifest, other)
    assert [(item.key, item.one, item.other) for item in found] == [
        ("provenance.calibration_images", "64 images, 10 of them in both", "11 images, 10 of them in both")
    ]


def test_a_key_that_one_lacks(bundle_path: Path) -> None:
    manifest = open_bundle(bundle_path).manifest
    other = replace(manifest, reasons={"blocks.0.attention": "noise"}, latency=None)
    found = differences(replace(manifest, reasons={}), other)
    keys = {item.key: item for item in found}
    assert (keys["reasons.blocks.0.attention"].one, keys["reasons.blocks.0.attention"].other) == (None, "noise")
    assert keys["latency.int8.p50_ms"].other is None


def test_a_damaged_other(edgevit: Callable[..., Any], bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "x.edgevit").mkdir()
    (tmp_path / "x.edgevit" / MANIFEST).write_text("{}")
    assert edgevit("inspect", bundle_path, "--diff", tmp_path / "x.edgevit").code == 5
