"""Every task in this process, one after the other: what the other executors are held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from edgevit.executor.base import Closing, counted
from edgevit.executor.task import Blob, Held, Task, Warm


class Serial(Closing):
    """See `edgevit.executor.base.Executor`."""

    reaches_files = True

    def __init__(self, *, threads: int = 1) -> None:
        self.threads = threads

    @property
    def where(self) -> str:
        """See `Executor.where`."""
        return f"this process, {counted(self.threads, 'thread')}"

    def share(self, content: bytes) -> Blob:
        """See `Executor.share`."""
        return Held(content=content)

    def map(self, tasks: Iterable[Task], *, exclusive: bool = False) -> Iterator[tuple[int, Any]]:
        """See `Executor.map`."""
        warm = Warm()
        try:
            for position, task in enumerate(tasks):
                yield position, task.run(warm)
        finally:
            warm.close()

    def alone(self) -> AbstractContextManager[None]:
        """See `Executor.alone`."""
        return nullcontext()
