"""What is asked of a search is kept by the model that comes out: it is that one which is measured."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.errors import BudgetError, ConfigError
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import ImageSet, load_images
from edgevit.measure.evaluator import Budget, Evaluator
from edgevit.model.checkpoint import Checkpoint
from edgevit.model.macs import macs
from edgevit.model.vit import Vit
from edgevit.pruning.costs import macs_only
from edgevit.pruning.recover import Recovered
from edgevit.pruning.smaller import Smaller
from edgevit.search.search import search
from edgevit.search.settings import SearchSettings
from edgevit.search.speedup import TRIES
from edgevit.search.trade import Trade
from edgevit.target import load_target
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench
from tests import support

CPU = replace(load_target("cpu"), engines={"default": "onnxruntime"})
ELSEWHERE = replace(
    load_target("raspberry-pi-5"), machine=replace(load_target("raspberry-pi-5").machine, models=("No Such Board",))
)


def by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that are the same every time: what layers of a tiny model take is noise."""
    monkeypatch.setattr("edgevit.pruning.layer_times.measured", lambda config, *_, **__: macs_only(config))


@pytest.fixture
def evaluator(checkpoint: Checkpoint, tmp_path: Path) -> Evaluator:
    others = load_images(support.write_images(tmp_path / "others", 16, first=700))
    return Evaluator(checkpoint, others, Workbench(threads=1, measured_on="onnxruntime"))


def searched(
    checkpoint: Checkpoint, images: ImageSet, evaluator: Evaluator | None = None, max_drop: float | None = None,
    target: Any = CPU, **asked: Any,
) -> Smaller:  # fmt: skip
    bench, budget = Workbench(target=target, threads=1), None
    if evaluator is not None and max_drop is not None:
        budget = Budget(evaluator=evaluator, max_drop=max_drop)
    settings = SearchSettings(multiple=4, **asked)
    return search(checkpoint, images, settings, "fp32", bench, budget)


# --- a speed-up ------------------------------------------------------------------------------------------------------


class Clock:
    """Stands for `timed_speedup`: the share of the arithmetic's speed-up that a machine really gains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gained: float) -> None:
        self.shapes: list[VitConfig] = []
        self.gained = gained
        monkeypatch.setattr("edgevit.search.speedup.timed_speedup", self)
        by_arithmetic(monkeypatch)

    def __call__(self, before: VitConfig, after: VitConfig, *_: object, **__: object) -> float:
        self.shapes.append(after)
        return self.true(before, after)

    def true(self, before: VitConfig, after: VitConfig) -> float:
        return 1 + self.gained * (macs(before) / macs(after) - 1)


def test_the_speed_up_that_is_kept_was_measured(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The costs promise more than the machine gives: further is asked for, until what is measured is what was asked."""
    clock = Clock(monkeypatch, gained=0.6)
    outcome = searched(checkpoint, images, speedup=1.3)
    assert len(clock.shapes) > 1
    assert len(set(map(str, clock.shapes))) == len(clock.shapes)  # nothing is measured twice until it pleases
    kept = next(shape for shape in clock.shapes if macs(shape) == macs(outcome.checkpoint.model.config))
    assert outcome.report["measured"]["speedup"] == clock.true(checkpoint.model.config, kept) >= 1.3
    assert f"{outcome.report['measured']['speedup']:.2f} times as fast, measured in fp32 on onnxruntime" in outcome.summary


