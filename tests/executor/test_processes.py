"""Tasks in this process and in others: the same results, whatever becomes of the workers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edgevit.errors import DataError, StorageError
from edgevit.executor.base import Executor
from edgevit.executor.outcome import TaskError
from edgevit.executor.processes import Processes
from edgevit.executor.serial import Serial
from edgevit.executor.task import Task, Warm
from tests.executor import work
from tests.support import ROOT

KINDS = {"serial": Serial, "one process": partial(Processes, 1), "two processes": partial(Processes, 2)}


def tasks(function: Callable[..., object], *arguments: object) -> list[Task]:
    return [Task(name=f"task {argument}", function=function, argument=argument) for argument in arguments]


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def executor(request: pytest.FixtureRequest):
    with request.param() as executor:
        yield executor


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pids: list[int], within: float = 10.0) -> bool:
    until = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_every_task_is_done_once_and_known_by_its_position(executor: Executor) -> None:
    found = list(executor.map(tasks(work.square, *range(20))))
    assert sorted(found) == [(number, number**2) for number in range(20)]
    assert list(executor.map([])) == []
    assert sorted(executor.map(tasks(work.square, 3), exclusive=True)) == [(0, 9)]


def test_content_reaches_every_worker(executor: Executor) -> None:
    content = os.urandom(100_000)
    blob = executor.share(content)
    assert executor.share(content).digest == blob.digest == hashlib.sha256(content).hexdigest()
    assert {found for _, found in executor.map(tasks(work.length, *[blob] * 4))} == {(100_000, blob.digest)}


def test_what_a_task_raises_is_raised_here(executor: Executor) -> None:
    with pytest.raises(DataError, match="cells/7"):
        list(executor.map(tasks(work.wrong, "cells/7.png: cut off")))
    with pytest.raises((TaskError, ZeroDivisionError), match="by nothing"):
        list(executor.map(tasks(work.broken, "by nothing")))
    assert list(executor.map(tasks(work.square, 2))) == [(0, 4)], "it goes on with others afterwards"


def test_a_function_that_only_this_process_knows_is_refused() -> None:
    def local(argument: object, _warm: Warm) -> object:
        return argument

    for function in (local, lambda argument, _warm: argument, Warm.get):
        with pytest.raises(TypeError, match=r"odd: .* is no function of a module"):
            Task(name="odd", function=function, argument=None)


def test_what_cannot_be_sent() -> None:
    with Processes(1) as executor:
        with pytest.raises(TypeError, match=r"task .*: cannot be sent to another process"):
            list(executor.map(tasks(work.square, lambda: None)))
        with pytest.raises(TaskError, match=r"task x: .*pickle"):
            list(executor.map(tasks(work.unsendable, "x")))


def test_workers_stay_warm_and_keep_one_thing() -> None:
    with Processes(1) as executor:
        assert [count for _, count in executor.map(tasks(work.counted, *range(3)))] == [1, 2, 3]
        assert [count for _, count in executor.map(tasks(work.counted, *range(3)))] == [4, 5, 6]
    warm, closed = Warm(), []

    class Engine:
        def close(self) -> None:
            closed.append(self)

    first = warm.get("a", Engine)
    assert warm.get("a", Engine) is first
    assert warm.get("b", Engine) is not first
    assert closed == [first]


def test_each_worker_has_its_own_threads() -> None:
    with Processes(1, threads=3) as executor:
        assert [found for _, found in executor.map(tasks(work.threads, 0))] == ["3"]
        assert executor.where == "1 process of 3 threads"


def test_a_killed_worker_loses_one_task(tmp_path: Path) -> None:
    with Processes(2) as executor:
        given = [*tasks(work.square, *range(6)), *tasks(work.once_deadly, tmp_path / "died"), *tasks(work.square, *range(6, 12))]
        found = dict(executor.map(given))
        assert found == {i: number**2 for i, number in enumerate([*range(6), -1, *range(6, 12)])} | {6: "done"}
        assert (tmp_path / "died").exists()


def test_workers_that_are_killed_from_outside(tmp_path: Path) -> None:
    """One while it works, and another while it waits."""
    with Processes(2) as executor:
        killed = 0
        for _position, _result in executor.map(tasks(work.nap, *[0.1] * 10)):
            if killed < 2 and executor.pids:
                os.kill(executor.pids[0], signal.SIGKILL)
                killed += 1
        assert killed == 2
        assert list(executor.map(tasks(work.square, 5))) == [(0, 25)]


def test_a_task_that_kills_every_worker_is_said(tmp_path: Path) -> None:
    with Processes(1) as executor, pytest.raises(StorageError, match=r"task x: 3 workers died at it, the last by SIGKILL"):
        list(executor.map(tasks(work.deadly, "x")))


def test_nothing_runs_beside_exclusive_tasks() -> None:
    with Processes(2) as executor:
        others = {pid for _, pid in executor.map(tasks(work.me, *range(4)))}
        assert os.getpid() not in others
        assert {pid for _, pid in executor.map(tasks(work.me, *range(4)), exclusive=True)} == {os.getpid()}
        list(executor.map(tasks(work.me, 0)))
        pids = executor.pids
        with executor.alone():
            assert executor.pids == []
            assert gone(pids)


def test_whoever_stops_listening_leaves_no_busy_worker() -> None:
    with Processes(2) as executor:
        found = executor.map(tasks(work.nap, 0.0, 60.0, 60.0))
        next(found)
        pids = executor.pids
        found.close()  # type: ignore[attr-defined]
        assert not any(alive(pid) for pid in pids if pid not in executor.pids)
    assert gone(pids)


LONG = """
import sys
from edgevit.executor.processes import Processes
from edgevit.executor.task import Task
from tests.executor import work
with Processes(2) as executor:
    waiting = executor.map([Task(name=str(long), function=work.nap, argument=long) for long in (0.0, 60.0, 60.0)])
    next(waiting)
    print(*executor.pids, flush=True)
    next(waiting)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(how: signal.Signals) -> None:
    """Ctrl-C goes to the whole group of a terminal, as here; a killed parent can end nobody."""
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{LONG}"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert pids
        time.sleep(0.2)
        if how is signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        process.wait(timeout=10)
        assert gone(pids)
