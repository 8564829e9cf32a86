"""A comparison of real models on real engines: one row each, under stated conditions, from a cache where it can."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import edgevit
from edgevit.cache import Cache
from edgevit.device.processor import processor
from edgevit.engine import open_session
from edgevit.engine.base import Session, available_threads
from edgevit.errors import DataError
from edgevit.export.graph import write_graph
from edgevit.images.dataset import ImageSet
from edgevit.measure import evaluate as evaluating
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison, row_names
from edgevit.measure.evaluate import evaluate
from edgevit.model.quantplan import QuantPlan
from edgevit.preprocess import Preprocessing
from edgevit.progress import Progress, Stage
from edgevit.workbench import Workbench
from tests.zoo import contract, folded, frames, int8

LABELS = ("a", "b", "c", "d", "e")
MODEL = folded()
CONTRACT = contract(MODEL.config)


class Seen(Progress):
    """Remembers every stage and its steps."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.steps: dict[str, int] = {}

    def begin(self, stage: Stage) -> None:
        self.stages.append(stage)

    def advance(self, stage: Stage, steps: int) -> None:
        self.steps[stage.name] = self.steps.get(stage.name, 0) + steps


@pytest.fixture(scope="module")
def graphs() -> dict[str, bytes]:
    return {"fp32": write_graph(QuantPlan(model=MODEL)), "int8": write_graph(int8(MODEL))}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(root=tmp_path / "cache")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """12 frames, labelled with the FP32 model's own winners but for the last two."""
    array = frames(MODEL.config, 12, seed=5)
    with open_session("onnxruntime", write_graph(QuantPlan(model=MODEL)), threads=1) as session:
        winners = session.infer(array).argmax(1)
    winners[-2:] = (winners[-2:] + 1) % len(LABELS)
    names = tuple(map(str, range(12)))
    return ImageSet(source="frames", names=names, class_names=LABELS, targets=tuple(map(int, winners)), array=array)


@pytest.fixture(scope="module")
def comparison(graphs: dict[str, bytes], images: ImageSet) -> Comparison:
    candidates = [Candidate(precision=p, engine=e, model=graphs[p]) for e in ("onnxruntime", "openvino") for p in graphs]
    return compared(candidates, images)


def compared(candidates: list[Candidate], images: ImageSet, labels: tuple[str, ...] = LABELS) -> Comparison:
    cache = Cache(enabled=False)
    return compare(candidates, images, CONTRACT, labels, runs=5, bench=Workbench(cache=cache, threads=1))


# --- compare -------------------------------------------------------------------------------------------------------------------


def test_a_row_per_candidate(comparison: Comparison, graphs: dict[str, bytes]) -> None:
    rows = comparison.rows
    assert [row.precision for row in rows] == ["fp32", "int8"] * 2
    assert [row.engine.partition(" ")[0] for row in rows] == ["onnxruntime"] * 2 + ["openvino"] * 2
    assert [row.bytes for row in rows] == [len(graphs[row.precision]) for row in rows]
    assert all(row.accuracy.images == 12 and row.latency.runs == 5 for row in rows)


def test_the_first_row_is_the_reference(comparison: Comparison) -> None:
    """FP32 agrees with itself, and on the other engine to the last bits of float32; INT8 is near."""
    first, near, same, _ = comparison.rows
    assert (first.accuracy.top1, first.accuracy.agreement, first.accuracy.sqnr_db) == (10 / 12, 1.0, None)
    assert near.accuracy.sqnr_db is not None
    assert 15 < near.accuracy.sqnr_db < 60
    assert same.accuracy.sqnr_db is None or same.accuracy.sqnr_db > 90


def test_speedup_is_against_fp32_on_the_same_engine(comparison: Comparison) -> None:
    for row, base in zip(comparison.rows, [comparison.rows[i] for i in (0, 0, 2, 2)], strict=True):
        assert row.speedup == pytest.approx(base.latency.p50_ms / row.latency.p50_ms)


