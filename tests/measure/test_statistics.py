"""Intervals and tests against worked values, other implementations and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgevit.measure.latency import MIN_TURNS
from edgevit.measure.statistics import (
    auroc,
    balanced_accuracy,
    calibration_error,
    fisher,
    images_needed,
    mcnemar,
    median_ratio,
    stratified_difference,
    tango,
    wilson,
)

# --- Wilson --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_against_a_published_table(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_of_no_share(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"not {successes} of {trials}"):
        wilson(successes, trials)


# --- McNemar -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "won", "p"), [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 64), (1, 9, 22 / 1024)])
def test_mcnemar_by_hand(lost: int, won: int, p: float) -> None:
    """Counts of heads: 1 + 10 of 1024 ways to throw at most one, on either side."""
    assert mcnemar(lost, won) == pytest.approx(p, rel=1e-12)
    assert mcnemar(won, lost) == mcnemar(lost, won)


@pytest.mark.parametrize(("lost", "won"), [(3, 11), (40, 25), (180, 121), (900, 1100)])
def test_mcnemar_is_the_binomial_test(lost: int, won: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert mcnemar(lost, won) == pytest.approx(stats.binomtest(lost, lost + won, 0.5).pvalue, rel=1e-9)


def test_mcnemar_of_negative_counts() -> None:
    with pytest.raises(ValueError, match="counts of images, not -1 and 2"):
        mcnemar(-1, 2)


# --- the paired difference -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "won", "images", "low", "high"),
    [
        # The R package contingencytables (its tests print Cavo 2012: 59, 6, 16, 80), which implements chapter 8 of Fagerland,
        # Lydersen and Laake 2017, "Statistical Analysis of Contingency Tables"; the second is its Bentur 2009: 1, 1, 7, 12.
        (16, 6, 161, -0.1240, -0.0054),
        (7, 1, 21, -0.517, -0.026),
    ],
)
def test_tango_against_another_implementation(lost: int, won: int, images: int, low: float, high: float) -> None:
    assert tango(lost, won, images) == pytest.approx((low, high), abs=5e-5 if images > 100 else 5e-4)
    assert tango(won, lost, images) == pytest.approx((-high, -low), abs=5e-5 if images > 100 else 5e-4)


@pytest.mark.parametrize("images", [1, 9, 64, 100, 1024])
def test_no_change_leaves_what_so_few_images_leave(images: int) -> None:
    """Then the score interval is Wilson's of no success, z^2 / (n + z^2), on either side: nine images leave 30 points."""
    low, high = tango(0, 0, images)
    assert (-low, high) == pytest.approx((wilson(0, images)[1],) * 2, rel=1e-9)


def test_tango_stays_within_what_can_be() -> None:
    assert tango(5, 0, 5)[0] == -1
    assert tango(0, 5, 5) == pytest.approx((1 - 0.86896, 1), abs=1e-4)
    for lost, won, images in ((-1, 0, 3), (2, 2, 3), (0, 0, 0)):
        with pytest.raises(ValueError, match=f"not {lost} and {won} of {images}"):
            tango(lost, won, images)


def test_with_many_images_it_is_the_normal_interval() -> None:
    """mean +- 1.96 sqrt((flips - drop^2) / n)."""
    reach = 1.96 * math.sqrt((0.2 - 0.04**2) / 100_000)
    assert tango(12_000, 8_000, 100_000) == pytest.approx((-0.04 - reach, -0.04 + reach), abs=1e-5)


@pytest.mark.parametrize("images", [9, 20, 64, 100])
@pytest.mark.parametrize(("lost", "won"), [(0.01, 0.0), (0.02, 0.01), (0.05, 0.05), (0.1, 0.02), (0.2, 0.1)])
def test_tango_covers(lost: float, won: float, images: int) -> None:
    """Over all outcomes of ``images`` pairs the interval holds the true difference in 94.5 of 100 cases or more.

    The bootstrap of images held it in 8.6 of 100 where one of a hundred images is lost and nine were looked at.
    """
    held = 0.0
    for b in range(images + 1):
        for c in range(images - b + 1 if won else 1):
            ways = math.comb(images, b) * math.comb(images - b, c)
            chance = ways * lost**b * won**c * (1 - lost - won) ** (images - b - c)
            if chance > 1e-6:
                low, high = tango(b, c, images)
                held += chance * (low <= won - lost <= high)
    assert held > 0.945


