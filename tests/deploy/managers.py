"""A real systemd for one user of this machine, which was not booted by systemd: its own manager, and the journal."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SYSTEMD, JOURNAL = Path("/lib/systemd/systemd"), Path("/lib/systemd/systemd-journald")
BOOTED, LINGER = Path("/run/systemd/system"), Path("/var/lib/systemd/linger")
TREES = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
PACKAGES = "systemd dbus-user-session"


@contextmanager
def user_manager(user: str) -> Iterator[None]:
    """systemd's manager for ``user``, as logind would start it for one who lingers. Skips where it does not come up."""
    if Path("/proc/1/comm").read_text().strip() == "systemd":
        pytest.skip("systemd runs this machine; its own users are not ours to change")
    if not (SYSTEMD.exists() and shutil.which("setpriv") and shutil.which("systemctl")):
        pytest.skip(f"apt install {PACKAGES}")
    number = pwd.getpwnam(user).pw_uid
    # Where logind puts it: by that the journal tells whose unit it is that speaks.
    slice_ = f"user.slice/user-{number}.slice/user@{number}.service"
    runtime, groups = Path(f"/run/user/{number}"), [tree / slice_ for tree in TREES if tree.is_dir()]
    started: list[subprocess.Popen[bytes]] = []
    ours = not BOOTED.is_dir()  # or of another run of these tests
    try:
        BOOTED.mkdir(parents=True, exist_ok=True)
        LINGER.mkdir(parents=True, exist_ok=True)
        (LINGER / user).touch()  # what logind does when the user may
        # As the first user of a Raspberry Pi or a Jetson may by its group adm.
        subprocess.run(["usermod", "-aG", "systemd-journal", user], check=True)
        for folder in (runtime, *groups):
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["chown", "-R", user, folder], check=True)
        runtime.chmod(0o700)
        if not _journal_answers():
            started.append(subprocess.Popen([JOURNAL], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            _wait_for_journal()
        # Whose the journals are, as when a machine starts: of the group systemd-journal.
        subprocess.run(["systemd-tmpfiles", "--create", "--prefix=/run/log/journal"], capture_output=True, check=False)
        enter = "".join(f'echo $$ >"{group}/cgroup.procs"; ' for group in groups)
        environment = [
            f"HOME={pwd.getpwnam(user).pw_dir}", f"USER={user}", "PATH=/usr/bin:/bin", f"XDG_RUNTIME_DIR={runtime}",
            "SYSTEMD_LOG_TARGET=console",
        ]  # fmt: skip
        words = [
            "setpriv",
            f"--reuid={number}",
            f"--regid={number}",
            "--init-groups",
            "env",
            "-i",
            *environment,
            SYSTEMD,
            "--user",
        ]
        command = ["sh", "-c", f'{enter}exec "$@"', "sh", *map(str, words)]
        started.append(subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_until_up(user, runtime)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
        (LINGER / user).unlink(missing_ok=True)
        with suppress(OSError):
            if ours:
                BOOTED.rmdir()
        shutil.rmtree(runtime, ignore_errors=True)
        _forget(groups)


def _journal_answers() -> bool:
    """Whether somebody listens at the journal's socket, which outlives who made it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex("/run/systemd/journal/stdout") == 0


def _wait_for_journal() -> None:
    for _ in range(50):
        if _journal_answers():
            return
        time.sleep(0.1)


def _wait_until_up(user: str, runtime: Path) -> None:
    command = ["su", user, "-s", "/bin/sh", "-c", f"XDG_RUNTIME_DIR={runtime} systemctl --user show-environment"]
    for _ in range(50):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    pytest.skip("systemd's manager for a user does not come up here (cgroups?)")


def _forget(groups: list[Path]) -> None:
    """Control groups, from the innermost on; those of processes that are just ending stay a moment."""
    for _ in range(20):
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            for folder in (group.parent, group.parent.parent):  # of others', too, perhaps
                with suppress(OSError):
                    folder.rmdir()
        if not any(group.exists() for group in groups):
            return
        time.sleep(0.1)