def test_what_the_recommendation_rests_on(comparison: Comparison) -> None:
    """The paired change against the first row, and how sure a speed-up is: a single turn tells nothing."""
    first, *others = comparison.rows
    assert first.change is None
    assert all(row.change is not None and row.change.p == 1 for row in others if row.precision == "fp32")
    assert all(row.speedup_interval is None for row in comparison.rows)
    assert [row.name for row in comparison.rows] == [f"{p} on {e}" for e in ("onnxruntime", "openvino") for p in ("fp32", "int8")]


def test_noise_is_measured_over_turns(graphs: dict[str, bytes], images: ImageSet) -> None:
    candidates = [Candidate(precision=p, engine="onnxruntime", model=graphs["fp32"]) for p in ("fp32", "same")]
    found = compare(candidates, images, CONTRACT, LABELS, runs=40, bench=Workbench(threads=1), startup=True)
    row = found.rows[1]
    assert row.speedup is not None
    assert row.speedup_interval is not None
    low, high = row.speedup_interval
    assert low < high
    assert row.inside_noise == (low <= 1 <= high)
    assert row.startup is not None
    assert found.evidence.turns[0] is not None
    assert [len(turn) for turn in found.evidence.turns[0]] == [5] * 8


def test_models_with_their_own_preprocessing(graphs: dict[str, bytes], images: ImageSet) -> None:
    """A candidate's own contract is used for its logits; another size of crop changes them."""
    zoomed = replace(CONTRACT, resize=(24, 24))
    candidates = [
        Candidate(precision="fp32", engine="onnxruntime", model=graphs["fp32"], subject=name, contract=contract)
        for name, contract in (("plain", None), ("zoomed", zoomed))
    ]
    found = compared(candidates, images)
    assert [row.name for row in found.rows] == ["plain fp32", "zoomed fp32"]
    assert found.rows[1].accuracy.sqnr_db is not None
    assert found.rows[1].accuracy.sqnr_db < 40


def test_rows_of_one_name_are_numbered() -> None:
    assert row_names([("", "int8", "a"), ("", "int8", "a")]) == ["int8 (row 1)", "int8 (row 2)"]
    assert row_names([("m", "int8", "a")]) == ["int8"]


def test_conditions_are_stated(comparison: Comparison) -> None:
    conditions = comparison.conditions
    assert (conditions["images"], conditions["source"], conditions["labels"]) == (12, "frames", True)
    assert (conditions["device"], conditions["threads"], conditions["batch"]) == (processor(), 1, 1)
    assert "interleaved" in conditions["order"]
    assert datetime.fromisoformat(conditions["date"]).tzinfo is not None
    assert (conditions["edgevit"], conditions["command"]) == (edgevit.__version__, "")
    assert (conditions["population"], conditions["drawn"]) == (12, "")


def test_each_row_names_the_very_model(comparison: Comparison, graphs: dict[str, bytes]) -> None:
    assert [row.sha256 for row in comparison.rows] == [
        hashlib.sha256(graphs[row.precision]).hexdigest() for row in comparison.rows
    ]


def test_threads_default_to_all(graphs: dict[str, bytes], images: ImageSet) -> None:
    candidate = Candidate(precision="fp32", engine="onnxruntime", model=graphs["fp32"])
    cache = Cache(enabled=False)
    found = compare([candidate], images, CONTRACT, LABELS, runs=1, bench=Workbench(cache=cache))
    assert found.conditions["threads"] == available_threads()


def test_json(comparison: Comparison) -> None:
    """Plain JSON: no infinities, no numpy numbers."""
    text = json.dumps(comparison.to_dict(), allow_nan=False)
    assert json.loads(text)["rows"][1]["accuracy"]["images"] == 12


