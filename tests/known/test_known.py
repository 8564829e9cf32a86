"""How unusual an image is, held against dense linear algebra and against what conformal p-values promise."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from edgevit.known.fit import FEWEST, Seen, fit_known
from edgevit.known.gaussian import RANK, fit_gaussian
from edgevit.known.known import Known, load_known

FEATURES, CLASSES = 24, 3


def cloud(count: int, seed: int = 0, shift: float = 0.0) -> Seen:
    """Images of three classes, whose middles are apart, in features of very different spread."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, CLASSES, count)
    middles = 4 * np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    features = middles[classes] + random.normal(size=(count, FEATURES)) * np.geomspace(5, 0.1, FEATURES) + shift
    return Seen(features=features.astype(np.float32), classes=classes)


def dense(deviations: np.ndarray, freedom: int) -> np.ndarray:
    """The covariance as Chen et al. 2010, equation 23, shrinks it, written out."""
    size, sample = deviations.shape[1], deviations.T.astype(np.float64) @ deviations / freedom
    square, trace = np.trace(sample @ sample), np.trace(sample)
    rho = ((1 - 2 / size) * square + trace**2) / ((freedom + 1 - 2 / size) * (square - trace**2 / size))
    return (1 - min(1, rho)) * sample + min(1, rho) * trace / size * np.eye(size)


@pytest.mark.parametrize("count", [8, 24, 500])
def test_distances_are_those_of_the_shrunk_covariance(count: int) -> None:
    """With fewer images than features, as many, and more. All directions but one are kept here, so nothing is averaged."""
    deviations = cloud(count).features
    deviations = deviations - deviations.mean(0)
    others = cloud(50, seed=1).features
    covariance = dense(deviations, count - 1)
    expected = np.einsum("ni,ij,nj->n", others, np.linalg.inv(covariance), others)
    np.testing.assert_allclose(fit_gaussian(deviations, count - 1).distance(others), expected, rtol=2e-3)


def test_directions_beyond_the_rank_share_a_variance() -> None:
    """Their sum, and so the trace of the covariance, is kept."""
    random = np.random.default_rng(0)
    deviations = random.normal(size=(1000, 2 * RANK)).astype(np.float32) * np.linspace(3, 1, 2 * RANK, dtype=np.float32)
    deviations -= deviations.mean(0)
    found = fit_gaussian(deviations, 999)
    assert found.directions.shape == (RANK, 2 * RANK)
    trace = float(found.variances.sum()) + found.rest * RANK
    assert trace == pytest.approx(np.trace(dense(deviations, 999)), rel=1e-4)
    assert found.rest < found.variances.min()
    # A pair of vectors along a kept direction, and across all of them.
    along = found.directions[:1] * np.sqrt(found.variances[0])
    across = np.linalg.svd(found.directions)[2][-1:] * np.sqrt(found.rest)
    np.testing.assert_allclose(found.distance(np.concatenate([along, across]).astype(np.float32)), [1, 1], rtol=1e-4)


def test_the_distance_is_from_the_class_that_is_seen_less_that_from_all() -> None:
    seen, others = cloud(600), cloud(40, seed=2)
    known = fit_known(seen, CLASSES)
    mean = seen.features.mean(0)
    means = np.stack([seen.features[seen.classes == index].mean(0) for index in range(CLASSES)])
    overall, within = dense(seen.features - mean, 599), dense(seen.features - means[seen.classes], 597)
    d, own = others.features - mean, others.features - means[others.classes]
    expected = (own @ np.linalg.inv(within) * own).sum(1) - 0.95 * (d @ np.linalg.inv(overall) * d).sum(1)
    np.testing.assert_allclose(known.distance(others.features, others.classes), expected, atol=0.05)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_false_alarms_are_as_many_as_asked_for(rate: float, *, apart: bool) -> None:
    """Of images like the known ones: judged by others, and judged by parts in turn, which errs on the side of fewer alarms."""
    alarms = []
    for seed in range(12):
        judged = cloud(200, seed=100 + seed) if apart else None
        known = fit_known(cloud(200, seed=seed), CLASSES, judged, seed=seed)
        fresh = cloud(500, seed=200 + seed)
        alarms += [known.typicality(float(d)) <= rate for d in known.distance(fresh.features, fresh.classes)]
    assert np.mean(alarms) < rate + 0.012
    assert np.mean(alarms) > rate / 4


