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
    """

    def __init__(self, items: Iterable[Item], *, overtake: bool = True) -> None:
        self._overtake = overtake
        self._changed = threading.Condition()
        self._newest: Item | None = None
        self._ended = False
        self._error: Exception | None = None
        # A daemon, so that a camera that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._capture, args=(items,), name="capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)

    def __iter__(self) -> Iterator[Item]:
        while (item := self._take()) is not None:
            yield item
        if self._error is not None:
            raise self._error

    def _take(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            item, self._newest = self._newest, None
            self._changed.notify_all()
            return item

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
