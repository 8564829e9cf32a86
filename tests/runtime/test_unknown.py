"""What is called unknown, and how a run drifts from the images of its build."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.known.fit import Seen, fit_known
from edgevit.known.known import Known
from edgevit.problem import MULTI_LABEL
from edgevit.runtime.decide import UNKNOWN, Decider
from edgevit.runtime.drift import MOST, Drift
from edgevit.runtime.sinks.condition import parse_condition
from edgevit.runtime.sinks.lines import RARITY, CsvFile, JsonLines
from edgevit.runtime.smoothing import Ema
from edgevit.runtime.summary import Summary
from edgevit.runtime.unknown import Watch, rate_of
from tests.runtime.fakes import FakeCamera, frame, prediction, result

USUAL, FAR = np.zeros(4, np.float32), np.full(4, 50, np.float32)


@pytest.fixture(scope="module")
def known() -> Known:
    """Of 199 images around zero: the rarest is one in 200."""
    features = np.random.default_rng(0).normal(size=(199, 4)).astype(np.float32)
    return fit_known(Seen(features=features, classes=np.zeros(199, np.int64)), 1)


@pytest.mark.parametrize(
    ("asked", "rate"), [("auto", 0.01), ("0.02", 0.02), ("2%", 0.02), (" 5 % ", 0.05), (0.1, 0.1), (".5", 0.5), ("1/3", None)]
)
def test_rates(known: Known, asked: str | float, rate: float | None) -> None:
    if rate is None:
        with pytest.raises(ConfigError, match="--unknown 1/3: write auto, or the share of known frames"):
            rate_of(asked, known)
    else:
        assert rate_of(asked, known) == pytest.approx(rate)


@pytest.mark.parametrize("asked", ["0", "1", "100%", "-0.1", "", "nan", "Auto"])
def test_what_is_no_rate_is_refused(known: Known, asked: str) -> None:
    with pytest.raises(ConfigError, match=f"--unknown {re.escape(asked)}: write auto"):
        rate_of(asked, known)


def test_a_rate_must_be_one_that_so_many_images_tell(known: Known) -> None:
    with pytest.raises(ConfigError, match=r"judged by 199 images, of which the rarest is one in 200\. Ask for 0\.005 or more"):
        rate_of("0.001", known)
    few = fit_known(Seen(features=np.eye(20, 4, dtype=np.float32), classes=np.zeros(20, np.int64)), 1)
    assert rate_of("auto", few) == pytest.approx(1 / 21)  # the least that there is, instead of one in 100


def test_a_bundle_that_does_not_tell_says_how_to_build_one() -> None:
    assert rate_of(None, None) is None
    with pytest.raises(ConfigError, match=r"Build it with: edgevit build MODEL --data DIR --unknown"):
        rate_of("auto", None)


@pytest.mark.parametrize("several", [False, True])
def test_what_is_far_away_is_unknown_however_sure_the_model_is(known: Known, *, several: bool) -> None:
    kind = {"problem_type": MULTI_LABEL} if several else {}
    decider = Decider(known=known, unknown=0.01, threshold=0.5, **kind)
    sure = (prediction("crack", 0.99),)
    far, usual = (decider(result(predictions=sure, features=features)) for features in (FAR, USUAL))
    assert (far.best.label, far.best.index, far.labels) == (UNKNOWN, -1, ())
    assert far.predictions == sure  # what the model says is still told
    assert usual.best.label == "crack"
    assert far.rarity is not None
    assert usual.rarity is not None
    assert far.rarity.typicality == known.least < 0.5 < usual.rarity.typicality


def test_without_a_rate_rarity_is_only_told(known: Known) -> None:
    decision = Decider(known=known)(result(features=FAR))
    assert decision.best.label == "dark"
    assert decision.rarity is not None
    assert not decision.rarity.unknown
    assert Decider()(result(features=FAR)).rarity is None
    assert Decider(known=known)(result()).rarity is None  # of an engine without features


def test_smoothing_is_of_distances_too_and_starts_anew_with_the_source(known: Known) -> None:
    decider = Decider(known=known, unknown=0.01, smoothing=Ema(4))
    labels = [decider(result(frame=frame(index=i), features=f)).best.label for i, f in enumerate([FAR, USUAL, USUAL, USUAL])]
    assert labels == [UNKNOWN] * 4
    assert decider(result(frame=frame(index=4), features=USUAL)).best.label == "dark"
    decider(result(frame=frame(index=5), features=FAR))
    assert decider(result(frame=frame(index=0, name="another"), features=USUAL)).best.label == "dark"


def test_the_distance_is_from_the_class_of_this_frame(known: Known) -> None:
    two = fit_known(Seen(features=np.concatenate([known_cloud(0), known_cloud(30)]), classes=np.repeat([0, 1], 60)), 2)
    watch = Watch(two, 0.05)
    assert not watch(known_cloud(30)[0], 1).unknown
    assert watch(known_cloud(30)[0], 0).unknown


def known_cloud(middle: float) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=(60, 4)) + middle).astype(np.float32)


def test_outputs_have_it(known: Known, tmp_path: Path) -> None:
    decisions = [Decider(known=known, unknown=0.01)(result(features=features)) for features in (USUAL, FAR)]
    stream = io.StringIO()
    with closing(JsonLines(stream)) as lines, closing(CsvFile(tmp_path / "a.csv", rarity=True)) as rows:
        for decision in decisions:
            lines(decision)
            rows(decision)
    usual, far = map(json.loads, stream.getvalue().splitlines())
    assert far["label"] == UNKNOWN
    assert far["typicality"] == pytest.approx(0.005)
    assert usual["typicality"] > 0.5
    assert far["distance"] > usual["distance"]
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["typicality"]) for row in table] == pytest.approx([usual["typicality"], 0.005])
    assert list(table[0])[-2:] == list(RARITY)


def test_conditions_look_at_it(known: Known) -> None:
    far, usual = (Decider(known=known)(result(features=features)) for features in (FAR, USUAL))
    condition = parse_condition("typicality<5%", ["dark"])
    assert condition.holds(far)
    assert not condition.holds(usual)
    unknown = parse_condition("label=unknown", ["dark"], multi_label=True)
    assert unknown.holds(Decider(known=known, unknown=0.01, problem_type=MULTI_LABEL)(result(features=FAR)))


def test_the_summary_has_the_drift(known: Known) -> None:
    summary, decider = Summary(FakeCamera(frames=0, seconds=0)), Decider(known=known)
    random = np.random.default_rng(2)
    for second in range(600):
        features = random.normal(size=4).astype(np.float32) * (1 if second < 300 else 3)
        summary.add(decider(result(features=features, finished=float(second))))
    found = json.loads(json.dumps(summary.to_dict()))["typicality"]
    assert found["frames"] == 600
    assert len(found["hours"]) == 10
    assert found["hours"][0]["median"] == pytest.approx(0.5, abs=0.15)
    assert found["hours"][-1]["median"] < 0.1
    assert found["hours"][-1]["rare"] > 0.5
    assert found["hours"][3]["hour"] == pytest.approx(0.05)
    line = next(line for line in summary.lines() if line.startswith("typicality"))
    assert re.search(r"median 0\.\d\d \(0\.50 at build\), .* first 1 min 0\.[456]\d, last 1 min 0\.0\d", line)
    assert "typicality" not in Summary(FakeCamera(frames=0, seconds=0)).to_dict()


def test_drift_of_months_is_bounded_and_exact() -> None:
    """As numpy counts the same hours, whatever spans they are kept in."""
    drift, random = Drift(), np.random.default_rng(3)
    times = np.sort(random.uniform(0, 90 * 24 * 3600, 20_000))
    times[0] = 0
    values = random.beta(1 + times / times.max() * 3, 4)
    for value, at in zip(values, times, strict=True):
        drift.add(float(value), float(at))
    assert len(drift.spans) <= MOST
    assert drift.all.frames == 20_000
    assert drift.all.median == pytest.approx(np.median(values), abs=0.01)
    assert drift.all.rare == pytest.approx((values < 0.05).mean(), abs=1e-9)
    for span in drift.spans:
        own = values[(times >= span.begins) & (times < span.begins + drift.seconds)]
        assert span.frames == len(own)
        assert span.median == pytest.approx(np.median(own), abs=0.01)


def test_pauses_leave_spans_out() -> None:
    drift = Drift()
    for at in (10.0, 11.0, 4000.0):
        drift.add(1.0, at)
    assert [(span.begins, span.frames) for span in drift.spans] == [(0, 2), (3960, 1)]
    assert drift.all.median == pytest.approx(1, abs=0.01)


def test_decisions_keep_their_representation(known: Known) -> None:
    assert repr(Decider(known=known, unknown=0.01)(result(features=FAR))).startswith("Decision(unknown, frame 0")
