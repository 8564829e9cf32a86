"""Tells systemd that the classifier is up and still gives labels; the protocol of sd_notify(3), over one datagram socket.

A camera that hangs, an engine that never returns and a deadlock have one thing in common: no more results. So every
result is the heartbeat, and the service manager's watchdog does the rest.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from edgevit.printable import printable
from edgevit.runtime.loop import Result

LABEL = 100
"""Characters of a label that the manager is told: a datagram that is too long would not arrive at all."""


class Notifier:
    """A sink: ready at the first result, alive with those that follow, stopping when it is closed."""

    def __init__(self, address: str, watchdog_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """``address`` as in NOTIFY_SOCKET, ``watchdog_s`` the longest silence allowed; None if nobody watches."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # Linux's abstract names
        self._interval = None if watchdog_s is None else watchdog_s / 2  # half, as sd_watchdog_enabled(3) recommends
        self._clock = clock
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # a manager that does not read must not stop the camera
        self._ready = self._closed = False
        self._due = 0.0

    def __call__(self, result: Result) -> bool:
        """Report one result, if it is time to."""
        now = self._clock()
        if not self._ready:
            self._ready = True
            # A line is a field: a label with lines in it would say what its bundle likes, such as STOPPING=1.
            label = printable((result.predictions[0].label.splitlines() or [""])[0][:LABEL])
            self._send(f"READY=1\nSTATUS=first label: {label}")
        elif self._interval is None or now < self._due:
            return True
        if self._interval is not None:
            self._send("WATCHDOG=1")
            self._due = now + self._interval
        return True

    def close(self) -> None:
        """Say that the end is meant. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._send("STOPPING=1")
            self._socket.close()

    def _send(self, message: str) -> None:
        with suppress(OSError):  # a manager that restarts, or is gone: classifying goes on
            self._socket.sendto(message.encode(), self._address)


def open_notifier(environment: Mapping[str, str] = os.environ) -> Notifier | None:
    """A notifier for the service manager that started this process; None if there is none."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    return Notifier(address, int(microseconds) / 1e6 if watched and microseconds.isdecimal() and int(microseconds) else None)
