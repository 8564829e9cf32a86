"""How long work tells how far it is. The library is silent; the command line draws bars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Progress:
    """Reports nothing. Subclasses override `begin`, `advance` and `end`."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Announce a stage of ``total`` steps; the stage knows its seconds when the block ends."""
        stage = Stage(name=name, total=total, progress=self)
        self.begin(stage)
        start = time.perf_counter()
        try:
            yield stage
            stage.finished = True
        finally:
            stage.seconds = time.perf_counter() - start
            self.end(stage)

    def begin(self, stage: Stage) -> None:
        """A stage starts."""

    def advance(self, stage: Stage, steps: int) -> None:
        """A stage is ``steps`` further."""

    def end(self, stage: Stage) -> None:
        """A stage is over, finished or not."""


@dataclass
class Stage:
    """One stage of long work."""

    name: str
    total: int | None
    progress: Progress
    cached: bool = False
    """Its result was there already."""
    seconds: float = 0.0
    finished: bool = False
    """It ended without an error or an interruption."""
    found: str = ""
    """What came out, in a few words."""

    def advance(self, steps: int = 1) -> None:
        """The stage is ``steps`` further."""
        self.progress.advance(self, steps)
