"""How much of which half goes: the least harm for what is saved, over all halves of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Choices = Sequence["Choice"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One size of one half."""

    seconds: float
    """What the half takes; any unit that is the same everywhere."""
    macs: int
    """Multiply-accumulates of one image."""
    harm: float
    """Done to the logits; any unit that is the same everywhere, 0 for the whole half."""


def allocate(halves: Sequence[Choices], enough: Callable[[Sequence[Choice]], bool]) -> list[int] | None:
    """A choice per half, by number, with which ``enough`` is saved, at the least harm per saved second; None if none saves it.

    Every half starts at its first choice, which leaves it whole. The steps of all halves along the lower convex hull of harm
    over seconds are taken in the order of their slopes (the Lagrangian relaxation of the multiple-choice knapsack); then those
    that turn out not to be needed are taken back, the most harmful first.
    """
    steps = sorted(
        (_slope(choices[start], choices[end]), half, end) for half, choices in enumerate(halves) for start, end in _steps(choices)
    )
    chosen = [0] * len(halves)

    def is_enough() -> bool:
        return enough([choices[number] for choices, number in zip(halves, chosen, strict=True)])

    for _, half, end in steps:
        if is_enough():
            break
        chosen[half] = end
    if not is_enough():
        return None
    for half in sorted(range(len(halves)), key=lambda half: -halves[half][chosen[half]].harm):
        for number in sorted(_gentler(halves[half], chosen[half]), key=lambda number: halves[half][number].harm):
            before, chosen[half] = chosen[half], number
            if is_enough():
                break
            chosen[half] = before
    return chosen


def _gentler(choices: Choices, chosen: int) -> list[int]:
    """Choices that do less harm than the one chosen."""
    return [number for number, choice in enumerate(choices) if choice.harm < choices[chosen].harm]


def _steps(choices: Choices) -> list[tuple[int, int]]:
    """Pairs of choices along the lower convex hull of harm over what is saved, from the first on."""
    useful = [number for number in range(1, len(choices)) if choices[number].seconds < choices[0].seconds]
    hull = [0]
    for number in sorted(useful, key=lambda number: (-choices[number].seconds, choices[number].harm)):
        if choices[number].seconds == choices[hull[-1]].seconds:
            continue
        while len(hull) > 1 and _slope(choices[hull[-2]], choices[hull[-1]]) >= _slope(choices[hull[-1]], choices[number]):
            hull.pop()
        hull.append(number)
    return list(pairwise(hull))


def _slope(start: Choice, end: Choice) -> float:
    return (end.harm - start.harm) / (start.seconds - end.seconds)
