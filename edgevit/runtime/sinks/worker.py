"""A thread with a short queue, for outputs that may be slow or gone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from edgevit.runtime.sinks.base import Delivery, Note

Item = TypeVar("Item")

CLOSE_SECONDS = 3.0
"""How long `Worker.close` lets the thread work off its queue; what is left then counts as dropped."""


class Worker(Generic[Item]):
    """Hands items to ``deliver``, one after the other, on a thread of its own.

    A full queue loses its oldest item: of news, the latest matter; or, with ``wait``, it is waited for. An exception of
    ``deliver`` is a failed item; the first of a row is told, and so is the success after it.
    """

    def __init__(
        self, delivery: Delivery, deliver: Callable[[Item], None], *, note: Note, size: int = 16, wait: bool = False
    ) -> None:
        self.delivery = delivery
        self.closing = threading.Event()
        """Set once the end has come: whoever waits between two attempts should give up."""
        self._deliver, self._note, self._size, self._wait = deliver, note, size, wait
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._busy = self._failing = False
        # A daemon: a server that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._work, name=delivery.name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue one item."""
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: len(self._items) < self._size or self.closing.is_set())
            if self.closing.is_set():
                return
            if len(self._items) == self._size:
                self._items.popleft()
                self.delivery.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let the thread finish, for so many seconds. Closing twice is harmless."""
        with self._changed:
            if self.closing.is_set():
                return
            self.closing.set()
            self._changed.notify_all()
        self._thread.join(seconds)
        with self._changed:
            self.delivery.dropped += len(self._items) + self._busy
            self._items.clear()
            self._busy = False

    def _work(self) -> None:
        while (item := self._next()) is not None:
            self._try(item[0])

    def _next(self) -> tuple[Item] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closing.is_set())
            if not self._items:
                return None
            self._busy = True
            self._changed.notify_all()
            return (self._items.popleft(),)

    def _try(self, item: Item) -> None:
        try:
            self._deliver(item)
            error = None
        except Exception as caught:  # whatever it is: an output never ends the run
            error = str(caught) or type(caught).__name__
        with self._changed:
            # Given up by `close`, and counted there.
            if not self._busy:
                return
            self._busy = False
            self.delivery.sent += error is None
            self.delivery.failed += error is not None
        self.delivery.error = error or self.delivery.error
        if (error is not None) != self._failing:
            self._failing = self.delivery.failing = error is not None
            self._note(f"{self.delivery.name}: {error}. The run goes on" if error else f"{self.delivery.name}: works again")
