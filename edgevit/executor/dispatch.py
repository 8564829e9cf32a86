"""Who does which task: every free worker gets the next one, and what a dead worker leaves is done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from edgevit.errors import StorageError
from edgevit.executor.outcome import Outcome
from edgevit.executor.task import Task

ATTEMPTS = 3
"""Workers that may die at a task before the task is taken for the cause."""


class LostWorkerError(Exception):
    """A worker that died at its task; its text says how."""


class Seat(Protocol):
    """One worker, which does one task at a time."""

    def give(self, task: Task) -> None:
        """Let it begin. Raises LostWorkerError if it is dead, TypeError for a task that cannot be sent."""
        ...

    def take(self) -> Outcome:
        """What became of the task, once it has ended. Raises LostWorkerError if the worker has."""
        ...

    def end(self) -> None:
        """End the worker, whatever it is doing."""
        ...


S = TypeVar("S", bound=Seat)


class Seats(Protocol[S]):
    """All workers of an executor."""

    def free(self) -> S | None:
        """A worker without a task, started now if there may be more of them; None if all are busy."""
        ...

    def leave(self, seat: S) -> None:
        """``seat`` has no task any more."""
        ...

    def lose(self, seat: S) -> None:
        """``seat`` is dead, or to be ended."""
        ...

    def wait(self, busy: Sequence[S]) -> Sequence[S]:
        """Those of ``busy`` that can be taken from; waits for the first."""
        ...


@dataclass
class _Given:
    """A task on its way."""

    position: int
    task: Task
    died: int = 0
    """Workers that died at it."""


def dispatch(tasks: Iterable[Task], seats: Seats[S]) -> Iterator[tuple[int, Any]]:
    """As `edgevit.executor.base.Executor.map`. Whoever stops listening, or is interrupted, ends the workers that are busy."""
    coming, again = enumerate(tasks), deque[_Given]()
    busy: list[tuple[S, _Given]] = []
    try:
        while True:
            while (seat := seats.free()) is not None:
                given = again.popleft() if again else _next(coming)
                if given is None:
                    seats.leave(seat)
                    break
                busy.append((seat, given))
                try:
                    seat.give(given.task)
                except LostWorkerError as error:
                    again.append(_survivor(given, error))
                    seats.lose(busy.pop()[0])
            if not busy:
                return
            ready = seats.wait([seat for seat, _ in busy])
            for pair in [pair for pair in busy if pair[0] in ready]:
                seat, given = pair
                try:
                    outcome = seat.take()
                except LostWorkerError as error:
                    again.append(_survivor(given, error))
                    busy.remove(pair)
                    seats.lose(seat)
                else:
                    busy.remove(pair)
                    seats.leave(seat)
                    yield given.position, outcome.result()
    finally:
        for seat, _ in busy:
            seats.lose(seat)


def _next(coming: Iterator[tuple[int, Task]]) -> _Given | None:
    found = next(coming, None)
    return None if found is None else _Given(*found)


def _survivor(given: _Given, error: LostWorkerError) -> _Given:
    """A task whose worker died, to be done again. Raises StorageError if it is likelier to be the cause."""
    given.died += 1
    if given.died == ATTEMPTS:
        msg = (
            f"{given.task.name}: {ATTEMPTS} workers died at it, the last {error}. Often that is want of memory: ask for fewer "
            "--workers, or give them larger machines."
        )
        raise StorageError(msg)
    return given
