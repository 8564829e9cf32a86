"""Keeps the run going when an output that has worked fails: a disk gets full, a window dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from edgevit.runtime.sinks.base import Delivery, Note

Item = TypeVar("Item")
Taken = TypeVar("Taken", contravariant=True)

RETRY_SECONDS = 10.0


class GuardedOutput(Protocol[Taken]):
    """A sink or a screen."""

    def __call__(self, item: Taken, /) -> bool:
        """Take one item; False asks to end the run."""
        ...

    def close(self) -> None:
        """Finish what was begun."""
        ...


class Guarded(Generic[Item]):
    """A sink or screen around another.

    One that fails at its first item ends the run: it never worked, and its option is wrong. One that fails later is told
    about, left alone for `RETRY_SECONDS`, and tried again; what it misses is counted.
    """

    def __init__(
        self,
        output: GuardedOutput[Item],
        name: str,
        *,
        note: Note,
        retry: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.delivery = Delivery(name=name)
        self._output, self._note, self._retry, self._clock = output, note, retry, clock
        self._resume: float | None = None

    def __call__(self, item: Item) -> bool:
        """Hand on one item."""
        if self._resume is not None and self._clock() < self._resume:
            self.delivery.drop()
            return True
        try:
            going = self._output(item)
        except Exception as error:
            if not self.delivery.sent:
                raise
            self._failed(error)
            return True
        if self._resume is not None:
            self._resume = None
            self.delivery.failing = False
            self._note(f"{self.delivery.name}: works again")
        self.delivery.sent += 1
        return going

    def close(self) -> None:
        """Close what is inside; its failure is told, too."""
        try:
            self._output.close()
        except Exception as error:
            self.delivery.failed += 1
            self._tell(error)

    def _failed(self, error: Exception) -> None:
        self.delivery.failed += 1
        self.delivery.failing = True
        if self._resume is None:
            self._tell(error)
        self._resume = self._clock() + RETRY_SECONDS if self._retry else float("inf")

    def _tell(self, error: Exception) -> None:
        self.delivery.error = str(error)
        self._note(f"{error}. The run goes on without it".replace("..", "."))
