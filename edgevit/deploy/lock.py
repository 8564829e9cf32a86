"""One deployment to a folder at a time."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from edgevit.deploy.scripts import LOCK
from edgevit.deploy.ssh import Ssh, broken
from edgevit.errors import RemoteError

BEAT = 3.0
"""Seconds between two signs of life."""
SILENT = 12
"""Seconds without one, after which the host takes the lock back: less than ssh takes to find the link broken."""
WAIT = 15
"""Seconds to wait for the lock: it may be that of a run whose link is gone."""


@contextmanager
def held(ssh: Ssh, folder: str) -> Iterator[subprocess.Popen[str]]:
    """The process that holds the lock of ``folder`` on the host; it ends, and the lock with it, when the connection does.

    Raises RemoteError if another deployment has it.
    """
    holder = ssh.hold(LOCK, folder, str(WAIT), str(SILENT))
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(holder, over), daemon=True)
    try:
        said = holder.stdout.readline().strip()
        if said == "taken":
            msg = f"{ssh.host.address}: another deployment to it is under way. Wait for that one, or use another --dir."
            raise RemoteError(msg)
        if said and said != "locked":
            msg = f"{ssh.host.address}: {folder}: {said}. Choose another --dir."
            raise RemoteError(msg)
        if not said:
            raise broken(ssh.host)
        beating.start()
        yield holder
    finally:
        over.set()
        holder.terminate()
        holder.wait()
        if beating.is_alive():
            beating.join()
        with suppress(BrokenPipeError):
            holder.stdin.close()
        holder.stdout.close()
        holder.stderr.close()


def _beat(holder: subprocess.Popen[str], over: threading.Event) -> None:
    """Tell the host every few seconds that this side lives."""
    assert holder.stdin is not None
    with suppress(OSError, ValueError):
        while not over.wait(BEAT):
            holder.stdin.write(".")
            holder.stdin.flush()
