"""Steps that make a model smaller, one file each; `steps_for` lists them in the order in which they are run."""

from __future__ import annotations

from edgevit.commands.steps.base import Step, Work, run_step, run_steps, shares_of
from edgevit.commands.steps.merge import Merge
from edgevit.commands.steps.prune import Prune
from edgevit.commands.steps.quantize import Quantize
from edgevit.pruning.settings import PruneSettings
from edgevit.recipe import Recipe
from edgevit.tokens.settings import MergeSettings

__all__ = ["Merge", "Prune", "Quantize", "Step", "Work", "run_step", "run_steps", "shares_of", "steps_for"]


def steps_for(
    precision: str, recipe: Recipe, *, prune: PruneSettings | None = None, merge: MergeSettings | None = None
) -> tuple[Step, ...]:
    """What is done to a model that shall have ``precision``: what `build` runs, its dry run prints and `compare` makes."""
    optional: tuple[Step | None, ...] = (
        Prune(prune) if prune else None,
        Merge(merge) if merge else None,
        Quantize(precision, recipe),
    )
    return tuple(step for step in optional if step is not None)
