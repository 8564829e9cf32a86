"""A one-slot mailbox between a thread that makes things and the one that takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

STOP_SECONDS = 2.0
"""How long leaving waits for the thread; a read that hangs is left to the end of the process."""


Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Iterate ``items`` on a thread of its own; iterating this gives each at most once.

    With ``overtake`` an item that nobody has taken yet makes place for the next: the reader gets the newest. Without, the
    thread waits: the reader gets every one, and the next is made meanwhile. An error is raised where the items are taken,
    after the last of them.

    Whoever waits for several mailboxes gives them one condition, ``changed``, and looks at `full` and `over` under it.
    """

    def __init__(self, items: Iterable[Item], *, overtake: bool = True, changed: threading.Condition | None = None) -> None:
        self._overtake = overtake
        self._changed = changed or threading.Condition()
        self._newest: Item | None = None
        self._ended = False
        self._error: Exception | None = None
        # A daemon, so that a camera that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._capture, args=(items,), name="capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()
        self.join(STOP_SECONDS)

    def leave(self) -> None:
        """Take nothing more: the thread ends with the item that it is at."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait for the thread, so long at most."""
        self._thread.join(seconds)

    @property
    def full(self) -> bool:
        """Whether there is an item to take."""
        return self._newest is not None

    @property
    def over(self) -> bool:
        """Whether there is none, and never will be."""
        return self._ended and self._newest is None

    @property
    def error(self) -> Exception | None:
        """What ended it, if that was an error."""
        return self._error

    def take(self) -> Item | None:
        """The item, if there is one now."""
        with self._changed:
            item, self._newest = self._newest, None
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[Item]:
        while (item := self._wait()) is not None:
            yield item
        if self._error is not None:
            raise self._error

    def _wait(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self.full or self._ended)
            return self.take()

    def _capture(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                with self._changed:
                    if not self._overtake:
                        self._changed.wait_for(lambda: self._newest is None or self._ended)
                    if self._ended:
                        return
                    self._newest = item
                    self._changed.notify_all()
        except Exception as error:
            self._error = error  # raised again by the reader
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
