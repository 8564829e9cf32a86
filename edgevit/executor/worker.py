"""What a worker process runs: tasks from its parent, one after the other, until the parent closes the line or is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from edgevit.executor.outcome import outcome_of
from edgevit.executor.task import Warm

LOOK = 0.5  # seconds between two looks whether the parent lives


def main(descriptor: int, parent: int) -> None:
    """Serve ``parent``, a process id, on the socket ``descriptor``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    warm, line = Warm(), Connection(descriptor)
    try:
        while True:
            line.send(outcome_of(line.recv(), warm))
    except (EOFError, OSError):  # nobody is there any more
        return
    finally:
        warm.close()


def _end_with(parent: int) -> None:
    """A parent that was killed could not end its workers: a task of minutes would go on for nobody."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
