"""Logits to labels."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.errors import EngineError
from edgevit.runtime.classify import softmax, top_k


def test_softmax_is_exact_and_does_not_overflow() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]], np.float32)
    probabilities = softmax(logits)
    np.testing.assert_allclose(probabilities, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)
    assert probabilities.dtype == np.float32


def test_top_k_is_sorted_and_capped() -> None:
    logits = np.array([0.0, 2.0, 1.0, 2.0], np.float32)
    best = top_k(logits, "abcd", 9)
    assert [each.label for each in best] == ["b", "d", "c", "a"]
    assert [each.index for each in best] == [1, 3, 2, 0]
    assert sum(each.confidence for each in best) == pytest.approx(1)
    assert top_k(logits, "abcd", 2) == best[:2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_is_an_engine_error(bad: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        top_k(np.array([0.0, bad], np.float32), "ab", 1)


def test_labels_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(3,\) logits, one per label, got \(2,\)"):
        top_k(np.zeros(2, np.float32), "abc", 1)
