"""What all work of one command shares, so that no function passes its pieces along."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from edgevit.cache import Cache
from edgevit.executor.base import Executor
from edgevit.progress import Progress, Stage
from edgevit.target import Target, load_target


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """For which device work is done, what is kept of it, and who is told how far it is.

    Without arguments: for this machine's CPU, nothing kept, nobody told.
    """

    target: Target = field(default_factory=lambda: load_target("cpu"))
    cache: Cache = field(default_factory=lambda: Cache(enabled=False))
    progress: Progress = field(default_factory=Progress)
    threads: int | None = None
    """CPU threads of an inference; None lets the engine choose."""
    device: str = "auto"
    """Where torch computes what is heavy: see `edgevit.model.devices.compute_device`."""
    measured_on: str | None = None
    """The engine that accuracy is measured with, once it was held against torch; see `edgevit.engine.here.proxy_engine`."""
    executor: Executor | None = None
    """Where evaluation's shards are computed; None: here, one after the other, with ``threads``."""

    @property
    def engine(self) -> str:
        """The target's engine: what graphs are written for."""
        return self.target.engine()

    def on(self, engine: str) -> Workbench:
        """The same, with accuracy measured on ``engine``."""
        return replace(self, measured_on=engine)

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """See `Progress.stage`."""
        return self.progress.stage(name, total)
