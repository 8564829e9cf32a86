"""`edgevit build` for a board on a machine without one: preflight, estimates, and what it says where it cannot check."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from edgevit.bundle import ENGINE, MODEL, REFERENCE, REPORT, open_bundle
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.commands.build import run_build
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.build_result import BuildResult
from edgevit.engine import tensorrt
from edgevit.engine.tensorrt import BuilderRefusedError
from edgevit.errors import ConfigError, DataError, EngineError
from edgevit.progress import Progress
from edgevit.quantize import decide
from edgevit.quantize.fp16 import with_half_scales
from edgevit.recipe import load_recipe
from edgevit.target import load_target

Request = Callable[..., BuildRequest]


@pytest.fixture
def request_of(checkpoint_path: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setattr(build_module, "RUNS", 5)

    def make(target: str, **changes: object) -> BuildRequest:
        settings: dict[str, object] = {"model": checkpoint_path, "target": load_target(target), "recipe": load_recipe("fast"),
                                       "out": tmp_path / "out.edgevit", "data": image_folder, "threads": 1}  # fmt: skip
        return BuildRequest(**(settings | changes))  # type: ignore[arg-type]

    return make


def built(request: BuildRequest) -> BuildResult:
    return run_build(request, Cache(), Progress())


@pytest.mark.parametrize("target", ["jetson", "jetson-orin-nano-8gb", "rtx-ada"])
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_a_board_that_is_not_here(builder: Path, request_of: Request, target: str, precision: str) -> None:
    result = built(request_of(target, precision=precision))
    bundle = open_bundle(result.bundle.path)
    manifest = bundle.manifest
    assert (manifest.precision, manifest.engine) == (precision, load_target(target).engine())
    assert manifest.compiled is not None
    assert manifest.compiled["plan"]["kernels"] > 10
    assert manifest.compiled["plan"]["builder"].startswith("tensorrt ")
    assert (manifest.compiled["plan"]["int8_share"] > 0.5) == (precision == "int8")
    boards = {item["target"] for item in manifest.compiled["estimates"]}
    assert boards == (set(load_target("jetson").boards) if target == "jetson" else {target})
    assert ENGINE not in manifest.files  # an engine belongs to the machine that runs it
    assert manifest.compiled["engine"] is None
    assert manifest.latency is None  # a stand-in's milliseconds are not the board's
    assert manifest.accuracy is not None
    assert manifest.accuracy[precision]["agreement"] > 0.9
    report = json.loads(bundle.read(REPORT))
    assert {row["block"] for row in report["plan"]["blocks"]} == {"embed", "blocks.0", "blocks.1", "head"}
    assert len(report["plan"]["layers"]) == manifest.compiled["plan"]["kernels"]
    assert (REFERENCE in manifest.files) == (precision != "fp32")
    kinds = {item.data_type for item in onnx.load_from_string(bundle.read(MODEL)).graph.initializer}
    assert (TensorProto.FLOAT16 in kinds) == (precision != "fp32")
    if precision != "fp32":
        assert any(note.startswith("fp16: in ") for note in manifest.notes)
        assert report["half"]["sqnr_db"] > 20
        assert report["half"]["peaks"]["stream"] > 0


def test_blocks_say_fp16(builder: Path, request_of: Request) -> None:
    manifest = built(request_of("jetson", precision="fp16")).bundle.manifest
    assert {value for block in manifest.blocks for value in block.values()} == {"fp16"}


def test_without_a_builder_it_says_what_was_not_checked(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.engine.tensorrt.find_spec", lambda _name: None)
    manifest = built(request_of("jetson")).bundle.manifest
    assert manifest.compiled is None
    assert any(
        note.startswith("preflight: not compiled, so neither fusion nor INT8 coverage is checked.") for note in manifest.notes
    )


def test_int8_that_the_builder_refuses_goes_back_to_fp16(
    builder: Path, request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of block 1; the retry must hold none of its Q/DQ, and the rest must stay."""
    real, tried = tensorrt.build_engine, []

    def build_engine(model: bytes, *rest: object, **options: object) -> object:
        names = {node.name for node in onnx.load_from_string(model).graph.node if node.op_type == "QuantizeLinear"}
        tried.append(names)
        if any(name.startswith("blocks.1/") for name in names):
            msg = "tensorrt 10.3 refuses this graph: blocks.1/fc1: no kernel"
            raise BuilderRefusedError(msg, ("blocks.1",))
        return real(model, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tensorrt, "build_engine", build_engine)
    manifest = built(request_of("jetson")).bundle.manifest
    assert len(tried) == 2
    assert any(name.startswith("blocks.0/") for name in tried[1])
    assert manifest.precision == "mixed"
    assert set(manifest.blocks[1].values()) == {"fp16"}
    assert manifest.blocks[0]["fc1"] == "int8"
    assert "no kernel" in manifest.reasons["blocks.1.fc1"]
    assert any(note.startswith("blocks.1: INT8 refused by the builder, kept in FP16") for note in manifest.notes)


def test_int8_attention_that_the_plan_does_not_fuse_goes_back_to_fp16(
    builder: Path, request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version with limits that nobody told. Here it is q k^T alone that is not fused, and nothing else keeps it out."""
    monkeypatch.setattr(decide, "legal_for", lambda result, _engine: replace(result, plan=with_half_scales(result.plan)))
    recipe = replace(load_recipe("fast"), quantize=replace(load_recipe("fast").quantize, attention="scores"))
    manifest = built(request_of("jetson", recipe=recipe)).bundle.manifest
    said = [note for note in manifest.notes if "does not fuse INT8 attention" in note]
    assert len(said) == 1
    assert said[0].startswith("blocks.0, blocks.1: tensorrt 11.4")
    assert {block["scores"] for block in manifest.blocks} == {block["values"] for block in manifest.blocks} == {"fp16"}
    assert {block["fc1"] for block in manifest.blocks} == {"int8"}
    assert manifest.precision == "int8"  # no part that can be INT8 was put back
    assert "does not fuse INT8 attention" in manifest.reasons["blocks.1.attention"]


def test_a_refusal_that_no_int8_explains_is_an_error(builder: Path, request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    def build_engine(*_: object, **__: object) -> None:
        msg = "tensorrt refuses this graph: embed: no"
        raise BuilderRefusedError(msg, ())

    monkeypatch.setattr(tensorrt, "build_engine", build_engine)
    with pytest.raises(EngineError, match="embed: no"):
        built(request_of("jetson"))


def test_fp16_is_not_for_cpus(request_of: Request) -> None:
    with pytest.raises(ConfigError, match="offers fp32, int8, not fp16"):
        built(request_of("cpu", precision="fp16"))


def test_fp16_without_images_is_not_checked_and_says_so(builder: Path, request_of: Request) -> None:
    manifest = built(request_of("jetson", precision="fp16", data=None)).bundle.manifest
    assert any("fp16: the range is not checked" in note for note in manifest.notes)


def test_int8_needs_images(request_of: Request) -> None:
    with pytest.raises(DataError, match="INT8 needs images"):
        built(request_of("jetson", data=None))


def test_a_budget_is_searched_on_the_cpu(builder: Path, request_of: Request) -> None:
    manifest = built(request_of("jetson", max_drop=20.0)).bundle.manifest
    assert manifest.precision == "int8"
