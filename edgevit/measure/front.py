"""Which of many models are worth choosing from: those that no other beats in both of two things. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence


def pareto(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Positions of the Pareto front, by rising cost: no other costs less or as much and gains more, or costs less for as much.

    Of equals in both the first is on it. Raises ValueError for lists of different lengths.
    """
    if len(costs) != len(gains):
        msg = f"needs as many gains as costs, not {len(gains)} and {len(costs)}"
        raise ValueError(msg)
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i], i)):
        if not front or gains[i] > gains[front[-1]]:
            front.append(i)
    return front
