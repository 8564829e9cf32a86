"""Sizes that a sublayer may be cut to, the order in which units go, and harms between those that were measured."""

from __future__ import annotations

import pytest
import torch

from edgevit.pruning.candidates import Logits, _interpolated, _levels, sizes, unit_order
from edgevit.pruning.moments import Moments
from edgevit.pruning.sublayers import Cut


@pytest.mark.parametrize(
    ("whole", "multiple", "wanted"),
    [(6, 1, (6, 5, 4, 3, 2, 1)), (48, 32, (48, 32)), (64, 32, (64, 32)), (100, 32, (100, 96, 64, 32)), (1, 1, (1,)),
     (20, 32, (20,))],
)  # fmt: skip
def test_sizes_are_multiples_and_the_whole(whole: int, multiple: int, wanted: tuple[int, ...]) -> None:
    assert sizes(whole, multiple) == wanted


def cuts(*lengths: int) -> list[Cut]:
    return [Cut.part(torch.arange(length)) for length in lengths]


def test_errors_between_measured_sizes_lie_on_a_line() -> None:
    assert _interpolated(cuts(8, 7, 6, 4, 2), {8: 0.0, 4: 4.0, 2: 10.0}) == [0.0, 1.0, 2.0, 4.0, 10.0]
    assert _interpolated(cuts(5), {5: 0.25}) == [0.25]


def test_both_ends_are_measured() -> None:
    offered = cuts(*range(40, 0, -1))
    measured = _levels(offered)
    assert (measured[0], measured[-1], len(measured)) == (offered[0], offered[-1], 7)
    assert [len(cut.kept) for cut in _levels(cuts(3, 2, 1))] == [3, 2, 1]


def test_the_unit_that_matters_least_goes_first() -> None:
    """Uncorrelated inputs of variance 1, 4, 9, 16 and equal weights; in units of two, the quiet pair."""
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [-1.0, 2.0, -3.0, 4.0], [1.0, -2.0, -3.0, 4.0], [-1.0, -2.0, 3.0, 4.0],
                       [1.0, 2.0, 3.0, -4.0], [-1.0, 2.0, -3.0, -4.0], [1.0, -2.0, -3.0, -4.0],
                       [-1.0, -2.0, 3.0, -4.0]]])  # fmt: skip
    moments, weight = Moments.none(4).add(x), torch.eye(4, dtype=torch.float64)
    for score in ("obs", "wifv", "variance"):
        assert unit_order(1, weight, moments, score, None).tolist() == [0, 1, 2, 3], score
        assert unit_order(2, weight, moments, score, None).tolist() == [0, 1], score
    loud = torch.diag(torch.tensor([9.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    assert unit_order(1, loud, moments, "wifv", None).tolist() == [1, 2, 3, 0]
    assert unit_order(1, loud, moments, "variance", None).tolist() == [0, 1, 2, 3]


def test_harm_is_in_units_of_the_logits_own_variance() -> None:
    """Logits of variance 4 that all move by 1."""
    wanted = Logits(batches=(torch.tensor([[2.0, -2.0]]), torch.tensor([[-2.0, 2.0]])))
    assert wanted.variance == 4
    assert wanted.harm([batch + 1 for batch in wanted.batches]) == pytest.approx(0.25)
    assert wanted.harm(wanted.batches) == 0
