"""Tasks in processes of this machine. A process that dies takes one task with it, which another does again."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from edgevit.executor.base import Closing, counted
from edgevit.executor.dispatch import LostWorkerError, dispatch
from edgevit.executor.outcome import Outcome
from edgevit.executor.serial import Serial
from edgevit.executor.task import Blob, Task, digest_of

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
"""Environment variables by which libraries decide how many threads they start."""


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """A `Blob` in a file without a name, which is gone with the process that made it, however that ends."""

    path: Path
    digest: str

    def read(self) -> bytes:
        """See `Blob.read`."""
        return self.path.read_bytes()


class Processes(Closing):
    """Up to ``workers`` processes, each with ``threads`` threads; see `edgevit.executor.base.Executor`.

    They are started when there is work for them, and stay warm. Exclusive tasks run in this process, one after the other, when
    nothing else does.
    """

    reaches_files = True

    def __init__(self, workers: int, *, threads: int = 1) -> None:
        self.workers, self.threads = workers, threads
        self._idle: list[_Process] = []
        self._busy: list[_Process] = []
        self._shared: dict[str, tuple[int, InMemory]] = {}

    @property
    def where(self) -> str:
        """See `Executor.where`."""
        return f"{counted(self.workers, 'process', 'processes')} of {counted(self.threads, 'thread')}"

    @property
    def pids(self) -> list[int]:
        """Ids of the workers that live."""
        return [seat.pid for seat in (*self._idle, *self._busy)]

    def share(self, content: bytes) -> Blob:
        """See `Executor.share`."""
        digest = digest_of(content)
        if digest not in self._shared:
            descriptor = os.memfd_create("edgevit")
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            self._shared[digest] = (descriptor, InMemory(path=Path(f"/proc/{os.getpid()}/fd/{descriptor}"), digest=digest))
        return self._shared[digest][1]

    def map(self, tasks: Iterable[Task], *, exclusive: bool = False) -> Iterator[tuple[int, Any]]:
        """See `Executor.map`."""
        if not exclusive:
            yield from dispatch(tasks, self)
            return
        with self.alone():
            yield from Serial(threads=self.threads).map(tasks)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Executor.alone`: no worker lives meanwhile, as an engine's idle threads still take a little."""
        self._end()
        yield

    def close(self) -> None:
        """See `Executor.close`."""
        self._end()
        for descriptor, _ in self._shared.values():
            os.close(descriptor)
        self._shared.clear()

    def free(self) -> _Process | None:
        """See `Seats.free`."""
        if not self._idle and len(self._busy) >= self.workers:
            return None
        seat = self._idle.pop() if self._idle else _Process(self.threads)
        self._busy.append(seat)
        return seat

    def leave(self, seat: _Process) -> None:
        """See `Seats.leave`."""
        self._busy.remove(seat)
        self._idle.append(seat)

    def lose(self, seat: _Process) -> None:
        """See `Seats.lose`."""
        self._busy.remove(seat)
        seat.end()

    def wait(self, busy: Sequence[_Process]) -> Sequence[_Process]:
        """See `Seats.wait`."""
        ready = wait([seat.line for seat in busy])
        return [seat for seat in busy if seat.line in ready]

    def _end(self) -> None:
        for seat in (*self._idle, *self._busy):
            seat.end()
        self._idle.clear()
        self._busy.clear()


class _Process:
    """One worker. A plain child, not multiprocessing's: that one would import a user's script once more."""

    def __init__(self, threads: int) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "edgevit.executor.worker", str(theirs.fileno()), str(os.getpid())]
        # What it imports is what this process would; the working folder only where that is so here.
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        environment = os.environ | dict.fromkeys(THREADS, str(threads)) | own
        with theirs:
            self._child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self.pid, self.line = self._child.pid, Connection(ours.detach())

    def give(self, task: Task) -> None:
        """See `Seat.give`."""
        try:
            content = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # pickle has several, and what is pickled may raise its own
            msg = f"{task.name}: cannot be sent to another process: {error}"
            raise TypeError(msg) from error
        try:
            self.line.send_bytes(content)
        except OSError as error:
            raise LostWorkerError(self._how()) from error

    def take(self) -> Outcome:
        """See `Seat.take`."""
        try:
            outcome: Outcome = self.line.recv()
        except (EOFError, OSError) as error:
            raise LostWorkerError(self._how()) from error
        return outcome

    def end(self) -> None:
        """See `Seat.end`."""
        self._child.kill()
        self._child.wait()
        self.line.close()

    def _how(self) -> str:
        """Of what it died."""
        code = self._child.wait()
        if code >= 0:
            return f"with exit code {code}"
        try:
            return f"by {signal.Signals(-code).name}"
        except ValueError:
            return f"by signal {-code}"
