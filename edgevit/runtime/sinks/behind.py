"""A sink that works behind the loop: what writes to a disk that hangs stalls its own thread, no more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np

from edgevit.runtime.decide import Decision
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.sinks.guard import GuardedOutput

Item = TypeVar("Item")

FIRST_SECONDS = 1.0
"""How long the first item is waited for: an output that never worked should end the run while its user looks on."""
CLOSE_SECONDS = 10.0
"""How long closing waits for the thread; what is left then counts as dropped."""
NOTHING = np.zeros((0, 0, 3), np.uint8)


class Behind(Generic[Item]):
    """Hands items to ``output``, in order, on a thread of its own, which also closes it.

    A full queue leaves new items out, which is told and counted, or, with ``wait``, is waited for: for files nothing is left
    out, and no camera runs on meanwhile. An error of ``output`` ends the thread and is raised at the next item.
    """

    def __init__(
        self,
        output: GuardedOutput[Item],
        delivery: Delivery,
        *,
        note: Note,
        size: int,
        wait: bool,
        keep: Callable[[Item], Item] = lambda item: item,
    ) -> None:
        """Start the thread.

        Args:
            output: a sink or screen; from now on the thread's.
            delivery: counts what is left out, with what ``output`` itself counts there.
            note: told when items begin to be left out, and when the queue is empty again.
            size: how many items the queue holds.
            wait: for room in it.
            keep: makes what is queued of an item.
        """
        self._output, self._delivery, self._note = output, delivery, note
        self._size, self._wait, self._keep = size, wait, keep
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._busy = self._closing = self._left = self._behind = self._begun = False
        self._going = True
        self._lost = 0
        self._error: Exception | None = None
        # A daemon: a disk that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._work, name=f"write {delivery.name}", daemon=True)
        self._thread.start()

    def __call__(self, item: Item) -> bool:
        """Queue one item; what ``output`` said last. Raises what it raised."""
        with self._changed:
            if self._wait:
                self._changed.wait_for(lambda: len(self._items) < self._size or self._error)
            if self._error is None and len(self._items) >= self._size:
                self._lost += 1
                self._delivery.drop()
                first, self._behind = not self._behind, True
            else:
                first = False
                self._items.append(self._keep(item))
                self._changed.notify_all()
            if not self._begun:
                self._begun = True
                self._changed.wait_for(lambda: not (self._items or self._busy) or self._error, FIRST_SECONDS)
            if self._error is not None:
                raise self._error
        if first:
            self._note(f"{self._delivery.name}: does not keep up, results are left out. The run goes on")
        return self._going

    def close(self) -> None:
        """Let the thread write and close, for seconds. Closing twice is harmless."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)
        with self._changed:
            self._left = True
            left = len(self._items) + self._busy
            self._items.clear()
        self._delivery.drop(left)
        lost = self._lost + left
        if lost:
            self._delivery.error = self._delivery.error or "it did not keep up"
        if self._thread.is_alive():
            self._delivery.error = f"it hangs, and was not finished within {CLOSE_SECONDS:g} s"
            self._delivery.failed += not lost
            self._note(f"{self._delivery.name}: {self._delivery.error}")

    def _work(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._going = self._output(item[0]) and self._going
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        except Exception as error:  # whatever it is: raised again in the loop
            self._fail(error)
        finally:
            try:
                self._output.close()
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._error = self._error or error
            self._busy = False
            self._delivery.failed += 1
            self._delivery.error = str(error)
            self._changed.notify_all()

    def _next(self) -> tuple[Item] | None:
        with self._changed:
            again = self._behind and not self._items
            if again:
                self._behind = False
        if again:
            self._note(f"{self._delivery.name}: keeps up again")
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closing)
            if not self._items or self._left:
                return None
            self._busy = True
            item = self._items.popleft()
            self._changed.notify_all()
            return (item,)


def without_picture(decision: Decision) -> Decision:
    """The decision without its frame's picture, megabytes that a line of text does not need."""
    return replace(decision, frame=replace(decision.frame, image_bgr=NOTHING))
