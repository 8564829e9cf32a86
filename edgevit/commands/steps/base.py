"""What every step of making a model smaller has in common, and how they are run one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from edgevit.errors import BudgetError
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import ImageSet
from edgevit.measure.evaluator import Budget
from edgevit.model.checkpoint import Checkpoint
from edgevit.pruning.smaller import Smaller
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.commands.dry_run import DryRun, PlannedStage
    from edgevit.quantize.decide import PrecisionDecision

SHOWN = {
    "pruning": ("share", "speedup", "measured", "cost", "settings"),
    "merging": ("merges", "tokens_before", "tokens", "share"),
}
"""Of the reports, what a manifest keeps."""
SHARES = (0.5, 0.25)
"""Of a budget, what the steps before the last may spend: the second if the first leaves the last too little."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A model on its way from a checkpoint to what every GEMM of it computes in."""

    bench: Workbench
    checkpoint: Checkpoint
    original: Checkpoint
    """As it came: what every step is held against."""
    precision: str
    """That the model will have in the end: fp32, fp16 or int8."""
    calibration: ImageSet | None = None
    """What ranges are taken from."""
    fitting: ImageSet | None = None
    """What closed-form fits are made on; the calibration images are among them."""
    bounded: bool = False
    """Whether an accuracy budget was asked for."""
    budget: Budget | None = None
    """That; None in a dry run, too, whose evaluator would have to measure first."""
    between: tuple[tuple[str, Checkpoint], ...] = ()
    """Models in FP32 behind the steps that changed one, by name: what such a step costs by itself."""
    decided: PrecisionDecision | None = None
    """Set by the last step."""
    notes: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)
    """For a bundle's report.json, by step."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """For its manifest, by step."""

    def smaller(self, name: str, done: Smaller, reports: Mapping[str, Mapping[str, Any]]) -> Work:
        """The same after what was ``done``, whose model is called ``name``; of ``reports``, by step, a manifest keeps `SHOWN`."""
        shown = {step: {key: report[key] for key in SHOWN[step] if key in report} for step, report in reports.items()}
        return replace(
            self,
            checkpoint=done.checkpoint,
            between=(*self.between, (name, done.checkpoint)),
            notes=(*self.notes, done.summary),
            report={**self.report, **reports},
            provenance={**self.provenance, **shown},
        )


class Step(Protocol):
    """One way of making a model smaller or faster: prunes, quantizes, ..."""

    @property
    def leaves(self) -> str | None:
        """Name of the model in FP32 that it leaves in `Work.between`; None if it leaves none."""
        ...

    @property
    def images(self) -> int:
        """How many images it is fitted on, beside those of calibration."""
        ...

    @property
    def spends(self) -> bool:
        """Whether it goes as far as an accuracy budget allows."""
        ...

    def check(self, checkpoint: Checkpoint, images: ImageSet | None) -> None:
        """Raise, before anything slow, what `run` would for a model of this shape and so many ``images`` to fit on."""
        ...

    def run(self, work: Work) -> Work:
        """``work`` with the model changed. Raises BudgetError where the least that it can do costs more than the budget."""
        ...

    def stages(self, work: Work, dry: DryRun, *, kept: bool) -> Iterator[PlannedStage]:
        """The stages of `run` as progress names them; ``kept`` tells whether all it finds was found already."""
        ...


def run_steps(steps: Sequence[Step], work: Work) -> Work:
    """``work`` after all ``steps``, within its budget as a whole: each is held against the model as it came.

    Where a step before the last goes as far as the budget allows, it may spend the first of `SHARES`; if the last finds nothing
    within the whole then, the first ones have to do with less. Raises BudgetError if that does not help either.
    """
    first, *fewer = shares_of(steps)
    return _run(steps, work, first, fewer)


def shares_of(steps: Sequence[Step]) -> tuple[float, ...]:
    """Of the budget, what a step may spend that is not the last to cost accuracy, to be tried one after the other."""
    costly = [step for step in steps if step.spends or step.leaves]
    return SHARES if any(step.spends for step in costly[:-1]) else (1.0,)


def allotted(steps: Sequence[Step], share: float) -> tuple[float, ...]:
    """What each of ``steps`` may spend of the budget: the last all of it, since it is held against the model as it came."""
    return tuple(1.0 if step is steps[-1] else share for step in steps)


def _run(steps: Sequence[Step], begun: Work, share: float, fewer: Sequence[float] = ()) -> Work:
    work, unjudged = begun, list[str]()
    for step, part in zip(steps, allotted(steps, share), strict=True):
        if step.spends and unjudged and work.budget is not None:
            _require_within(work, work.budget, unjudged)  # what follows could only lose more, and would be blamed for it
        try:
            work = run_step(step, work, part)
        except BudgetError:
            if step is not steps[-1] or not fewer:  # what a first step cannot do with much, it cannot do with less
                raise
            return _run(steps, begun, fewer[0], fewer[1:])
        unjudged = [] if step.spends else [*unjudged, *([step.leaves] if step.leaves else [])]
    if work.budget is not None and unjudged:
        _require_within(work, work.budget, unjudged)
    return work


def _require_within(work: Work, budget: Budget, steps: Sequence[str]) -> None:
    """Raise BudgetError unless the model that ``steps`` left keeps the budget, which they did not look at."""
    evaluator = budget.evaluator
    drop = evaluator.drop(fp32_variant(work.checkpoint, evaluator.engine).model)
    if drop > budget.max_drop:
        msg = (
            f"--max-drop {budget.max_drop:g}: not met. {' and '.join(steps)} in FP32 loses {drop:.2f} points of "
            f"{evaluator.metric} on {len(evaluator.images)} images. Raise it, ask for less, or pass more --data."
        )
        raise BudgetError(msg)


def run_step(step: Step, work: Work, share: float = 1.0) -> Work:
    """``work`` after one step that may spend ``share`` of the budget."""
    whole = work.budget
    done = step.run(replace(work, budget=whole and whole.share(share)))
    return replace(done, budget=whole)