@pytest.mark.parametrize(
    ("points", "flips", "needed"),
    [
        # 1.96^2 (1 - d) / d: the images whose Wilson bound of no success is d.
        (1.0, 0.0, 381), (0.5, 0.0, 765), (30.0, 0.0, 9), (100, 0.0, 1),
    ],
)  # fmt: skip
def test_images_needed_where_nothing_changed(points: float, flips: float, needed: int) -> None:
    assert images_needed(points, flips) == needed
    assert wilson(0, needed)[1] <= points / 100 + 1e-9


@pytest.mark.parametrize(("points", "flips"), [(1.0, 0.05), (0.5, 0.012), (2.0, 0.3)])
def test_images_needed_are_those_whose_interval_just_reaches(points: float, flips: float) -> None:
    count = images_needed(points, flips)
    changed = round(flips * count / 2)
    assert tango(changed, changed, count)[1] == pytest.approx(points / 100, rel=0.02)
    assert count == pytest.approx(flips * (1.96 * 100 / points) ** 2, rel=0.2)  # McNemar's variance, for many


@pytest.mark.parametrize(
    ("points", "flips"), [(0, 0.1), (-1, 0.1), (101, 0.1), (math.nan, 0.1), (1, -0.1), (1, 1.1), (1, math.nan)]
)
def test_images_needed_of_impossible_figures(points: float, flips: float) -> None:
    with pytest.raises(ValueError, match="above 0 points"):
        images_needed(points, flips)


# --- two sets of images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "images", "other", "others", "p"),
    [
        # scipy 1.17.1: fisher_exact([[right, images - right], [other, others - other]]).pvalue
        (23, 64, 759, 1024, 9.87308569529624e-10),
        (3, 10, 9, 12, 0.0835573095635015),
        (0, 9, 700, 1000, 2.1831160958659554e-05),
        (12, 64, 20, 64, 0.15242218487470865),
        (50, 50, 50, 50, 1.0),
    ],
)
def test_fisher_against_scipy(right: int, images: int, other: int, others: int, p: float) -> None:
    assert fisher(right, images, other, others) == pytest.approx(p, rel=1e-6)
    assert fisher(other, others, right, images) == pytest.approx(p, rel=1e-6)


def test_fisher_of_nothing() -> None:
    for counts in ((1, 0, 1, 2), (3, 2, 1, 2), (-1, 2, 1, 2)):
        with pytest.raises(ValueError, match="needs counts of images"):
            fisher(*counts)


def test_balanced_accuracy_by_hand() -> None:
    """Nine of ten of one class and one of two of the other are right: 0.7. A class without images does not count."""
    targets = np.repeat([0, 2], (10, 2))
    predicted = np.array([0] * 9 + [1] + [2, 1])
    assert balanced_accuracy(predicted, targets) == pytest.approx(0.7)


def test_balanced_accuracy_is_sklearns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    targets = rng.choice(5, 400, p=[0.6, 0.3, 0.06, 0.03, 0.01])
    predicted = np.where(rng.random(400) < 0.7, targets, rng.integers(0, 5, 400))
    assert balanced_accuracy(predicted, targets) == pytest.approx(metrics.balanced_accuracy_score(targets, predicted), rel=1e-12)


# --- ratio of medians ----------------------------------------------------------------------------------------------------------


def turns(middle: float, seed: int, count: int = 20) -> list[list[float]]:
    """Turns of five times, each turn with a drift of its own."""
    rng = np.random.default_rng(seed)
    drift = np.random.default_rng(99).normal(0, 0.02, count)  # the same clock for both
    return (middle * (1 + drift[:, None] + rng.normal(0, 0.01, (count, 5)))).tolist()


