"""What a change of precision did, from logits alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgevit.measure.accuracy import measure_accuracy, sqnr_db

REFERENCE = np.array([[3, 1, 0], [0, 2, 1], [1, 0, 4], [5, 4, 0]], np.float32)


def test_equal_logits() -> None:
    """Full agreement, and no noise to put a number on: None, since infinity is no JSON."""
    result = measure_accuracy(REFERENCE.copy(), REFERENCE, np.array([0, 1, 2, 1]))
    assert (result.images, result.top1, result.agreement, result.sqnr_db) == (4, 0.75, 1.0, None)


def test_one_of_four_winners_changes() -> None:
    logits = REFERENCE.copy()
    logits[3] = (4, 5, 0)
    result = measure_accuracy(logits, REFERENCE, np.array([0, 1, 2, 1]))
    assert (result.top1, result.agreement) == (1.0, 0.75)  # a change may be for the better
    assert result.sqnr_db == pytest.approx(10 * math.log10(float((REFERENCE**2).sum()) / 2))


def test_without_labels_there_is_no_accuracy() -> None:
    assert measure_accuracy(REFERENCE, REFERENCE, None).top1 is None


def test_sqnr_is_10_log10_of_powers() -> None:
    """A tenth of the amplitude is 20 dB; more noise than signal is negative."""
    assert sqnr_db(REFERENCE, REFERENCE * np.float32(1.1)) == pytest.approx(20, abs=1e-4)
    assert sqnr_db(REFERENCE, -REFERENCE) == pytest.approx(-6.0206, abs=1e-4)


def test_sqnr_sums_in_double_precision() -> None:
    """A small difference of large logits is not lost in float32 sums."""
    reference = np.full((10000, 10), 1000, np.float32)
    assert sqnr_db(reference, reference + np.float32(0.125)) == pytest.approx(20 * math.log10(8000), abs=1e-6)


def test_dead_reference() -> None:
    """A reference of zeros has no signal: no number, and no math error."""
    zeros = np.zeros((2, 3), np.float32)
    assert sqnr_db(zeros, zeros) is None
    assert sqnr_db(zeros, zeros + 1) in (None, -math.inf)
