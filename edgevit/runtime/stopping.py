"""Ctrl-C and SIGTERM: the first ends a run with its summary, the second ends the process, whatever hangs."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_last: list[Callable[[], None]] = []
"""What is still done when a second signal ends the process."""
_held: list[bool] = []
"""Of each `undisturbed` under way, whether a signal came."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first of `SIGNALS` raises KeyboardInterrupt in the main thread; a second exits with 128 + its number.

    Python runs a signal's handler between two of its own instructions, so an engine or driver that hangs would swallow the
    second signal, too. Its number also arrives in a socket, which a thread reads. Only the main thread can use this.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_second, args=(reader,), name="signals", daemon=True).start()
    before = {each: signal.signal(each, _interrupt) for each in SIGNALS}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for each, handler in before.items():
            signal.signal(each, handler)
        writer.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, the first signal waits for the end of the block: what belongs together is done as a whole. On the main thread."""
    _held.append(False)
    try:
        yield
    finally:
        came = _held.pop()
    if came:
        raise KeyboardInterrupt


@contextmanager
def even_at_a_second(do: Callable[[], None]) -> Iterator[None]:
    """Do something at the end of the block, and also where a second signal ends the process inside it."""
    _last.append(do)
    try:
        yield
    finally:
        _last.remove(do)
        do()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, _nothing)  # the second is the thread's: raised here it would only cut the cleaning up short
    if _held:
        _held[-1] = True
        return
    raise KeyboardInterrupt


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, because signals that are ignored do not arrive in the socket either."""


def _second(reader: socket.socket) -> None:
    """Wait for two signals; ends with the run if there is no second."""
    with reader:
        seen = 0
        while data := reader.recv(16):
            seen += sum(number in SIGNALS for number in data)
            if seen > 1:
                for do in _last:
                    with suppress(Exception):  # the process ends, whatever comes of it
                        do()
                os._exit(128 + data[-1])
