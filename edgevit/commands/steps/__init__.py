"""Steps that make a model smaller, one file each.

`build` runs those of its request in order, its dry run prints the same list, `compare` makes what the names of precisions say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgevit.commands.steps.base import Step, Work, allotted, run_step, run_steps, shares_of
from edgevit.commands.steps.merge import Merge
from edgevit.commands.steps.prune import Prune
from edgevit.commands.steps.quantize import Quantize
from edgevit.commands.steps.search import Search
from edgevit.target import Target

__all__ = ["Merge", "Prune", "Quantize", "Search", "Step", "Work", "allotted", "run_step", "run_steps", "shares_of", "steps_of"]

NAMED: Mapping[str, Callable[[float, Target], Step]] = {
    "prune": Prune.of_share,
    "merge": Merge.of_share,
    "speedup": Search.of_speedup,
}
"""Steps that take one number, by name (`edgevit.commands.compare_names.STEPS`), in the order in which they are run."""


def steps_of(asked: Mapping[str, float], target: Target) -> tuple[Step, ...]:
    """The steps that are ``asked`` for by name, in the order in which they are run, whatever order they were named in."""
    return tuple(make(asked[name], target) for name, make in NAMED.items() if name in asked)
