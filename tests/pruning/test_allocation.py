"""Whose units go: the least harm for what is saved."""

from __future__ import annotations

from itertools import product

import pytest

from edgevit.pruning.allocation import Choice, allocate


def choices(*pairs: tuple[float, float]) -> list[Choice]:
    """(seconds, harm) of each size, the whole sublayer first."""
    return [Choice(seconds=seconds, macs=int(seconds), harm=harm) for seconds, harm in pairs]


def seconds(chosen: list[Choice]) -> float:
    return sum(choice.seconds for choice in chosen)


def test_the_cheapest_harm_goes_first() -> None:
    offered = [choices((10, 0), (8, 1), (6, 2)), choices((10, 0), (5, 1), (0, 100))]
    assert allocate(offered, lambda chosen: seconds(chosen) <= 15) == [0, 1]
    assert allocate(offered, lambda chosen: seconds(chosen) <= 11) == [2, 1]
    assert allocate(offered, lambda chosen: seconds(chosen) <= 20) == [0, 0]


def test_what_cannot_be_saved_is_told() -> None:
    assert allocate([choices((10, 0), (4, 1))], lambda chosen: seconds(chosen) < 4) is None


def test_a_step_that_proves_needless_is_taken_back() -> None:
    """The large step alone saves enough; the small one before it did harm for nothing."""
    offered = [choices((10, 0), (9, 0.1)), choices((10, 0), (2, 2))]
    assert allocate(offered, lambda chosen: seconds(chosen) <= 12) == [0, 1]


def test_a_size_that_takes_longer_than_the_whole_is_never_chosen() -> None:
    """Layer times are measured: a narrower layer may be slower."""
    assert allocate([choices((10, 0), (11, 0.0), (5, 1))], lambda chosen: seconds(chosen) <= 6) == [2]


@pytest.mark.parametrize("budget", range(4, 30, 3))
def test_close_to_the_best_of_all(budget: int) -> None:
    """Against every combination: a relaxation may lose a little where steps are coarse, never the bound."""
    offered = [choices((10, 0), (8, 0.5), (5, 1.7), (1, 6)), choices((9, 0), (6, 0.2), (3, 2), (2, 7)), choices((10, 0), (4, 3))]
    chosen = allocate(offered, lambda picked: seconds(picked) <= budget)
    best = min((sum(c.harm for c in picked) for picked in product(*offered) if seconds(list(picked)) <= budget), default=None)
    if best is None:
        assert chosen is None
        return
    assert chosen is not None
    picked = [sublayer[number] for sublayer, number in zip(offered, chosen, strict=True)]
    assert seconds(picked) <= budget
    assert sum(choice.harm for choice in picked) <= best + 2.5
