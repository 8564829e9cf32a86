"""An Arm computer: a folder with an arm64 Debian in it, entered in namespaces that end with the process and leave nothing.

The kernel of this machine runs its programs through qemu, which it is told of (binfmt_misc) inside a user namespace: from
Linux 6.7 on each may have its own list. Mounts are those of a mount namespace, processes those of a pid namespace.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import Outcome

QEMU = Path("/usr/bin/qemu-aarch64-static")
PROCESSORS = {"pi3": "cortex-a53", "pi5": "cortex-a76", "orin": "cortex-a76", "server": "max"}
"""As qemu calls them, by the board in whose /proc/cpuinfo they stand: ONNX Runtime believes what is written there."""
LOCALE = {"LANG": "C.UTF-8"}
BOARDS = "boards"
"""A folder in the root, of boards' files."""

# The kernel knows an arm64 program by its first 20 bytes; F: qemu is opened now, so that it need not lie in the root.
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# $1 root, $2 rule for the kernel, $3 a folder of this machine, then the program: what is in the namespaces before it starts.
INSIDE = r"""
set -e
root=$1; rule=$2; shared=$3; shift 3
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
for name in null zero full random urandom; do : >>"$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
mkdir -p "$root/shared"; mount --bind "$shared" "$root/shared"
if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  printf %s "$rule" >/proc/sys/fs/binfmt_misc/register
fi
# Not in the place of this shell, which is process 1 here: that one survives the signals that others die of.
chroot "$root" "$@"
exit $?
"""
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child")
# $0 a descriptor on which something arrives once the users of the namespace are known: before, nobody is root in it. (Not <&,
# which dash has for one digit alone.)
MAPPED = 'read -r go <"/dev/fd/$0"; exec unshare "$@"'
USERS = "0 0 65536"
"""All of this machine's are there, sshd's own and a board's too."""


def enter(command: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Start ``command`` in namespaces of its own, which end with it; as root there, and outside no more than root's files."""
    ready, go = os.pipe()
    words = ["unshare", "--user", "sh", "-c", MAPPED, str(ready), *NAMESPACES, *command]
    process = subprocess.Popen(words, text=True, encoding="utf-8", errors="replace", pass_fds=[ready], **options)  # type: ignore[call-overload]
    try:
        ours, theirs = Path("/proc/self/ns/user").readlink(), Path(f"/proc/{process.pid}/ns/user")
        while process.poll() is None and theirs.readlink() == ours:
            time.sleep(0.002)
        for kind in ("uid", "gid"):
            Path(f"/proc/{process.pid}/{kind}_map").write_text(USERS)
        os.write(go, b"\n")
    except BaseException:
        process.kill()
        raise
    finally:
        os.close(ready)
        os.close(go)
    return process


@dataclass(frozen=True, kw_only=True)
class Arm:
    """``root`` is where its files are; what lies below ``shared`` here is there, too."""

    root: Path
    shared: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def there(self, path: Path) -> str:
        """What a file below ``shared`` or ``root`` is called on it."""
        if path.is_relative_to(self.shared):
            return str(Path("/shared") / path.relative_to(self.shared))
        return str(Path("/") / path.relative_to(self.root))

    def start(
        self, *command: object, board: str = "pi5", environment: Mapping[str, str] = LOCALE, **options: Any
    ) -> subprocess.Popen[str]:
        """``command`` on a ``board`` of `PROCESSORS`; paths in it are those of this machine.

        What the board has in its folder lies over the root: its device tree, sensors, /proc/cpuinfo.
        """
        rule = f":qemu-aarch64:M::{MAGIC}:{MASK}:{QEMU}:F"
        settings = {
            "PATH": "/venv/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "QEMU_CPU": PROCESSORS[board],
            "PYTHONDONTWRITEBYTECODE": "1", "QEMU_LD_PREFIX": f"/{BOARDS}/{board}", "EDGEVIT_CACHE": "/shared/cache",
            "NO_COLOR": "1",
        } | {**self.environment, **environment}  # fmt: skip
        words = [self.there(word) if isinstance(word, Path) else str(word) for word in command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        given = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in settings.items()), *words]
        return enter(["sh", "-c", INSIDE, "sh", self.root, rule, self.shared, *given], cwd="/", **(pipes | options))

    def run(self, *command: object, seconds: float = 300, **options: Any) -> Outcome:
        """`start`, and its end."""
        with self.start(*command, **options) as process:
            try:
                stdout, stderr = process.communicate(timeout=seconds)
            except BaseException:
                process.kill()
                raise
        return Outcome(process.returncode, stdout, stderr)

    def edgevit(self, *arguments: object, **options: Any) -> Outcome:
        """The installed command."""
        return self.run("edgevit", *arguments, **options)

    def python(self, script: str, *arguments: object, **options: Any) -> Outcome:
        """Its Python, with what was installed."""
        return self.run("python", "-c", script, *arguments, **options)


def lacking() -> str:
    """What this machine would need to be one, in words for whoever can install it; empty if it has all."""
    if os.geteuid():
        return "only root may do what this does"
    if os.uname().machine != "x86_64":
        return f"this emulates Arm on x86-64, and here is {os.uname().machine}"
    missing = [name for name, path in {"debootstrap": "/usr/sbin/debootstrap", "qemu-user-static": QEMU}.items()
               if not Path(path).exists()]  # fmt: skip
    return f"apt install {' '.join(missing)}" if missing else ""


def refused() -> str:
    """Why the kernel does not let namespaces have a list of their own of who runs what; empty if it does."""
    script = "[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
    with enter(["sh", "-c", script], stderr=subprocess.PIPE) as process:
        said = process.communicate(timeout=30)[1].strip()
    advice = "Linux before 6.7 has one list for all: apt install binfmt-support puts qemu there"
    return f"{said}. {advice}" if process.returncode else ""
