"""Steps one after the other, within one budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.commands.steps import Merge, Prune, Step, Work, run_step, run_steps, shares_of, steps_of
from edgevit.errors import BudgetError
from edgevit.measure.evaluator import Budget
from edgevit.target import load_target
from edgevit.workbench import Workbench


@dataclass
class Spender:
    """Takes note of the budget that it may spend; ``needs`` so many points of it."""

    name: str
    spends: bool = True
    needs: float = 0.0
    given: list[float | None] = field(default_factory=list)
    leaves = None
    images = 0

    def check(self, checkpoint: Any, images: Any) -> None:
        pass

    def run(self, work: Work) -> Work:
        self.given.append(work.budget and work.budget.max_drop)
        if work.budget is not None and work.budget.max_drop < self.needs:
            raise BudgetError
        return replace(work, notes=(*work.notes, self.name))

    def stages(self, work: Work, dry: Any, *, kept: bool) -> Any:
        return iter(())


def work(points: float | None) -> Work:
    budget = None if points is None else Budget(evaluator=None, max_drop=points)  # type: ignore[arg-type]
    nothing: Any = None
    return Work(
        bench=Workbench(), checkpoint=nothing, original=nothing, precision="int8", bounded=budget is not None, budget=budget
    )


def test_in_order_and_the_budget_is_whole_again() -> None:
    first, last = Spender("first"), Spender("last")
    done = run_steps([first, last], work(4.0))
    assert done.notes == ("first", "last")
    assert (first.given, last.given) == ([2.0], [4.0])
    assert done.budget is not None
    assert done.budget.max_drop == 4.0


def test_the_first_has_to_do_with_less_if_the_last_finds_nothing() -> None:
    """Whether that helps is the last one's to say: it is held against the model as it came."""

    class Last(Spender):
        def run(self, work: Work) -> Work:
            self.needs = 9.0 if len(first.given) == 1 else 0.0
            return super().run(work)

    first, last = Spender("first"), Last("last")
    assert run_steps([first, last], work(4.0)).notes == ("first", "last")
    assert first.given == [2.0, 1.0]
    with pytest.raises(BudgetError):
        run_steps([Spender("first"), Spender("last", needs=9.0)], work(4.0))


@pytest.mark.parametrize(
    ("steps", "shares"),
    [([Spender("a"), Spender("b")], (0.5, 0.25)), ([Spender("a", spends=False), Spender("b")], (1.0,)),
     ([Spender("a"), Spender("b", spends=False)], (1.0,)), ([Spender("a")], (1.0,)), ([], (1.0,))],
)  # fmt: skip
def test_shares(steps: list[Step], shares: tuple[float, ...]) -> None:
    assert shares_of(steps) == shares


def test_what_a_step_answers_for_is_not_measured_again() -> None:
    """Its evaluator is none that could be asked."""
    steps = [Spender("a", spends=False), Spender("b"), Spender("c", spends=False)]
    assert run_steps(steps, work(4.0)).notes == ("a", "b", "c")


def test_without_a_budget_nothing_is_shared() -> None:
    step = Spender("a")
    assert run_step(step, work(None), 0.5).budget is None
    assert step.given == [None]


def test_steps_of_a_precision_are_in_the_order_they_run_in() -> None:
    target = load_target("jetson")
    prune, merge = steps_of({"merge": 0.35, "prune": 0.2}, target)
    assert isinstance(prune, Prune)
    assert (prune.settings.share, prune.settings.multiple) == (0.2, target.multiple)
    assert isinstance(merge, Merge)
    assert merge.settings.share == 0.35
    assert steps_of({}, target) == ()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("lost", "kept"), [(3.9, True), (4.1, False)])
def test_what_no_step_answers_for_is_measured(lost: float, kept: bool, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last step leaves the budget alone, the model in the end is held against it."""

    class Evaluator:
        engine, metric, images = "onnxruntime", "top-1", range(50)

        def drop(self, _model: bytes) -> float:
            return lost

    class Changing(Spender):
        leaves = "fp32-smaller"

    monkeypatch.setattr("edgevit.commands.steps.base.fp32_variant", lambda *_: SimpleNamespace(model=b""))
    begun = replace(work(4.0), budget=Budget(evaluator=Evaluator(), max_drop=4.0))  # type: ignore[arg-type]
    steps = [Spender("a"), Changing("b", spends=False), Spender("c", spends=last)]
    if kept:
        assert run_steps(steps, begun).notes == ("a", "b", "c")
    else:  # and a last step that goes as far as it may is not blamed for it
        with pytest.raises(BudgetError, match=r"fp32-smaller in FP32 loses 4\.10 points of top-1 on 50 images"):
            run_steps(steps, begun)
