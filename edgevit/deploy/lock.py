"""One deployment to a folder at a time."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from edgevit.deploy.scripts import LOCK
from edgevit.deploy.ssh import Ssh, broken
from edgevit.errors import RemoteError


@contextmanager
def held(ssh: Ssh, folder: str) -> Iterator[subprocess.Popen[str]]:
    """The process that holds the lock of ``folder`` on the host; it ends, and the lock with it, when the connection does.

    Raises RemoteError if another deployment has it.
    """
    holder = ssh.hold(LOCK, folder)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        said = holder.stdout.readline().strip()
        if said == "taken":
            msg = f"{ssh.host.address}: another deployment to it is under way. Wait for that one, or use another --dir."
            raise RemoteError(msg)
        if said != "locked":
            raise broken(ssh.host)
        yield holder
    finally:
        holder.stdin.close()
        holder.terminate()
        holder.wait()
        holder.stdout.close()
        holder.stderr.close()
