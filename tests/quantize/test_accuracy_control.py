"""Builds within an accuracy budget, on a tiny trained-like model and real files."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import REPORT
from edgevit.cache import Cache
from edgevit.commands import build as build_module
from edgevit.commands.build import run_build
from edgevit.commands.build_request import BuildRequest
from edgevit.errors import BudgetError, DataError
from edgevit.measure.evaluator import Evaluator
from edgevit.part import Part
from edgevit.progress import Progress
from edgevit.quantize import accuracy_control as budget
from edgevit.recipe import Calibrate, load_recipe
from edgevit.target import load_target
from tests.support import write_images

TARGET = replace(load_target("cpu"), engines={"default": "onnxruntime"})
# Plain min-max ranges on an untrained model with planted outliers: bad enough that parts have to go back.
POOR = replace(load_recipe("minmax"), calibrate=Calibrate(images=9, tokens=64))


@pytest.fixture
def request_of(checkpoint_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BuildRequest]:
    """A request of the tiny model, changed by keyword."""
    monkeypatch.setattr(build_module, "RUNS", 5)
    data = write_images(tmp_path / "images", 40)

    def request(**changes: Any) -> BuildRequest:
        settings = {"model": checkpoint_path, "target": TARGET, "recipe": POOR, "out": tmp_path / "m.edgevit", "data": data}
        return BuildRequest(**(settings | changes))

    return request


def report_of(request: BuildRequest) -> tuple[Any, dict[str, Any]]:
    bundle = run_build(request, Cache(), Progress()).bundle
    return bundle.manifest, json.loads(bundle.read(REPORT))


def test_a_generous_budget_is_all_int8(request_of) -> None:
    manifest, report = report_of(request_of(max_drop=100.0))
    assert manifest.precision == "int8"
    assert all(block[kind] == "int8" for block in manifest.blocks for kind in ("qkv", "proj", "fc1", "fc2"))
    assert report["reverted"] == {}
    assert report["search"]["drop"] <= 100


def test_seconds_are_those_of_every_turn(request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search evaluates again and again; what it took is the sum, which no stage exceeds and the whole build bounds."""
    turns: dict[str, list[float]] = {}

    class Noted(Progress):
        def end(self, stage: Any) -> None:
            turns.setdefault(stage.name, []).append(stage.seconds)

    begin = time.perf_counter()
    result = run_build(request_of(max_drop=100.0), Cache(enabled=False), Noted())
    whole = time.perf_counter() - begin
    assert len(turns["search"]) >= 2
    assert result.seconds == {name: pytest.approx(sum(each), abs=0.001 * len(each)) for name, each in turns.items()}
    assert sum(result.seconds.values()) < whole
    report = json.loads(result.bundle.read(REPORT))
    assert report["seconds"] == {name: value for name, value in result.seconds.items() if name != "write bundle"}


def test_images_that_chose_the_plan_do_not_judge_it(request_of) -> None:
    """120 images less 9: half of the rest searches, the other half is measured on."""
    manifest, report = report_of(request_of(max_drop=100.0))
    assert report["search"]["images"] == 55
    assert manifest.accuracy["conditions"]["images"] == 56


def test_a_tight_budget_puts_parts_back_and_says_why(request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine and scan are real; only what a plan loses is told: two parts have to go."""
    monkeypatch.setattr(budget, "MAX_FLOAT", 1.0)
    real = budget.search

    def search(ranked: list[Part], drop_without: Any, max_drop: float) -> Any:
        def told(parts: tuple[Part, ...]) -> float:
            drop_without(parts)
            return 0.0 if len(parts) >= 2 else 3.0

        return real(ranked, told, max_drop)

    monkeypatch.setattr(budget, "search", search)
    manifest, report = report_of(request_of(max_drop=0.5))
    assert manifest.precision == "mixed"
    assert len(report["reverted"]) == 2
    for name, reason in report["reverted"].items():
        part = Part.parse(name)
        assert manifest.blocks[part.block].get(part.kind, "fp32") == "fp32"
        assert manifest.reasons[name] == reason
        assert "% of the logit noise" in reason
    assert [part["name"] for part in report["sensitivity"]][:2] == list(report["reverted"])


@pytest.mark.parametrize("cached", [True, False])
def test_no_plan_is_measured_twice(request_of, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    """Also without a cache; INT8 as a whole begins the search with parts, too."""
    monkeypatch.setattr(budget, "MAX_FLOAT", 1.0)
    measured: list[str] = []

    def drop(_self: Evaluator, model: bytes) -> float:
        measured.append(hashlib.sha256(model).hexdigest())
        return 3.0 if len(measured) == 1 else 0.0

    monkeypatch.setattr(Evaluator, "drop", drop)
    run_build(request_of(max_drop=0.5), Cache(enabled=cached), Progress())
    assert len(set(measured)) == len(measured)
    assert len(measured) > 3


@pytest.mark.parametrize("ranked", [[], [Part(0, "fc1")], [Part(i, "fc1") for i in range(3)]])
def test_a_search_measures_each_prefix_once(ranked: list[Part]) -> None:
    tried: list[int] = []

    def drop(parts: tuple[Part, ...]) -> float:
        tried.append(len(parts))
        return 1.0

    assert not budget.search(ranked, drop, 0.5).met
    assert sorted(tried) == sorted(set(tried))


def test_an_impossible_budget_tells_the_best_found(request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_FLOAT", 0.0)  # nothing may leave INT8
    clipping = replace(POOR, quantize=replace(POOR.quantize, ranges="percentile", percentile=60.0))
    request = request_of(max_drop=0.0, recipe=clipping)
    # Agreement, not top-1: a worse model may still be right more often.
    monkeypatch.setattr("edgevit.images.dataset.ImageSet.targets_for", lambda _self, _labels: None)
    with pytest.raises(BudgetError, match=r"--max-drop 0: not met\. Best found: \d+\.\d\d points of agreement with FP32"):
        run_build(request, Cache(), Progress())
    assert not request.out.exists()


def test_no_image_left_to_search_on(request_of, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--max-drop needs images"):
        run_build(request_of(data=write_images(tmp_path / "few", 3), max_drop=0.5), Cache(), Progress())


def test_a_few_flips_need_many_images(request_of) -> None:
    """What the held-out images cannot tell is said with the number that could."""
    clipping = replace(POOR, quantize=replace(POOR.quantize, ranges="percentile", percentile=60.0))
    manifest, _ = report_of(request_of(max_drop=99.0, recipe=clipping))
    agreement = manifest.accuracy["int8"]["agreement"]
    assert agreement < 1
    assert not any("a budget of" in note for note in manifest.notes)  # 99 points are easily told


def test_budget_beside_a_fixed_precision(edgevit, checkpoint_path: Path) -> None:
    outcome = edgevit("build", checkpoint_path, "--precision", "int8", "--max-drop", "0.5")
    assert outcome.code == 2
    assert "leaves --max-drop nothing to choose" in outcome.stderr