def test_a_clear_ratio() -> None:
    low, high = median_ratio(turns(60, 1), turns(30, 2))
    assert 1.9 < low < 2.0 < high < 2.1


def test_a_ratio_inside_the_noise() -> None:
    low, high = median_ratio(turns(30, 1), turns(30, 2))
    assert low < 1 < high


def test_a_short_last_turn_is_left_out() -> None:
    slow, fast = turns(60, 1), turns(30, 2)
    assert median_ratio([*slow, [600.0]], [*fast, [1.0]]) == median_ratio(slow, fast)


@pytest.mark.parametrize("count", [MIN_TURNS, 12])
def test_the_ratio_covers_with_as_few_turns_as_are_trusted(count: int) -> None:
    """Turns that drift, single inferences that take half as long again: 93 of 100 intervals hold the true 2 or more."""
    rng, held = np.random.default_rng(count), 0
    for seed in range(400):
        drift = rng.normal(0, 0.02, count)[:, None]  # of the clock: both sessions have it
        times = [
            middle * (1 + drift + rng.normal(0, 0.015, (count, 1)) + abs(rng.normal(0, 0.01, (count, 5))))
            * np.where(rng.random((count, 5)) < 0.05, 1.5, 1)
            for middle in (2.0, 1.0)
        ]  # fmt: skip
        low, high = median_ratio(times[0].tolist(), times[1].tolist(), seed=seed)
        held += low <= 2 <= high
    assert held / 400 > 0.93


def test_ratio_needs_equal_turns() -> None:
    for slow, fast in (([[1.0]], []), ([], []), ([[1.0, 2.0]], [[1.0]])):
        with pytest.raises(ValueError, match="as many turns"):
            median_ratio(slow, fast)


# --- calibration ---------------------------------------------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    """Two bins: 0.9 twice, one of them right; 0.6 twice, both right. (2 |0.5 - 0.9| + 2 |1 - 0.6|) / 4."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    assert calibration_error(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.4)


def test_perfect_calibration() -> None:
    """Eight of ten are right at 0.8; certain and right costs nothing, certain and wrong costs all."""
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert calibration_error(probabilities, np.repeat([0, 1], (8, 2))) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.eye(3), np.arange(3)) == 0
    assert calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


def test_stratified_difference_against_every_flip() -> None:
    """All 2^8 ways in which eight changed images of two classes could have changed; alone, a class is McNemar's."""
    differences = np.array([1, 1, 1, -1, 1, 0, 0, 0, 0, 0, 1, 1, -1, 0], float)
    targets = np.array([0] * 10 + [1] * 4)
    weights = np.where(targets == 0, 1 / 20, 1 / 8)
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))
    own = (differences * weights)[differences != 0]
    exact = (np.abs(signs @ own) >= abs(own.sum()) - 1e-12).mean()
    (low, high), p = stratified_difference(differences, targets)
    assert p == pytest.approx(exact, abs=0.02)
    assert low <= own.sum() <= high
    alone = np.array([1.0] * 9 + [-1.0] + [0.0] * 20)
    assert stratified_difference(alone, np.zeros(30, int))[1] == pytest.approx(mcnemar(1, 9), abs=0.006)
    assert stratified_difference(np.zeros(5), np.zeros(5, int)) == ((0.0, 0.0), 1.0)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    """Every pair looked at; ties count half."""
    rng = np.random.default_rng(0)
    usual, unusual = rng.normal(size=40).round(1), (rng.normal(size=25) + 1).round(1)
    pairs = [1.0 if high > low else 0.5 if high == low else 0.0 for high in unusual for low in usual]
    assert auroc(usual, unusual) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert auroc(np.zeros(3), np.zeros(4)) == 0.5
    with pytest.raises(ValueError, match="scores of both kinds"):
        auroc(np.zeros(0), np.ones(2))
