"""The process that keeps a run going where there is no systemd: started anew when it fails or falls silent, its words kept.

It does what the unit of `edgevit.device.service` asks of systemd, with the same numbers and over the same protocol: the run says
that it is up, and alive, through NOTIFY_SOCKET. SIGTERM ends both, the run with its summary.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from edgevit.device.service import HOPELESS, INTERRUPTED, STARTING_S

FIRST_S, LONGEST_S = 2.0, 60.0
"""Before it is started anew: twice as long each time, until it has run for `LONGEST_S`."""
STOPPING_S = 15.0
LOG_BYTES = 512 * 2**10
"""When the log is as long as this, it becomes the old one, and another begins."""
PR_SET_PDEATHSIG = 1
"""As in <linux/prctl.h>."""
LINE_BYTES = 8192
"""A longer line is kept as several."""
TICK_S = 0.2
PARENT = "EDGEVIT_SUPERVISOR"
"""Environment variable: the supervisor's process, without which its run is not to go on."""


def end_with_supervisor() -> None:
    """Have the kernel end this process, as Ctrl-C does, when the supervisor that started it is gone: there shall be one."""
    parent = os.environ.get(PARENT, "")
    if not parent.isdecimal():
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGINT)


class Log:
    """A file of bounded length, and the one before it, ``NAME.1``. A disk that is full loses lines, no more."""

    def __init__(self, path: Path, most: int = LOG_BYTES) -> None:
        self._path, self._most = path, most
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Append a line, with the time before it."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z ").encode()
        with self._lock, suppress(OSError):
            with self._path.open("ab") as file:
                file.write(stamp + line.rstrip() + b"\n")
                long = file.tell() >= self._most
            if long:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))

    def say(self, text: str) -> None:
        """A line of the supervisor's own."""
        self.write(f"edgevit: {text}".encode("utf-8", "replace"))


class Supervisor:
    """Runs ``command`` until it ends well, fails in a way that no restart changes, or `stop` is asked for."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Log, *, socket_path: Path, watchdog_s: float,
        tell: Callable[[str, int], None] = lambda _condition, _restarts: None, first_s: float = FIRST_S,
    ) -> None:  # fmt: skip
        """``socket_path`` is made for the run's signs of life; ``tell`` gets the condition and the number of restarts."""
        self._command, self._environment, self._log, self._tell = list(command), dict(environment), log, tell
        self._path, self._watchdog_s, self._first_s = socket_path, watchdog_s, first_s
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def stop(self, *_: int | FrameType | None) -> None:
        """End the run and this; a signal's handler."""
        self._stopping.set()

    def run(self) -> int:
        """Until the end; the exit code of the last run, 0 if it was asked to stop."""
        restarts, pause = 0, self._first_s
        while True:
            self._tell("starting", restarts)
            began = time.monotonic()
            code = self._once(restarts)
            if self._stopping.is_set() or code in (0, INTERRUPTED):
                self._tell("stopped", restarts)
                return 0
            if code in HOPELESS:
                self._log.say(f"ended with exit code {code}, which no restart changes")
                self._tell(f"failed: exit code {code}", restarts)
                return code
            pause = self._first_s if time.monotonic() - began > LONGEST_S else pause
            self._log.say(f"ended with exit code {code}; starts again in {pause:g} s")
            if self._stopping.wait(pause):
                self._tell("stopped", restarts)
                return 0
            restarts, pause = restarts + 1, min(2 * pause, LONGEST_S)

    def _once(self, restarts: int) -> int:
        """One run, watched; its exit code, negative for a signal."""
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.bind(str(self._path))
            ear.settimeout(TICK_S)
            environment = self._environment | {
                "NOTIFY_SOCKET": str(self._path),
                "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6)),
                "PYTHONUNBUFFERED": "1",
                PARENT: str(os.getpid()),
            }
            child = subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            reader = threading.Thread(target=self._keep, args=(child,), daemon=True)
            reader.start()
            try:
                self._watch(child, ear, restarts)
            finally:
                if child.poll() is None:
                    self._end(child)
        reader.join(STOPPING_S)
        return child.returncode

    def _watch(self, child: subprocess.Popen[bytes], ear: socket.socket, restarts: int) -> None:
        """Until it ends, is to end, or gives no sign of life for too long."""
        patience, heard = float(STARTING_S), time.monotonic()
        while child.poll() is None and not self._stopping.is_set():
            try:
                said = ear.recv(4096)
            except TimeoutError:
                said = b""
            if b"READY=1" in said:
                patience = self._watchdog_s
                self._tell("running", restarts)
            if said:
                heard = time.monotonic()
            if time.monotonic() - heard > patience:
                self._log.say(f"no label for {patience:g} s: it is ended")
                child.kill()
                child.wait()

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """As Ctrl-C; then by force, with all that it started."""
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT)
        try:
            child.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            self._log.say(f"does not end within {STOPPING_S:g} s: it is killed")
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def _keep(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        with child.stdout as said:
            while line := said.readline(LINE_BYTES):
                self._log.write(line)
