"""What an input may take: seconds and memory. What takes more fails, instead of the machine."""

from __future__ import annotations

import faulthandler
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 20
MEMORY = 2 * 2**30
"""Bytes of address space beyond what the process has: threads and allocators reserve more of it than they use."""


class TooSlowError(Exception):
    """Not an error that any code here expects, so nothing takes it for a bad file."""


@contextmanager
def limited(seconds: int = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """MemoryError for what asks for more, TooSlowError for what takes longer; for what does not listen, the process ends."""
    before = resource.getrlimit(resource.RLIMIT_AS)

    def late(*_: object) -> None:
        raise TooSlowError

    handler = signal.signal(signal.SIGALRM, late)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, before[1]))
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
