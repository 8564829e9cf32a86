"""A one-slot mailbox between a live source and a slower reader."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from edgevit.runtime.frame import Frame, Source

if TYPE_CHECKING:
    from typing_extensions import Self

STOP_SECONDS = 2.0
"""How long leaving waits for the thread; a read that hangs is left to the end of the process."""


class Mailbox:
    """Read ``source`` on a thread of its own; iterating gives the newest frame, never one twice.

    A frame that is overtaken before it is taken is lost, which shows as a gap in `Frame.index`.
    An error of the source is raised where the frames are taken, after the last of them.
    """

    def __init__(self, source: Source) -> None:
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._ended = False
        self._error: Exception | None = None
        # A daemon, so that a camera that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._capture, args=(source,), name="capture", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._ended = True
        self._thread.join(STOP_SECONDS)

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._take()) is not None:
            yield frame
        if self._error is not None:
            raise self._error

    def _take(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            frame, self._newest = self._newest, None
            return frame

    def _capture(self, source: Source) -> None:
        try:
            for frame in source:
                with self._changed:
                    if self._ended:
                        return
                    self._newest = frame
                    self._changed.notify()
        except Exception as error:
            self._error = error  # raised again by the reader
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