def test_what_is_far_away_is_rare_and_what_is_usual_is_not() -> None:
    known = fit_known(cloud(200), CLASSES)
    far = cloud(50, seed=3, shift=6.0)
    assert all(known.typicality(float(d)) == known.least for d in known.distance(far.features, far.classes))
    own = cloud(400, seed=4)
    usual = [known.typicality(float(distance)) for distance in known.distance(own.features, own.classes)]
    assert np.median(usual) == pytest.approx(0.5, abs=0.1)


def test_what_is_far_where_classes_do_not_differ_is_far() -> None:
    """Where relative distances alone are blind: as far from its class as from all."""
    known = fit_known(cloud(200), CLASSES)
    assert known.means is not None
    aside = np.linalg.svd(known.means - known.mean)[2][-1].astype(np.float32)
    distances = known.distance(known.means + 40 * aside, np.arange(CLASSES))
    assert all(known.typicality(float(distance)) == known.least for distance in distances)


def test_typicality_counts_those_as_far_or_farther() -> None:
    known = replace(fit_known(cloud(30), CLASSES), distances=np.array([1, 2, 2, 3], np.float32))
    assert [known.typicality(d) for d in (0, 1, 2, 2.5, 3, 4)] == pytest.approx([1, 1, 0.8, 0.4, 0.4, 0.2])
    assert known.least == pytest.approx(0.2)


def test_few_of_many_classes_are_taken_together() -> None:
    seen = replace(cloud(60), classes=np.arange(60) % 50)
    known = fit_known(seen, 100)
    assert not known.by_class
    assert known.distance(seen.features, seen.classes) == pytest.approx(known.overall.distance(seen.features - known.mean))
    assert not fit_known(cloud(60), CLASSES, single_label=False).by_class
    assert fit_known(cloud(60), CLASSES).by_class


def test_a_class_that_was_not_seen_has_the_middle_of_all() -> None:
    known = fit_known(cloud(60), CLASSES + 2)
    assert known.means is not None
    np.testing.assert_array_equal(known.means[CLASSES], known.mean)


def test_too_few_images_or_all_the_same_are_said() -> None:
    with pytest.raises(ValueError, match=f"19 images are too few to tell what is unusual: {FEWEST} at least"):
        fit_known(cloud(19), CLASSES)
    same = Seen(features=np.ones((30, 4), np.float32), classes=np.zeros(30, np.int64))
    with pytest.raises(ValueError, match="all images give the same features"):
        fit_known(same, 1)


@pytest.mark.parametrize("single_label", [True, False])
def test_a_file_gives_back_what_was_written(*, single_label: bool) -> None:
    known, others = fit_known(cloud(60), CLASSES, single_label=single_label), cloud(20, seed=5)
    again = load_known(known.to_bytes(), CLASSES, FEATURES)
    assert again.by_class is single_label
    expected = known.distance(others.features, others.classes)
    np.testing.assert_array_equal(again.distance(others.features, others.classes), expected)
    assert again.typicality(float(expected[0])) == known.typicality(float(expected[0]))


def changed(known: Known, **arrays: object) -> bytes:
    stored = dict(np.load(io.BytesIO(known.to_bytes())))
    for name, value in arrays.items():
        if value is None:
            del stored[name]
        else:
            stored[name] = np.asarray(value)
    stream = io.BytesIO()
    np.savez(stream, **stored)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mean": None}, "misses 'mean'"),
        ({"mean": np.zeros(5, np.float32)}, "for 3 classes and 24 features"),
        ({"means": np.zeros((2, FEATURES), np.float32)}, "for 3 classes and 24 features"),
        ({"distances": np.zeros(0, np.float32)}, "for 3 classes and 24 features"),
        ({"distances": np.array([np.nan])}, "no numbers"),
        ({"mean": np.array(["a"])}, "no numbers"),
        ({"overall_rest": np.float32(0)}, "a variance is not above 0"),
        ({"within_variances": -np.ones(3, np.float32)}, "a variance is not above 0"),
        ({"within_directions": np.ones((3, 2), np.float32)}, "for 3 classes and 24 features"),
        ({"mean": np.array([{}])}, "Python objects"),
    ],
)
def test_files_that_are_none_are_refused(arrays: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_known(changed(fit_known(cloud(60), CLASSES), **arrays), CLASSES, FEATURES)


def test_damaged_files_are_refused() -> None:
    content = fit_known(cloud(60), CLASSES).to_bytes()
    for damaged in (b"", b"PK\3\4", content[:-100], content[:200], b"x" * 1000):
        with pytest.raises(ValueError, match=r"."):
            load_known(damaged, CLASSES, FEATURES)
