"""Percentiles are within the stated 1 %, and rates count intervals."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.runtime.latency import GROWTH, MIN_MS, Histogram, Rate, rate


@pytest.mark.parametrize("spread", [0.01, 0.5, 3.0])
def test_percentiles_are_within_one_percent(spread: float) -> None:
    samples = np.random.default_rng(0).lognormal(3, spread, 2001)
    histogram = Histogram()
    for sample in samples:
        histogram.add(float(sample))
    at = histogram.percentiles()
    want = np.percentile(samples, [50, 90, 99], method="inverted_cdf")
    assert GROWTH**0.5 < 1.01
    np.testing.assert_allclose([at.p50, at.p90, at.p99], want, rtol=0.01)


def test_one_sample_is_every_percentile() -> None:
    histogram = Histogram()
    histogram.add(40)
    at = histogram.percentiles()
    assert at.p50 == at.p90 == at.p99 == pytest.approx(40, rel=0.01)


def test_times_too_short_to_measure_count_as_the_shortest() -> None:
    histogram = Histogram()
    for milliseconds in (0.0, -1e-9, 1e-12):
        histogram.add(milliseconds)
    assert histogram.samples == 3
    assert histogram.percentiles().p99 == pytest.approx(MIN_MS, rel=0.01)


def test_no_samples_have_no_percentiles() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Histogram().percentiles()


def test_memory_does_not_grow_with_samples() -> None:
    histogram = Histogram()
    for sample in np.geomspace(MIN_MS, 86_400_000, 20_000):
        histogram.add(float(sample))
    assert len(histogram._bins) < 1300


def test_rate_counts_intervals_of_the_latest_events() -> None:
    meter = Rate(window=5)
    assert meter.per_second is None
    meter.add(0.0)
    assert meter.per_second is None
    for stamp in (100.0, 100.1, 100.2, 100.3, 100.4):
        meter.add(stamp)
    assert meter.per_second == pytest.approx(10)


def test_rate_of_events_at_one_instant_is_unknown() -> None:
    assert rate(5, 0.0) is None
