"""A machine to install packages on: systemd, booted in an overlay of this one, in namespaces of its own. Nothing of it stays.

It is process 1 there with its own units, journal, users and network; what it writes lies in memory.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
GROUPS = [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
BOOT = r"""
set -e
scratch=$1 shared=$2
mount --make-rprivate /
mount -t tmpfs none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
root=$scratch/root
mount -t proc proc "$root/proc"
mount -t tmpfs none "$root/run"
mount -t tmpfs none "$root/tmp"
mkdir "$root/shared"
mount --bind "$shared" "$root/shared"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs none "$root/sys/fs/cgroup"
mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
exec chroot "$root" env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target
"""


class Machine:
    """A booted one."""

    def __init__(self, init: int, shared: Path) -> None:
        self.init, self.shared = init, shared
        """Its process 1, as seen from here; the folder that is ``/shared`` there."""

    def run(self, *command: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """What ``command`` does there, as root; its error output is in ``stdout``, too."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            ["nsenter", "--target", str(self.init), "--all", "--root", "--wd", *map(str, command)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, check=False,
            env=environment,
        )  # fmt: skip

    def must(self, *command: object, timeout: float = 120) -> str:
        """The output of ``command``, which must end well."""
        done = self.run(*command, timeout=timeout)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def shell(self, text: str) -> str:
        """The output of a line of shell, which must end well."""
        return self.must("sh", "-ec", text)

    def there(self, path: str) -> bool:
        """Whether ``path`` is there, a link to nothing, too."""
        return self.run("sh", "-c", f"[ -e {path} ] || [ -L {path} ]").returncode == 0


def lacks() -> str:
    """Why no machine can be booted here; empty if one can."""
    missing = [name for name in ("dpkg-deb", "nsenter", "unshare", "runuser") if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "only root can mount"
    if missing or not SYSTEMD.exists():
        return f"not installed: {', '.join(missing) or 'systemd'}"
    return "" if all(path.is_dir() for path in GROUPS) else "no control groups that it could be booted with"


@contextmanager
def booted(scratch: Path, shared: Path) -> Iterator[Machine]:
    """A machine that is up, until the end. Raises AssertionError where that is not allowed."""
    name = f"edgevit-test-{os.getpid()}-{time.monotonic_ns()}"
    groups = [group / name for group in GROUPS]
    for group in groups:
        group.mkdir()

    def enter() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text("0")

    namespaces = ["--cgroup", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--kill-child"]
    log = (scratch.parent / "boot.log").open("wb")
    command = ["unshare", *namespaces, "sh", "-c", BOOT, "sh", str(scratch), str(shared)]
    starter = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=enter
    )
    try:
        machine = Machine(_child(starter), shared)
        deadline = time.monotonic() + 60
        while machine.run("systemctl", "is-system-running").stdout.strip() not in ("running", "degraded"):
            assert starter.poll() is None, (scratch.parent / "boot.log").read_text(errors="replace")
            assert time.monotonic() < deadline, "systemd does not come up"
            time.sleep(0.1)
        yield machine
    finally:
        starter.send_signal(signal.SIGKILL)  # and with it process 1 there, and with that everything
        starter.wait()
        log.close()
        for group in groups:
            _remove(group)


def _remove(group: Path) -> None:
    """Remove a control group with all in it, as soon as its processes have gone."""
    for _ in range(100):
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


def _child(starter: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    for _ in range(100):
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.05)
    msg = "no process was started"
    raise AssertionError(msg)


def command_there(machine: Machine, package: Path) -> None:
    """Put this very edgevit there as ``/usr/bin/edgevit``, on this Python; ``package`` is the folder with it."""
    for name in ("edgevit", "calibration", "targets"):  # by way of the shared folder: /tmp there is another
        shutil.copytree(package / name, machine.shared / "program" / name, ignore=shutil.ignore_patterns("__pycache__"))
    machine.must("mv", "/shared/program", "/opt/program")
    machine.must("chmod", "-R", "a+rX", "/opt/program")
    for folder in {*Path(sys.executable).resolve().parents, *Path(sys.executable).parents}:
        machine.must("chmod", "a+rx", folder)  # a user's own folders, of which others may read nothing
    text = f'#!/bin/sh\nPYTHONPATH=/opt/program PYTHONDONTWRITEBYTECODE=1 exec {sys.executable} -m edgevit "$@"\n'
    (machine.shared / "edgevit").write_text(text)
    machine.must("install", "-m", "755", "/shared/edgevit", "/usr/bin/edgevit")
