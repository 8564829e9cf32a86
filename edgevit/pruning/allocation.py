"""How much of which sublayer goes: the least harm for what is saved, over all sublayers of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Choices = Sequence["Choice"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One size of one sublayer."""

    seconds: float
    """What the sublayer takes; any unit that is the same everywhere."""
    macs: int
    """Multiply-accumulates of one image."""
    harm: float
    """Done to the logits; any unit that is the same everywhere, 0 for the whole sublayer."""


def allocate(offered: Sequence[Choices], enough: Callable[[Sequence[Choice]], bool]) -> list[int] | None:
    """A choice per sublayer, by number, so that ``enough`` is saved at the least harm per saved second; None if none saves it.

    Every sublayer starts at its first choice, which leaves it whole. The steps of all along the lower convex hull of harm
    over seconds are taken in the order of their slopes (the Lagrangian relaxation of the multiple-choice knapsack); then those
    that turn out not to be needed are taken back, the most harmful first.
    """
    steps = sorted(
        (_slope(choices[start], choices[end]), place, end)
        for place, choices in enumerate(offered)
        for start, end in _steps(choices)
    )
    chosen = [0] * len(offered)

    def is_enough() -> bool:
        return enough([choices[number] for choices, number in zip(offered, chosen, strict=True)])

    for _, place, end in steps:
        if is_enough():
            break
        chosen[place] = end
    if not is_enough():
        return None
    for place in sorted(range(len(offered)), key=lambda place: -offered[place][chosen[place]].harm):
        for number in sorted(_gentler(offered[place], chosen[place]), key=lambda number: offered[place][number].harm):
            before, chosen[place] = chosen[place], number
            if is_enough():
                break
            chosen[place] = before
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
