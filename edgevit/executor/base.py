"""What every executor offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from edgevit.executor.task import Blob, Task

if TYPE_CHECKING:
    from typing_extensions import Self


class Executor(Protocol):
    """Does tasks, and knows what must have a machine to itself. Use it as a context manager: afterwards no worker is left.

    What a task gives never depends on which worker did it, or on how many there are: each computes with `threads` threads.
    """

    threads: int
    """CPU threads that a task computes with."""
    reaches_files: bool
    """Whether workers see this machine's files; else tasks carry what they need by content."""

    @property
    def where(self) -> str:
        """For people, and for the conditions of what is measured: ``2 processes of 1 thread``."""
        ...

    def share(self, content: bytes) -> Blob:
        """Put ``content``, a model say, where all workers can read it."""
        ...

    def map(self, tasks: Iterable[Task], *, exclusive: bool = False) -> Iterator[tuple[int, Any]]:
        """Do ``tasks``, each asked for when a worker is free; yields the position of each with its result, as they end.

        ``exclusive`` tasks have a machine to themselves while they run, all its CPUs included: whatever takes times. A task
        whose worker dies is done again by another. An error that a task raises is raised here, and ends the others.

        Raises TypeError for a task that cannot be sent, StorageError for one at which worker after worker dies.
        """
        ...

    def alone(self) -> AbstractContextManager[None]:
        """As long as it lasts, this process has its machine to itself, as far as this executor decides: for timing."""
        ...

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Closing:
    """What executors share: they are closed on exit."""

    def close(self) -> None:
        """See `Executor.close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def counted(number: int, what: str, plural: str = "") -> str:
    """``2 threads``, ``1 process``."""
    return f"{number} {what if number == 1 else plural or what + 's'}"
