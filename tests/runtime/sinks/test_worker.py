"""What is slow or broken neither stalls the caller nor goes unsaid."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from edgevit.errors import StorageError
from edgevit.runtime.sinks.base import Delivery
from edgevit.runtime.sinks.guard import RETRY_SECONDS, Guarded
from edgevit.runtime.sinks.worker import Worker
from tests.runtime.fakes import Notes, eventually


def test_items_are_delivered_in_order() -> None:
    got: list[int] = []
    worker = Worker(Delivery(name="x"), got.append, note=Notes())
    for i in range(10):
        worker.put(i)
    worker.close()
    worker.close()
    assert got == list(range(10))
    assert worker.delivery == Delivery(name="x", sent=10)
    assert worker.delivery.line() == "x                 10 sent"


def test_full_queue_loses_the_oldest_and_never_waits() -> None:
    go, got = threading.Event(), []

    def deliver(item: int) -> None:
        got.append(item)
        go.wait(10)

    worker = Worker(Delivery(name="x"), deliver, note=Notes(), size=3)
    worker.put(0)
    eventually(lambda: got)
    for i in range(1, 1001):
        worker.put(i)
    go.set()
    worker.close()
    assert got == [0, 998, 999, 1000]
    assert (worker.delivery.sent, worker.delivery.dropped) == (4, 997)


def test_worker_that_waits_loses_nothing() -> None:
    got: list[int] = []

    def deliver(item: int) -> None:
        time.sleep(0.002)
        got.append(item)

    worker = Worker(Delivery(name="x"), deliver, note=Notes(), size=2, wait=True)
    for i in range(50):
        worker.put(i)
    worker.close()
    assert got == list(range(50))
    assert worker.delivery == Delivery(name="x", sent=50)


def test_close_frees_who_waits() -> None:
    hang = threading.Event()
    worker = Worker(Delivery(name="x"), lambda _item: hang.wait(30), note=Notes(), size=1, wait=True)
    waiting = threading.Thread(target=lambda: [worker.put(i) for i in range(3)], daemon=True)
    waiting.start()
    eventually(lambda: worker._items)
    worker.close(0.1)
    waiting.join(5)
    assert not waiting.is_alive()
    hang.set()


def test_failures_are_told_once_and_so_is_the_end_of_them() -> None:
    notes, broken = Notes(), [True, True, True, False, False, True]

    def deliver(item: int) -> None:
        if broken[item]:
            msg = "gone"
            raise OSError(msg)

    worker = Worker(Delivery(name="x"), deliver, note=notes)
    for i in range(6):
        worker.put(i)
    worker.close()
    assert notes == ["x: gone. The run goes on", "x: works again", "x: gone. The run goes on"]
    assert worker.delivery.line() == "x                 2 sent, 4 failed (gone)"
    assert worker.delivery.failing
    assert "failing" not in worker.delivery.to_dict(), "a summary says what became of it"


def test_close_gives_up_on_what_hangs() -> None:
    hang = threading.Event()
    worker = Worker(Delivery(name="x"), lambda _item: hang.wait(30), note=Notes())
    for i in range(5):
        worker.put(i)
    start = time.monotonic()
    worker.close(0.2)
    assert time.monotonic() - start < 5
    hang.set()
    worker.put(6)
    assert worker.delivery.dropped == 5
    assert worker.delivery.sent == 0


# --- guard -----------------------------------------------------------------------------------------------------------


class Disk:
    """An output that fails while it is full."""

    full = closed = False

    def __init__(self) -> None:
        self.items: list[int] = []

    def __call__(self, item: int, /) -> bool:
        if self.full:
            msg = "a.txt: cannot write: No space left on device. Free space"
            raise StorageError(msg)
        self.items.append(item)
        return item < 100

    def close(self) -> None:
        self.closed = True


def test_output_that_never_worked_ends_the_run() -> None:
    disk = Disk()
    disk.full = True
    with pytest.raises(StorageError):
        Guarded(disk, "a.txt", note=Notes())(0)


def test_output_that_fails_later_is_left_alone_and_tried_again() -> None:
    disk, notes, now = Disk(), Notes(), 0.0
    with closing(Guarded(disk, "a.txt", note=notes, clock=lambda: now)) as guard:
        assert guard(0)
        disk.full = True
        for item in (1, 2, 3):
            assert guard(item)
        assert guard.delivery.failing
        now = RETRY_SECONDS + 1
        assert guard(4)
        disk.full = False
        assert guard(5)
        now *= 3
        assert guard(6)
        assert not guard.delivery.failing
        assert not guard(100), "what it says is handed on"
    assert disk.items == [0, 6, 100]
    assert disk.closed
    assert notes == ["a.txt: cannot write: No space left on device. Free space. The run goes on without it", "a.txt: works again"]
    assert (guard.delivery.sent, guard.delivery.failed, guard.delivery.dropped) == (3, 2, 3)
    assert not guard.delivery.complete


def test_output_that_cannot_go_on_is_not_tried_again() -> None:
    """A video is ended by its failure."""
    disk, now = Disk(), 0.0
    guard = Guarded(disk, "v.mp4", note=Notes(), retry=False, clock=lambda: now)
    guard(0)
    disk.full = True
    guard(1)
    disk.full, now = False, 1e9
    guard(2)
    assert disk.items == [0]
    assert guard.delivery.dropped == 1


def test_failure_to_close_is_told() -> None:
    class Stuck(Disk):
        def close(self) -> None:
            msg = "cannot rename"
            raise OSError(msg)

    notes = Notes()
    guard = Guarded(Stuck(), "v.mp4", note=notes)
    guard.close()
    assert notes == ["cannot rename. The run goes on without it"]
    assert not guard.delivery.complete
