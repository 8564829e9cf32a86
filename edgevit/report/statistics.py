"""Whether a difference is real: intervals and tests for two models that saw the same images. Pure functions.

Sources: Wilson 1927, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22:209-212;
McNemar 1947, Psychometrika 12:153-157, in its exact form; Efron and Tibshirani 1993, "An Introduction to the Bootstrap",
chapters 8 and 13; Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Interval = tuple[float, float]

Z95 = 1.959963984540054
"""Standard deviations on either side that hold 95 % of a normal distribution."""
RESAMPLES = 10_000
BINS = 15  # of the calibration error, as in its source


def wilson(successes: int, trials: int) -> Interval:
    """The 95 % Wilson score interval of a share, within 0..1; sound for few trials and shares near 0 or 1.

    Raises ValueError unless 0 <= successes <= trials and trials > 0.
    """
    if not 0 <= successes <= trials or not trials:
        msg = f"needs 0 <= successes <= trials and a trial, not {successes} of {trials}"
        raise ValueError(msg)
    share, z2 = successes / trials, Z95**2
    centre = share + z2 / (2 * trials)
    reach = Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    # At 0 and at all trials the bound is exact; rounding would leave 1e-17 of it.
    low = 0.0 if successes == 0 else (centre - reach) / (1 + z2 / trials)
    high = 1.0 if successes == trials else (centre + reach) / (1 + z2 / trials)
    return low, high


def mcnemar(lost: int, won: int) -> float:
    """Two-sided p-value of McNemar's exact test: could ``lost`` against ``won`` be a fair coin's doing?

    ``lost`` images were right before and are wrong now, ``won`` the reverse; all others tell nothing about a difference.
    The binomial test with probability 1/2, computed in whole numbers. 1 if nothing changed.
    """
    if min(lost, won) < 0:
        msg = f"needs counts of images, not {lost} and {won}"
        raise ValueError(msg)
    flips = lost + won
    tail = sum(math.comb(flips, k) for k in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**flips)


def paired_difference(before: NDArray[np.bool_], after: NDArray[np.bool_], *, seed: int = 0) -> Interval:
    """The 95 % bootstrap interval (percentiles) of mean(after) - mean(before), both bool [N], over the same images.

    An image adds -1, 0 or 1, so drawing N images with replacement is one multinomial draw of these three counts.
    """
    if before.shape != after.shape or not len(before):
        msg = f"needs two results per image, and an image; got {before.shape} and {after.shape}"
        raise ValueError(msg)
    images = len(before)
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    counts = np.random.default_rng(seed).multinomial(images, np.array([lost, won, images - lost - won]) / images, RESAMPLES)
    low, high = np.percentile((counts[:, 1] - counts[:, 0]) / images, (2.5, 97.5))
    return float(low), float(high)


def median_ratio(slow: Sequence[Sequence[float]], fast: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """The 95 % bootstrap interval of median(slow) / median(fast), two lists of turns measured alternately.

    Each turn is a few times of one session. Whole turns are drawn, the same ones of both sessions: times within a turn
    resemble one another, and a drifting clock hits neighbouring turns alike. Raises ValueError for unequal turns.
    """
    if len(slow) != len(fast) or not slow or any(len(a) != len(b) for a, b in zip(slow, fast, strict=True)):
        msg = "needs as many turns of one session as of the other, of the same length"
        raise ValueError(msg)
    whole = [i for i, turn in enumerate(slow) if len(turn) == len(slow[0])]  # the last turn may be shorter
    upper, lower = np.array([slow[i] for i in whole]), np.array([fast[i] for i in whole])
    drawn = np.random.default_rng(seed).integers(0, len(whole), (1_000, len(whole)))
    ratios = np.median(upper[drawn].reshape(len(drawn), -1), 1) / np.median(lower[drawn].reshape(len(drawn), -1), 1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def calibration_error(probabilities: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """Expected calibration error, 0..1: how far confidence is from accuracy, over `BINS` equal bins of confidence.

    ``probabilities`` [N, classes] sum to 1; ``targets`` [N] are true classes. Each bin (low, high] counts by its images.
    """
    confidence, right = probabilities.max(1).astype(float), probabilities.argmax(1) == targets
    places = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(places, weights=right, minlength=BINS) - np.bincount(places, weights=confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(targets))
