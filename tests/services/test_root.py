"""Becoming root for a system's service: with the real sudo, of a user who has to give a password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import ROOT

USER, PASSWORD = f"evs-{os.getpid()}", "a pass'word $HOME"
SCRIPT = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from edgevit.services.systemd import as_root, may_be_root
given = sys.stdin.readline().rstrip("\\n") or None
print(may_be_root(given), as_root(["id", "-u"], given).stdout.strip())
"""


@pytest.fixture
def user() -> Iterator[str]:
    """One who may become root by a password. sudo remembers nothing of it."""
    if os.geteuid() or not (shutil.which("sudo") and shutil.which("useradd") and shutil.which("chpasswd")):
        pytest.skip("needs root, and: apt install sudo")
    if subprocess.run(["useradd", "-M", "-G", "sudo", USER], capture_output=True, check=False).returncode:
        pytest.skip("cannot make another user here")
    try:
        subprocess.run(["chpasswd"], input=f"{USER}:{PASSWORD}\n", text=True, check=True)
        yield USER
    finally:
        subprocess.run(["userdel", "-f", USER], capture_output=True, check=False)


@pytest.mark.parametrize(("given", "told"), [(PASSWORD, "True 0"), ("wrong", "False"), ("", "False")])
def test_sudo(given: str, told: str, user: str) -> None:
    """The password goes to its standard input alone; without one nothing asks, and nothing waits."""
    if not os.access(sys.executable, os.X_OK):
        pytest.skip("this Python is root's own")
    done = subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", sys.executable, "-c", SCRIPT],
        input=f"{given}\n", capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    if "Permission denied" in done.stderr or "No such file" in done.stderr:
        pytest.skip("this Python is not for other users")
    assert done.stdout.strip() == told, done.stderr
