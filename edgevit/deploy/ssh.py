"""A host over the system's ssh and rsync: the user's keys, agent and configuration; no passwords pass through here."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgevit.deploy.destination import Destination
from edgevit.deploy.talking import MOST_BYTES, FloodError, communicate
from edgevit.errors import LinkError, MissingPackageError, RemoteError, StorageError

if TYPE_CHECKING:
    from typing_extensions import Self

BROKEN = 255  # ssh's exit status for its own failures
ALIVE = 5  # seconds between two signs of life; after three without an answer the link is down
SILENT = 60  # seconds without a byte, after which rsync gives up
OPTIONS = (
    "BatchMode=yes", "ConnectTimeout=10", f"ServerAliveInterval={ALIVE}", "ServerAliveCountMax=3",
    # What a user's configuration may ask for in a terminal, and what would end or garble these sessions.
    "RemoteCommand=none", "RequestTTY=no", "ClearAllForwardings=yes", "LogLevel=ERROR",
)  # fmt: skip
_REASONS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key has changed. If it was installed anew: {forget}"),
    ("Host key verification failed", "its host key is not known yet. Connect once by hand and confirm it: ssh {host}"),
    ("Too many authentication failures", "it was offered too many keys. In your ssh config: IdentityFile and IdentitiesOnly yes"),
    ("Permission denied", "it accepts none of your keys. Bring one there: ssh-copy-id {host}"),
    ("Could not resolve hostname", "no such host. Check the name, or give its address"),
    ("Connection refused", "no ssh server answers there. Check --port, and on the host: systemctl status ssh"),
    ("No route to host", "it cannot be reached. Is it on, and in this network?"),
    ("timed out", "it does not answer. Is it on, and in this network?"),
)  # fmt: skip
FULL = re.compile(r"No space left on device|Disk quota exceeded")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a script on the host said."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line that says something, of errors first."""
        lines = [line.strip() for line in (*self.out.splitlines(), *self.err.splitlines()) if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


def broken(host: Destination, why: str = "") -> LinkError:
    """The error of a link that went down in the middle, for a reason that nothing is known to do about."""
    because = f" ({why})" if why else ""
    return LinkError(f"{host.address}: the connection broke{because}. Run the same command again: what is done is kept.")


def disk_full(host: Destination) -> RemoteError:
    """The error of a host's disk that filled in the middle."""
    return RemoteError(f"{host.address}: the disk is full at {host.folder}. Free space there, or choose another --dir.")


class Ssh:
    """One connection, shared by all that is done on a host. Use it as a context manager.

    ``command`` is ssh with options of the user's own, as ``rsync -e`` takes it.
    """

    def __init__(self, host: Destination, command: str = "ssh") -> None:
        self.host = host
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._folder = tempfile.TemporaryDirectory(prefix="edgevit-", ignore_cleanup_errors=True)
        self._command = [*shlex.split(command), *(part for option in OPTIONS for part in ("-o", option))]
        self._command += ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={self._folder.name}/c"]
        self._command += ["-p", str(host.port)] if host.port else []

    def run(self, script: str, *arguments: str, seconds: float | None = None) -> Answer:
        """Run a POSIX shell ``script`` there with ``arguments`` as $1, $2, ...

        Raises LinkError if the host cannot be reached or the link breaks, RemoteError if its disk is full.
        """
        return self.ask("sh", "-s", "--", *arguments, text=script, seconds=seconds)

    def ask(self, *command: str, text: str = "", seconds: float | None = None) -> Answer:
        """Run a program there with ``text`` as its input, which no list of processes shows. Raises as `run`."""
        remote = shlex.join(["exec", *command])
        found = self._local([*self._command, "--", self.host.ssh, remote], text, seconds)
        if found.code == BROKEN:
            raise LinkError(self._reason(found.err))
        if FULL.search(found.err):
            raise disk_full(self.host)
        return found

    def listen(self, *command: str) -> subprocess.Popen[str]:
        """Run a program there whose output is read while it comes."""
        process = self._start([*self._command, "--", self.host.ssh, shlex.join(["exec", *command])])
        assert process.stdin is not None
        process.stdin.close()
        return process

    def hold(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Run ``script`` there for as long as the connection, or until its input ends."""
        remote = shlex.join(["exec", "sh", "-c", script, "sh", *arguments])
        return self._start([*self._command, "--", self.host.ssh, remote])

    def push(self, local: Path, remote: str, *options: str) -> int:
        """Copy a file, or what is in a folder, to ``remote``; returns how many bytes went. What arrived before a cut is kept."""
        return self._rsync(_here(local) + ("/" if local.is_dir() else ""), f"{self.host.rsync}:{remote}", *options)

    def fetch(self, remote: str, local: Path, *options: str, largest: int) -> int:
        """Copy a file, or a folder with a trailing slash, from ``remote``, with no file over ``largest`` bytes.

        Raises StorageError if the disk here is full, RemoteError if the host sends more.
        """
        return self._rsync(f"{self.host.rsync}:{remote}", _here(local), *options, full=local, largest=largest)

    def _rsync(self, source: str, target: str, *options: str, full: Path | None = None, largest: int | None = None) -> int:
        # The system's own limit, in blocks of 512 bytes: rsync believes the host's word on sizes.
        limit = ["sh", "-c", 'trap "" XFSZ; ulimit -f "$0"; exec "$@"', str(largest // 512 + 1)] if largest is not None else []
        # Contents count, not times; -s: no shell of the host's reads the paths.
        command = [*limit, "rsync", "-rts", "--checksum", "--delete", "--partial-dir=.partial", f"--timeout={SILENT}", "--stats"]
        found = self._local([*command, *options, "-e", shlex.join(self._command), "--", source, target], "", None)
        if found.code == 0:
            sent = re.search(r"Literal data: ([\d,.]+)", found.out)
            return int(re.sub(r"\D", "", sent[1])) if sent else 0
        if largest is not None and "File too large" in found.err:
            msg = f"{self.host.address}: sends a file of over {largest / 2**20:.0f} MiB, and the bundle has none. Look there."
            raise RemoteError(msg)
        if FULL.search(found.err):
            if full is not None:
                msg = f"{full}: the disk here is full. Free space, or choose another place with -o."
                raise StorageError(msg)
            raise disk_full(self.host)
        if found.code in (BROKEN, 10, 12, 20, 30, 35):  # ssh, socket, protocol, interrupted, time-outs
            raise LinkError(self._reason(found.err))
        msg = f"{self.host.address}: rsync failed ({found.code}): {found.last}"
        raise RemoteError(msg)

    def _local(self, command: Sequence[str], text: str, seconds: float | None) -> Answer:
        with self._start(command) as process:
            try:
                out, err = communicate(process, text, seconds)
            except subprocess.TimeoutExpired as error:
                process.kill()
                msg = f"{self.host.address}: no answer for {seconds:g} s. Run the same command again: what is done is kept."
                raise LinkError(msg) from error
            except FloodError as error:
                msg = (
                    f"{self.host.address}: answers with over {MOST_BYTES // 2**20} MiB, where a few kB are expected. Look there."
                )
                raise RemoteError(msg) from error
            finally:
                self._running.discard(process)
        if self._stopped:
            raise broken(self.host)
        return Answer(code=process.returncode, out=out, err=err)

    def _start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        try:
            # In a session of its own: Ctrl-C is for this program, which then ends its connections in order.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            msg = f"deploy needs {error.filename}, which is not installed. Install it with: apt install openssh-client rsync"
            raise MissingPackageError(msg) from error
        self._running.add(process)
        if self._stopped:
            process.kill()
        return process

    def stop(self) -> None:
        """End all that runs over the connection, from another thread."""
        self._stopped = True
        for process in tuple(self._running):
            process.kill()

    def _reason(self, said: str) -> str:
        port = f" -p {self.host.port}" if self.host.port else ""
        for mark, reason in _REASONS:
            if mark in said:
                return f"{self.host.address}: {reason.format(host=self.host.ssh + port, forget=self._forget(said))}"
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("rsync")]
        return str(broken(self.host, lines[-1].rstrip(".") if lines else ""))

    def _forget(self, said: str) -> str:
        """The command that takes a host's old key out of the file where it is; ssh knows it best."""
        if told := re.search(r"ssh-keygen -f .* -R .*", said):
            return told[0].strip()
        host = self.host.ssh.rpartition("@")[2]
        return shlex.join(["ssh-keygen", "-R", f"[{host}]:{self.host.port}" if self.host.port else host])

    def close(self) -> None:
        """End the shared connection."""
        command = [*self._command, "-O", "exit", "--", self.host.ssh]
        with suppress(subprocess.TimeoutExpired, OSError):
            subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False, start_new_session=True
            )
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def only(names: Iterable[str]) -> list[str]:
    """Options of `Ssh.push` and `Ssh.fetch` of a folder: nothing in it goes, or stays there, but files of these ``names``."""
    included = (f"--include=/{name}" for name in sorted(names))
    return ["--delete-excluded", "--filter=protect .partial", *included, "--exclude=*"]


def _here(path: Path) -> str:
    """Absolute: rsync takes ``a:b`` for a file on the host a."""
    return str(path.absolute())
