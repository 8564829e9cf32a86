"""As much as an accuracy budget allows: bisection over the share of the time that goes, each try measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgevit.errors import BudgetError, ConfigError
from edgevit.export.variants import fp32_variant
from edgevit.measure.evaluator import Budget
from edgevit.model.vit import Vit
from edgevit.pruning.make import Made
from edgevit.search.trade import Shape, Trade
from edgevit.vitconfig import VitConfig

STEP = 0.05  # of the share of the time, between two tries
MOST = 0.6
FIRST = 0.2  # where most models end


@dataclass(frozen=True, kw_only=True)
class Making:
    """How a shape becomes a model."""

    roughly: Callable[[Shape], Vit]
    """On few images and not recovered: for a try."""
    fully: Callable[[Shape], Made]


def most_within(trade: Trade, making: Making, budget: Budget) -> tuple[Shape, Made, dict[str, Any]]:
    """The fastest shape that loses at most the budget, what was made of it, and a report.

    It takes a faster one to lose no less. What the tries find is made in full and judged again; if that loses too much, as
    does the next slower one. Raises ConfigError if there is nothing to remove, BudgetError if the least costs too much.
    """
    search = _Search(trade, making, budget)
    shares = [round(STEP * step, 2) for step in range(1, int(MOST / STEP) + 1)]
    low, high = -1, len(shares)
    while high - low > 1:
        middle = (low + high) // 2 if low >= 0 or high < len(shares) else shares.index(FIRST)
        low, high = (middle, high) if search.fits(shares[middle]) else (low, middle)
    if shares[0] not in search.tries and low < 0:
        msg = f"--prune auto: not even {100 * shares[0]:g} % of this model's time can be saved. Build it without."
        raise ConfigError(msg)
    seen: list[VitConfig] = []
    for share in reversed(shares[: low + 1]):
        shape = search.shapes.get(share) or search.shape(share)
        if shape.config in seen:
            continue
        seen.append(shape.config)
        made = making.fully(shape)
        search.kept[share] = search.drop(made.model)
        if search.kept[share] <= budget.max_drop:
            return shape, made, search.report(search.kept[share])
    best, evaluator = min([*search.kept.values(), *search.tries.values()]), budget.evaluator
    msg = (
        f"--prune auto: not met. The least that was tried loses {best:.2f} points of {evaluator.metric} on "
        f"{len(evaluator.images)} images, and it may spend {budget.max_drop:g} of --max-drop. Raise that, pass more --data, "
        "merge less by hand, or build without."
    )
    raise BudgetError(msg)


class _Search:
    """What was tried, by share of the time that goes."""

    def __init__(self, trade: Trade, making: Making, budget: Budget) -> None:
        self._trade, self._making, self._budget = trade, making, budget
        self.shapes: dict[float, Shape] = {}
        self.tries: dict[float, float] = {}
        self.kept: dict[float, float] = {}

    def shape(self, share: float) -> Shape:
        """Raises ConfigError if so much cannot go."""
        return self._trade.least_harm(1 / (1 - share))

    def fits(self, share: float) -> bool:
        """Whether a try without ``share`` of the time keeps the budget."""
        try:
            self.shapes[share] = self.shape(share)
        except ConfigError:
            return False
        same = next((other for other in self.tries if self.shapes[other].config == self.shapes[share].config), None)
        self.tries[share] = self.tries[same] if same is not None else self.drop(self._making.roughly(self.shapes[share]))
        return self.tries[share] <= self._budget.max_drop

    def drop(self, model: Vit) -> float:
        """Points that ``model`` loses."""
        evaluator = self._budget.evaluator
        return evaluator.drop(fp32_variant(replace(self._trade.scored.checkpoint, model=model), evaluator.engine).model)

    def report(self, drop: float) -> dict[str, Any]:
        """JSON-ready."""
        budget = self._budget
        return {
            "max_drop": budget.max_drop, "metric": budget.evaluator.metric, "images": len(budget.evaluator.images), "drop": drop,
            "tries": _listed(self.tries), "kept": _listed(self.kept),
        }  # fmt: skip


def _listed(drops: Mapping[float, float]) -> list[dict[str, float]]:
    return [{"share": share, "drop": drop} for share, drop in drops.items()]
