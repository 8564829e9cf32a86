"""Intervals and tests against statsmodels, scipy and scikit-learn; what they lack, against the likelihood itself."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.measure.statistics import Z95, auroc, balanced_accuracy, fisher, mcnemar, tango, wilson

tables = pytest.importorskip("statsmodels.stats.contingency_tables")
proportion = pytest.importorskip("statsmodels.stats.proportion")
optimize = pytest.importorskip("scipy.optimize")
stats = pytest.importorskip("scipy.stats")

PAIRS = [(0, 0, 9), (1, 0, 9), (0, 6, 64), (7, 1, 21), (16, 6, 161), (3, 11, 200), (30, 28, 1024), (180, 121, 1024)]


@pytest.mark.parametrize(("successes", "trials"), [(0, 9), (9, 9), (5, 9), (60, 64), (64, 64), (759, 1024)])
def test_wilson(successes: int, trials: int) -> None:
    assert wilson(successes, trials) == pytest.approx(
        proportion.proportion_confint(successes, trials, method="wilson"), abs=1e-12
    )


@pytest.mark.parametrize(("lost", "won", "images"), PAIRS)
def test_mcnemar(lost: int, won: int, images: int) -> None:
    result = tables.mcnemar([[images - lost - won, lost], [won, 0]], exact=True)
    assert mcnemar(lost, won) == pytest.approx(result.pvalue, rel=1e-9)


def test_tango_excludes_no_difference_where_mcnemars_score_test_rejects_it() -> None:
    """Statsmodels has no interval for pairs; its test without correction is the one that Tango's interval inverts at 0."""
    for lost in range(30):
        for won in range(30):
            if lost + won:
                p = tables.mcnemar([[100, lost], [won, 50]], exact=False, correction=False).pvalue
                low, high = tango(lost, won, 150 + lost + won)
                assert (p < 0.05) == (not low <= 0 <= high), (lost, won)


@pytest.mark.parametrize(("lost", "won", "images"), PAIRS)
def test_tango_by_the_likelihood(lost: int, won: int, images: int) -> None:
    """The bounds with the share of losses under each difference found by maximising the likelihood, not by a formula."""

    def score(difference: float) -> float:
        def unlikely(share: float) -> float:
            cells = np.array([share, share + difference, 1 - 2 * share - difference])
            counts = np.array([lost, won, images - lost - won])
            return -float((counts[counts > 0] * np.log(np.maximum(cells[counts > 0], 1e-300))).sum())

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return float((won - lost - images * difference) / np.sqrt(images * (2 * share + difference - difference**2)))

    low, high = tango(lost, won, images)
    for bound, wanted in ((low, Z95), (high, -Z95)):
        assert score(bound) == pytest.approx(wanted, abs=2e-3)


def test_fisher() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        images, others = (int(count) for count in rng.integers(1, 400, 2))
        right, other = int(rng.integers(0, images + 1)), int(rng.integers(0, others + 1))
        expected = stats.fisher_exact([[right, images - right], [other, others - other]]).pvalue
        assert fisher(right, images, other, others) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_auroc() -> None:
    """With many equal scores, too."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    for digits in (1, 8):
        usual, unusual = rng.normal(size=300).round(digits), (rng.normal(size=70) + 0.8).round(digits)
        truth = np.repeat([0, 1], (300, 70))
        assert auroc(usual, unusual) == pytest.approx(metrics.roc_auc_score(truth, np.concatenate([usual, unusual])), rel=1e-12)


def test_balanced_accuracy() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    targets = rng.choice(8, 1024, p=[0.35, 0.24, 0.15, 0.13, 0.06, 0.05, 0.015, 0.005])
    predicted = np.where(rng.random(1024) < 0.74, targets, rng.integers(0, 8, 1024))
    expected = metrics.balanced_accuracy_score(targets, predicted)
    assert balanced_accuracy(predicted, targets) == pytest.approx(expected, rel=1e-12)