def test_what_is_faster_than_asked_gives_less_up(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The costs promise less than the machine gives: nearer is tried, and kept where it is enough."""
    clock = Clock(monkeypatch, gained=1.6)
    outcome = searched(checkpoint, images, speedup=1.3)
    reached = [clock.true(checkpoint.model.config, shape) for shape in clock.shapes]
    assert len(reached) == 2
    assert 1.3 <= outcome.report["measured"]["speedup"] == reached[1] < reached[0]


def test_a_speed_up_that_is_missed_is_an_error(checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, gained=0.01)
    with pytest.raises(ConfigError, match=r"--speedup 1\.5: not reached\. The fastest of \d tries is 1\.0\d times as fast"):
        searched(checkpoint, images, speedup=1.5)
    assert 1 < len(clock.shapes) <= TRIES


def test_a_missed_speed_up_writes_nothing(
    edgevit: Callable[..., support.Outcome], checkpoint_path: Path, image_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    Clock(monkeypatch, gained=0.0)
    out = tmp_path / "out.safetensors"
    done = edgevit("prune", checkpoint_path, "--data", image_folder, "--multiple", 8, "--speedup", "1.2", "-o", out)
    assert done.code == 2
    assert "--speedup 1.2: not reached" in done.stderr
    assert not out.exists()


def test_a_speed_up_that_cannot_be_measured_says_so(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a board that is not here: by arithmetic, and called that."""
    monkeypatch.setattr("edgevit.search.speedup.timed_speedup", lambda *_, **__: pytest.fail("timed on another machine"))
    outcome = searched(checkpoint, images, target=ELSEWHERE, speedup=1.2)
    assert outcome.report["measured"] is None
    assert outcome.report["speedup"] >= 1.2
    assert "times as fast by multiply-accumulates alone, not measured: time it on the target" in outcome.summary


# --- a budget --------------------------------------------------------------------------------------------------------


def spoilt_above(share: float, before: VitConfig) -> Callable[..., Recovered]:
    """A recovery that ruins models of which more than ``share`` is gone."""

    def recover(student: Vit, *_: object) -> Recovered:
        model = copy.deepcopy(student)
        if 1 - macs(model.config) / macs(before) > share:
            with torch.no_grad():
                model.head.weight.mul_(-1)
        return Recovered(model=model, before=1.0, after=0.5, kept=True)

    return recover


def drop_of(evaluator: Evaluator, outcome: Smaller) -> float:
    return evaluator.drop(fp32_variant(outcome.checkpoint, evaluator.engine).model)


def test_the_model_that_is_kept_is_within_the_budget(
    checkpoint: Checkpoint, images: ImageSet, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that tries more than training bears gives back what went too far."""
    by_arithmetic(monkeypatch)
    generous = searched(checkpoint, images, evaluator, 10.0, auto=True)
    assert drop_of(evaluator, generous) == generous.report["search"]["drop"] <= 10
    assert generous.report["share"] > 0.3
    monkeypatch.setattr("edgevit.pruning.make.recover", spoilt_above(0.3, checkpoint.model.config))
    outcome = searched(checkpoint, images, evaluator, 10.0, auto=True, recover=1)
    search = outcome.report["search"]
    assert drop_of(evaluator, outcome) == search["drop"] <= 10
    assert outcome.report["share"] <= 0.3
    assert [item["drop"] > 10 for item in search["kept"]] == [True] * (len(search["kept"]) - 1) + [False]
    assert len(search["kept"]) > 1


def test_a_budget_that_only_the_tries_keep(
    checkpoint: Checkpoint, images: ImageSet, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.pruning.make.recover", spoilt_above(0.0, checkpoint.model.config))
    with pytest.raises(BudgetError, match=r"The least that was tried loses \d+\.\d\d points"):
        searched(checkpoint, images, evaluator, 10.0, auto=True, recover=1)


def test_a_model_with_nothing_to_remove(
    checkpoint: Checkpoint, images: ImageSet, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No figure is made up where none was measured."""

    def nothing(_self: Trade, speedup: float) -> Any:
        msg = f"{speedup} is more than there is to gain"
        raise ConfigError(msg)

    monkeypatch.setattr(Trade, "least_harm", nothing)
    with pytest.raises(ConfigError, match="not even 5 % of this model's time can be saved"):
        searched(checkpoint, images, evaluator, 10.0, auto=True)


def test_a_budget_that_is_missing_is_missed_at_once(
    checkpoint: Checkpoint, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.search.search.score", lambda *_: pytest.fail("a slow stage began"))
    with pytest.raises(ConfigError, match="--max-drop"):
        searched(checkpoint, images, auto=True)


def test_reports_are_json(checkpoint: Checkpoint, images: ImageSet, evaluator: Evaluator) -> None:
    report = searched(checkpoint, images, evaluator, 100.0, auto=True).report
    assert all(math.isfinite(item["drop"]) for item in json.loads(json.dumps(report))["search"]["tries"])
