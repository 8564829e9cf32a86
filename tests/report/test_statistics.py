"""Intervals and tests against worked values, other implementations and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgevit.report.statistics import calibration_error, mcnemar, median_ratio, paired_difference, wilson

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


# --- bootstrap of the difference -----------------------------------------------------------------------------------------------


def flips(lost: int, won: int, right: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.repeat([True, False, True, False], (lost, won, right, wrong))
    return before, np.repeat([False, True, True, False], (lost, won, right, wrong))


def test_difference_is_near_the_normal_interval() -> None:
    """With many flips the percentile interval is the normal one: mean +- 1.96 sqrt((flips - drop^2) / n)."""
    low, high = paired_difference(*flips(120, 80, 500, 300))
    reach = 1.96 * math.sqrt((0.2 - 0.04**2) / 1000)
    assert (low, high) == pytest.approx((-0.04 - reach, -0.04 + reach), abs=1.5e-3)


def test_difference_resamples_images() -> None:
    """The multinomial draw is the plain bootstrap over images."""
    before, after = flips(9, 4, 60, 27)
    change = after.astype(int) - before
    rng = np.random.default_rng(1)
    plain = np.percentile(change[rng.integers(0, 100, (10_000, 100))].mean(1), (2.5, 97.5))
    assert paired_difference(before, after) == pytest.approx(plain, abs=0.011)


def test_no_flip_is_no_difference() -> None:
    assert paired_difference(*flips(0, 0, 3, 2)) == (0.0, 0.0)


def test_difference_repeats() -> None:
    before, after = flips(9, 4, 60, 27)
    assert paired_difference(before, after) == paired_difference(before, after)
    assert paired_difference(before, after, seed=1)[0] < 0


def test_difference_covers() -> None:
    """About 95 of 100 samples' intervals hold the true difference of -5 points."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(300):
        kinds = rng.choice(4, 400, p=[0.10, 0.05, 0.6, 0.25])
        low, high = paired_difference(np.isin(kinds, (0, 2)), np.isin(kinds, (1, 2)), seed=seed)
        held += low <= -0.05 <= high
    assert 0.91 <= held / 300 <= 0.985


@pytest.mark.parametrize(("before", "after"), [(3, 4), (0, 0)])
def test_difference_needs_pairs(before: int, after: int) -> None:
    with pytest.raises(ValueError, match="two results per image"):
        paired_difference(np.ones(before, bool), np.ones(after, bool))


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
