"""Services that edgevit's own `supervisor` keeps, on machines without systemd; cron, where there is one, starts it with them."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress

from edgevit.errors import StateError, StorageError
from edgevit.files.bounded import read_bounded
from edgevit.files.fromjson import json_value
from edgevit.files.writing import write_whole
from edgevit.services.keeper import STATE, STATES, Status, command, runtime_folder
from edgevit.services.place import Place
from edgevit.services.supervisor import STOPPING_S, Log, Supervisor
from edgevit.services.wanted import Wanted

LOG, LOCK, TOLD = "log", "supervisor.lock", "supervisor.json"
BEGINS_S = 60.0
"""For Python to start, on a slow and busy board."""
DETACHED = 'setsid "$@" >/dev/null 2>&1 </dev/null &'
"""A child of nobody here: it outlives this process and the link."""
NO_CRON = "nothing starts it with the machine: there is neither systemd nor crontab. Have the machine's init run: {command}"


class Supervised:
    """A process that holds a lock for as long as it lives."""

    kind = "supervisor"
    what = "edgevit's own supervisor"

    def __init__(self, place: Place) -> None:
        self._place = place
        memory = runtime_folder()
        self.state = (memory / STATES / place.name if memory else place.root) / STATE

    def install(self, wanted: Wanted) -> list[str]:
        """An ``@reboot`` of cron's."""
        words = shlex.join(command(self._place, "supervise"))
        if shutil.which("crontab") is None:
            return [NO_CRON.format(command=words)]
        lines = [line for line in _crontab() if not line.endswith(self._mark)]
        return _write_crontab([*lines, f"@reboot {words} {self._mark}".replace("%", r"\%")])

    def start(self) -> None:
        """In a session of its own, which the link does not end."""
        (self._place.root / TOLD).unlink(missing_ok=True)  # what an older one told
        subprocess.run(["sh", "-c", DETACHED, "sh", *command(self._place, "supervise")], cwd="/", check=True)
        end = time.monotonic() + BEGINS_S
        while self._holder() is None:
            if self.status().condition == "failed":
                return
            if time.monotonic() > end:
                msg = f"{self.what} does not start. See {self._place.root / LOG} there."
                raise StateError(msg)
            time.sleep(0.1)

    def stop(self) -> None:
        """Wait until it and its run have ended."""
        pid = self._holder()
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + STOPPING_S + 10
        while self._holder() is not None:
            if time.monotonic() > end:
                msg = f"{self.what} does not end. There: kill -9 {pid}"
                raise StateError(msg)
            time.sleep(0.1)

    def status(self) -> Status:
        """As it told last, if it lives."""
        try:
            told = json_value(read_bounded(self._place.root / TOLD, 4096))
            condition, restarts = str(told["condition"]), int(told["restarts"])
        except (OSError, ValueError, KeyError, TypeError):
            condition, restarts = "", 0
        if self._holder() is not None:
            return Status(condition="running" if condition == "running" else "starting", restarts=restarts)
        if condition.startswith("failed"):
            return Status(condition="failed", restarts=restarts, why=condition.partition(": ")[2])
        if condition in ("running", "starting"):
            return Status(condition="failed", restarts=restarts, why="the supervisor was killed, or the machine went down")
        return Status(condition="stopped", restarts=restarts)

    def logs(self, lines: int) -> list[str]:
        """Of the log and the one before it."""
        found: list[str] = []
        for name in (f"{LOG}.1", LOG):
            with suppress(OSError):
                found += (self._place.root / name).read_text(encoding="utf-8", errors="replace").splitlines()
        return found[-lines:] if lines else []

    def following(self, lines: int) -> list[str]:
        """``tail``, which finds the new log when one begins."""
        return ["tail", "-n", str(lines), "-F", str(self._place.root / LOG)]

    def remove(self) -> None:
        """Not started with the machine any more."""
        if shutil.which("crontab") is not None:
            lines = _crontab()
            kept = [line for line in lines if not line.endswith(self._mark)]
            if kept != lines:
                _write_crontab(kept)

    @property
    def _mark(self) -> str:
        return f"# edgevit service {self._place.name}"

    def _holder(self) -> int | None:
        """The process that has the lock; None if nobody has."""
        try:
            descriptor = os.open(self._place.root / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode("ascii", "replace").strip()
            return int(text) if text.isdecimal() and int(text) > 1 else None
        else:
            return None
        finally:
            os.close(descriptor)

    def supervise(self, watchdog_s: float) -> int:
        """Be the supervisor; its exit code. At once 0 if there is one already."""
        descriptor = os.open(self._place.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self.state.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.umask(0o077)
        supervisor = Supervisor(
            command(self._place, "run"), {**os.environ, "EDGEVIT_STATE": str(self.state)}, Log(self._place.root / LOG),
            socket_path=self.state.with_name("notify"), watchdog_s=watchdog_s, tell=self._tell,
        )  # fmt: skip
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, supervisor.stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return supervisor.run()

    def _tell(self, condition: str, restarts: int) -> None:
        text = json.dumps({"condition": condition, "restarts": restarts})
        with suppress(StorageError):  # a full disk: the run goes on
            write_whole(self._place.root / TOLD, text, durable=False)


def _crontab() -> list[str]:
    """Its lines; none if there is none."""
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _write_crontab(lines: list[str]) -> list[str]:
    """What the user should know, if cron refuses."""
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(["crontab", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"nothing starts it with the machine: crontab refuses: {done.stderr.strip() or done.returncode}"]
    return []
