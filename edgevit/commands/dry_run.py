"""Looking at what work would find, without doing any of it: results that are kept, and the stages that found them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from edgevit.cache import Kept, NotKeptError
from edgevit.engine import backend
from edgevit.errors import BudgetError, EngineError, MissingPackageError
from edgevit.progress import Progress, Stage
from edgevit.workbench import Workbench

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a dry run."""

    name: str
    what: str
    cached: bool = False


class _Seen(Progress):
    """Which stages found all that they asked for."""

    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}

    def end(self, stage: Stage) -> None:
        """A stage that was cut short has missed something."""
        self.cached[stage.name] = self.cached.get(stage.name, True) and stage.finished and stage.cached


class DryRun:
    """A bench at which nothing slow is computed and nothing is written."""

    def __init__(self, bench: Workbench) -> None:
        self._seen = _Seen()
        self.bench = replace(bench, cache=Kept(root=bench.cache.root, enabled=bench.cache.enabled), progress=self._seen)

    def look(self, find: Callable[[], Found]) -> Found | None:
        """What ``find`` finds; None if some of it would have to be computed, or did not come out."""
        try:
            return find()
        except (NotKeptError, BudgetError):
            return None

    def seen(self, name: str) -> bool:
        """Whether a stage of that name was begun."""
        return name in self._seen.cached

    def stage(self, name: str, what: str) -> PlannedStage:
        """A stage to print, with what was seen of it."""
        return PlannedStage(name=name, what=what, cached=self._seen.cached.get(name, False))

    def builder(self) -> str | None:
        """Name and version of the compiler for the target that this machine has, if it has one."""
        try:
            return backend(self.bench.engine).version
        except (EngineError, MissingPackageError):
            return None
