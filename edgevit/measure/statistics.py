"""Whether a difference is real: intervals and tests for two models that saw the same images. Pure functions.

Sources: Wilson 1927, "Probable inference, the law of succession, and statistical inference", J. Am. Stat. Assoc. 22:209-212;
McNemar 1947, Psychometrika 12:153-157, in its exact form; Tango 1998, Statistics in Medicine 17:891-908; Fisher 1935,
J. R. Stat. Soc. 98:39-82; Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13; Brodersen et al.
2010, ICPR 3121-3124; Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
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
RESAMPLES = 1_000
FLIPS = 9_999  # of signs; with the signs as they are ten thousand
HALVINGS = 50  # of the range of a bound: 1e-15 of it is left
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


def tango(lost: int, won: int, images: int) -> Interval:
    """The 95 % score interval of (won - lost) / images, within -1..1: what ``images`` pairs leave possible.

    ``lost`` images were right before and are wrong now, ``won`` the reverse. The interval holds every difference that Tango's
    score test does not reject; for a difference of 0 that test is McNemar's. It keeps its width where nothing changed
    (nine images without a change: -0.30 to +0.30), which resampling the images does not.

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17:891-908. Raises ValueError unless ``lost`` and ``won`` are counts of ``images``.
    """
    if min(lost, won) < 0 or lost + won > images or not images:
        msg = f"needs counts of images, and an image, not {lost} and {won} of {images}"
        raise ValueError(msg)

    def rejected(difference: float) -> bool:
        spread = math.sqrt(images * _variance(lost / images, won / images, difference))
        return abs(won - lost - images * difference) > Z95 * spread

    def bound(outside: float) -> float:
        inside = (won - lost) / images
        if not rejected(outside):
            return outside
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
        return inside

    return bound(-1.0), bound(1.0)


def images_needed(points: float, flips: float) -> int:
    """Images on which `tango`'s interval, where as many are won as lost, just reaches ``points`` percentage points each way.

    So many tell a loss of ``points`` from none. ``flips`` is the share of images, 0 to 1, whose result differs between the two
    models; with none at all it still takes 1.96^2 (1 - d) / d images to rule out a loss of the share d.

    Raises ValueError for points that are not above 0 and at most 100, or a share outside 0 to 1.
    """
    if not (0 < points <= 100 and 0 <= flips <= 1):
        msg = f"needs a difference above 0 points, to 100, and a share of flips from 0 to 1, not {points} and {flips}"
        raise ValueError(msg)
    share = points / 100
    # Rounded first, so that 2500.0000000000005 is 2500.
    return max(1, math.ceil(round(Z95**2 * _variance(flips / 2, flips / 2, -share) / share**2, 6)))


def _variance(lost: float, won: float, difference: float) -> float:
    """Of one image's -1, 0 or 1 if the true difference is ``difference``: Tango's, at the likeliest share of losses.

    ``lost`` and ``won`` are the observed shares.
    """
    squared, product = difference * (1 - difference), -lost * difference * (1 - difference)
    linear = -lost - won + (2 - won + lost) * difference
    likeliest = (math.sqrt(max(0.0, linear**2 - 8 * product)) - linear) / 4
    return max(0.0, 2 * likeliest + squared)


def fisher(right: int, images: int, other_right: int, other_images: int) -> float:
    """Two-sided p-value of Fisher's exact test: do two independent sets of images have the same share of right answers?

    Sums the probabilities of all tables with the same margins that are no likelier than the observed one, in logarithms.
    Source: Fisher 1935, "The logic of inductive inference", J. R. Stat. Soc. 98:39-82. Raises ValueError for counts of nothing.
    """
    if not (0 <= right <= images and 0 <= other_right <= other_images and images and other_images):
        msg = f"needs counts of images, and images, not {right} of {images} and {other_right} of {other_images}"
        raise ValueError(msg)
    total = right + other_right
    first, last = max(0, total - other_images), min(images, total)
    weights = np.array([_choices(images, k) + _choices(other_images, total - k) for k in range(first, last + 1)])
    observed = weights[right - first]
    shares = np.exp(weights - weights.max())
    return float(min(1.0, shares[weights <= observed + 1e-7].sum() / shares.sum()))  # as in R: equal but for rounding


def _choices(whole: int, part: int) -> float:
    """The logarithm of ``whole`` over ``part``."""
    return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)


def balanced_accuracy(predicted: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    """The mean over the classes present of the share of their images that are right, 0..1; both arguments are classes [N].

    Every class counts the same, however many images it has.
    Source: Brodersen et al. 2010, "The balanced accuracy and its posterior distribution", ICPR 3121-3124.
    """
    return float(np.mean([(predicted[targets == label] == label).mean() for label in np.unique(targets)]))


def stratified_difference(
    differences: NDArray[np.float64], targets: NDArray[np.int64], *, seed: int = 0
) -> tuple[Interval, float]:
    """95 % interval and two-sided p-value of a difference in which every class counts the same, as in `balanced_accuracy`.

    ``differences`` [N] are of one image each: -1 right before and wrong now, 1 the reverse, else 0; ``targets`` [N] its class.
    The interval is the bootstrap's (percentiles), images drawn within their class: of few images that changed it is too narrow.
    p is that of the sign-flip test: without a difference, each image could as well have changed the other way.
    Source: Efron and Tibshirani 1993, chapters 8, 13 and 15.
    """
    random, classes = np.random.default_rng(seed), np.unique(targets)
    drawn, weights = np.zeros(RESAMPLES), np.zeros(len(targets))
    for label in classes:
        own = differences[targets == label]
        drawn += own[random.integers(0, len(own), (RESAMPLES, len(own)))].mean(1) / len(classes)
        weights[targets == label] = 1 / (len(own) * len(classes))
    low, high = np.percentile(drawn, (2.5, 97.5))
    changed = (differences * weights)[differences != 0]
    flipped = np.abs(random.choice((-1.0, 1.0), (FLIPS, len(changed))) @ changed)
    beyond = int((flipped >= abs(changed.sum()) - 1e-12).sum())  # equal but for rounding
    return (float(low), float(high)), (1 + beyond) / (1 + FLIPS)


def auroc(usual: NDArray[np.floating], unusual: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a score of ``unusual`` [M] is above one of ``usual`` [N]; equal ones count half.

    As the U statistic of Mann and Whitney 1947, Ann. Math. Stat. 18:50-60. Raises ValueError where one has no score.
    """
    if not usual.size or not unusual.size:
        msg = "needs scores of both kinds"
        raise ValueError(msg)
    ordered = np.sort(usual)
    below, not_above = (np.searchsorted(ordered, unusual, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * usual.size))


def median_ratio(slow: Sequence[Sequence[float]], fast: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """The 95 % bootstrap interval of median(slow) / median(fast), two lists of turns measured alternately.

    Each turn is a few times of one session. Whole turns are drawn, the same ones of both sessions: times within a turn
    resemble one another, and a drifting clock hits neighbouring turns alike. From six turns on about 95 of 100 intervals hold
    the true ratio; of four turns, 88. Raises ValueError for unequal turns.
    """
    if len(slow) != len(fast) or not slow or any(len(a) != len(b) for a, b in zip(slow, fast, strict=True)):
        msg = "needs as many turns of one session as of the other, of the same length"
        raise ValueError(msg)
    whole = [i for i, turn in enumerate(slow) if len(turn) == len(slow[0])]  # the last turn may be shorter
    upper, lower = np.array([slow[i] for i in whole]), np.array([fast[i] for i in whole])
    drawn = np.random.default_rng(seed).integers(0, len(whole), (RESAMPLES, len(whole)))
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