def test_csv(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert [line["precision"] for line in lines] == ["fp32", "int8"] * 2
    assert float(lines[1]["latency_p50_ms"]) == comparison.rows[1].latency.p50_ms
    assert float(lines[1]["accuracy_sqnr_db"]) == comparison.rows[1].accuracy.sqnr_db
    assert lines[0]["accuracy_sqnr_db"] == ""
    assert comparison.to_csv().count("\n") == 5


def test_names_in_csv_are_no_formulas(comparison: Comparison) -> None:
    """Numbers stay numbers, negative ones as well."""
    row = replace(comparison.rows[1], subject="=cmd|' /C calc'!A0", name="@sum", speedup=-1.5)
    (line,) = csv.DictReader(io.StringIO(replace(comparison, rows=(row,)).to_csv()))
    assert (line["subject"], line["name"], line["speedup"]) == ("'=cmd|' /C calc'!A0", "'@sum", "-1.5")


@pytest.mark.parametrize("labels", [("a", "b", "c", "d", "x"), ()], ids=str)
def test_labels_that_do_not_fit_give_no_accuracy(labels: tuple[str, ...], graphs: dict[str, bytes], images: ImageSet) -> None:
    """The rest is measured all the same, and the conditions say so."""
    candidate = Candidate(precision="fp32", engine="onnxruntime", model=graphs["fp32"])
    found = compared([candidate], images if labels else replace(images, targets=None, class_names=()), labels)
    assert found.rows[0].accuracy.top1 is None
    assert found.conditions["labels"] is False


def test_what_is_odd_is_said_before_the_figures(graphs: dict[str, bytes], images: ImageSet) -> None:
    """Images whose labels are those of other classes, and a build that knew better: in the object, in JSON, in Markdown."""
    from edgevit.report.table import to_markdown

    assert images.targets is not None
    turned = replace(images, targets=tuple((target + 1) % len(LABELS) for target in images.targets))
    candidate = Candidate(precision="fp32", engine="onnxruntime", model=graphs["fp32"], earlier={"top1": 0.9, "images": 500})
    found = compared([candidate], turned)
    assert found.warnings[0].startswith(
        "these images are not like those at build time: fp32 has 0.0 % of 12 right, and then had 90.0"
    )
    assert found.warnings[1].startswith("fp32 has 0 of 12 images right, 0.0 %")
    assert json.loads(json.dumps(found.to_dict()))["warnings"] == list(found.warnings)
    assert to_markdown(found).startswith("> Check first: these images are not like those at build time")


def test_balanced_accuracy_of_every_row(comparison: Comparison) -> None:
    """Ten of twelve are right; the classes are not alike in number."""
    metrics = pytest.importorskip("sklearn.metrics")
    seen = comparison.evidence
    expected = [metrics.balanced_accuracy_score(seen.targets, own.argmax(1)) for own in seen.logits]
    assert [row.accuracy.balanced for row in comparison.rows] == pytest.approx(expected)
    assert "accuracy_balanced" in comparison.to_csv().splitlines()[0]


def test_no_images(graphs: dict[str, bytes], images: ImageSet) -> None:
    candidate = Candidate(precision="fp32", engine="onnxruntime", model=graphs["fp32"])
    with pytest.raises(DataError, match="frames: no images are left to compare on"):
        compared([candidate], images.subset([]))


# --- evaluate ------------------------------------------------------------------------------------------------------------------


class Opener:
    """Opens a session and counts how often it was asked to."""

    def __init__(self, model: bytes, engine: str = "onnxruntime") -> None:
        self.model, self.engine, self.count = model, engine, 0
        self.session: Session | None = None

    def __call__(self) -> Session:
        self.count += 1
        self.session = open_session(self.engine, self.model, threads=1)
        return self.session


def evaluated(
    opener: Opener, images: ImageSet, cache: Cache, contract: Preprocessing = CONTRACT, engine: str = "test 1"
) -> tuple[np.ndarray, bool, int]:
    """Logits, whether they were there already, and the steps reported."""
    progress = Seen()
    with progress.stage("evaluate") as stage:
        logits = evaluate(opener, opener.model, images, contract, engine=engine, cache=cache, stage=stage)
    return logits, stage.cached, progress.steps["evaluate"]


def test_logits_of_every_image_in_order(graphs: dict[str, bytes], images: ImageSet, cache: Cache) -> None:
    opener = Opener(graphs["int8"])
    logits, cached, steps = evaluated(opener, images, cache)
    assert images.array is not None
    with open_session("onnxruntime", graphs["int8"], threads=1) as session:
        expected = np.concatenate([session.infer(frame[None]) for frame in images.array])
    assert np.array_equal(logits, expected)
    assert (cached, steps, opener.count) == (False, 12, 1)


def test_the_second_time_no_session_is_opened(graphs: dict[str, bytes], images: ImageSet, cache: Cache) -> None:
    opener = Opener(graphs["int8"])
    first, _, _ = evaluated(opener, images, cache)
    second, cached, steps = evaluated(opener, images, cache)
    assert np.array_equal(first, second)
    assert (cached, steps, opener.count) == (True, 12, 1)


def test_anything_that_matters_makes_it_anew(graphs: dict[str, bytes], images: ImageSet, cache: Cache) -> None:
    """Another model, engine, preprocessing, set of images or order."""
    opener, other = Opener(graphs["int8"]), Opener(graphs["fp32"])
    evaluated(opener, images, cache)
    assert not evaluated(other, images, cache)[1]
    assert not evaluated(opener, images, cache, engine="test 2")[1]
    assert not evaluated(opener, images, cache, contract=replace(CONTRACT, resize=(20, 20)))[1]
    assert not evaluated(opener, images.subset(range(11)), cache)[1]
    assert not evaluated(opener, images.subset(range(12)[::-1]), cache)[1]
    assert evaluated(opener, images, cache)[1]


def test_an_interrupted_run_goes_on(
    graphs: dict[str, bytes], images: ImageSet, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C on the eighth image: the chunks before it are there, the session is closed."""
    monkeypatch.setattr(evaluating, "CHUNK", 3)
    opener = Opener(graphs["int8"])
    whole, _, _ = evaluated(opener, images, Cache(enabled=False))

    class Interrupted(Progress):
        steps = 0

        def advance(self, stage: Stage, steps: int) -> None:
            self.steps += steps
            if self.steps == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Interrupted().stage("evaluate") as stage:
        evaluate(opener, opener.model, images, CONTRACT, engine="test 1", cache=cache, stage=stage)
    assert len(list((cache.root / "logits").iterdir())) == 2
    assert opener.session is not None
    with pytest.raises(Exception, match="closed"):
        opener.session.infer(frames(MODEL.config, 1))
    logits, cached, steps = evaluated(opener, images, cache)
    assert np.array_equal(logits, whole)
    assert (cached, steps) == (False, 12)
    assert len(list((cache.root / "logits").iterdir())) == 4


def test_energy_where_the_board_measures_power(
    graphs: dict[str, bytes], images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rails of a simulated board: joules per image of every row, a column in the tables, nothing without rails."""
    from edgevit.measure import compare as module
    from edgevit.measure.energy import measure_energy
    from edgevit.report.table import to_markdown

    monitor = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    monitor.mkdir(parents=True)
    for name, text in (("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "2000")):
        (monitor / name).write_text(f"{text}\n")
    monkeypatch.setattr(module, "measure_energy", partial(measure_energy, seconds=0.1, rounds=1, every=0.01))
    candidates = [Candidate(precision=name, engine="onnxruntime", model=graph) for name, graph in graphs.items()]
    found = compare(candidates, images, CONTRACT, LABELS, runs=5, bench=Workbench(threads=1), root=tmp_path)
    for row in found.rows:
        assert row.energy is not None
        assert row.energy.watts == pytest.approx(10, rel=0.01)
        assert row.energy.joules_per_image == pytest.approx(10 * 0.1 / row.energy.images, rel=0.3)
    assert "J/image, whole board" in to_markdown(found)
    assert all(row["energy"]["watts"] > 0 for row in found.to_dict()["rows"])
    assert "energy_joules_per_image" in found.to_csv().splitlines()[0]
