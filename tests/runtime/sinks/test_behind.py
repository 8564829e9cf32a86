"""A sink behind the loop: slow, hanging or broken, it neither stalls the loop nor keeps the program from ending."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from edgevit.errors import StorageError
from edgevit.runtime.sinks import behind
from edgevit.runtime.sinks.base import Delivery
from edgevit.runtime.sinks.behind import Behind, without_picture
from edgevit.runtime.sinks.guard import Guarded
from tests.runtime.fakes import Notes, decision, eventually, frame


class Disk:
    """Keeps what it gets; waits for ``go`` at every item but the first, fails at the items in ``broken``."""

    def __init__(self, *, stuck: bool = False, broken: tuple[int, ...] = (), last: int | None = None) -> None:
        self.got: list[int] = []
        self.threads: set[int] = set()
        self.closed = 0
        self.go = threading.Event()
        self._stuck, self._broken, self._last = stuck, broken, last

    def __call__(self, item: int) -> bool:
        if self._stuck and item:
            self.go.wait(20)
        if item in self._broken:
            msg = f"item {item}: cannot write"
            raise StorageError(msg)
        self.got.append(item)
        self.threads.add(threading.get_ident())
        return item != self._last

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


def started(disk, *, size: int = 4, wait: bool = False, notes: Notes | None = None) -> tuple[Behind, Delivery]:
    delivery = Delivery(name="a.txt")
    return Behind(disk, delivery, note=Notes() if notes is None else notes, size=size, wait=wait), delivery


@pytest.mark.parametrize("wait", [False, True])
def test_items_arrive_in_order_on_one_other_thread(wait: bool) -> None:
    disk = Disk()
    sink, delivery = started(disk, size=1000, wait=wait)
    for i in range(100):
        assert sink(i) is True
    sink.close()
    sink.close()
    assert (disk.got, disk.closed) == (list(range(100)), 1)
    assert len(disk.threads) == 1
    assert threading.get_ident() not in disk.threads
    assert delivery == Delivery(name="a.txt")


def test_loop_runs_on_while_the_disk_hangs_and_what_is_left_out_is_told() -> None:
    disk, notes = Disk(stuck=True), Notes()
    sink, delivery = started(disk, notes=notes)
    start = time.monotonic()
    for i in range(1000):
        sink(i)
    assert time.monotonic() - start < 1
    assert notes == ["a.txt: does not keep up, results are left out. The run goes on"]
    assert delivery.dropped >= 994, "told while it goes on, and not at its end"
    disk.go.set()
    eventually(lambda: len(notes) == 2)
    assert notes[1] == "a.txt: keeps up again"
    sink(1000)
    sink.close()
    # One was under way, at most, when the queue of four was full.
    assert disk.got[0] == 0
    assert disk.got == sorted(disk.got)
    assert disk.got[-1] == 1000
    assert len(disk.got) + delivery.dropped == 1001
    assert delivery.dropped >= 994
    assert not delivery.complete
    assert delivery.error == "it did not keep up"


def test_files_wait_and_lose_nothing() -> None:
    class Slow(Disk):
        def __call__(self, item: int) -> bool:
            time.sleep(0.002)
            return super().__call__(item)

    disk = Slow()
    sink, delivery = started(disk, size=2, wait=True)
    for i in range(50):
        sink(i)
    sink.close()
    assert disk.got == list(range(50))
    assert delivery.complete


def test_closing_does_not_wait_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "CLOSE_SECONDS", 0.3)
    disk, notes = Disk(stuck=True), Notes()
    sink, delivery = started(disk, notes=notes)
    for i in range(4):
        sink(i)
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < 2
    assert delivery.dropped == 3, "the one under way, too"
    assert notes == ["a.txt: it hangs, and was not finished within 0.3 s"]
    disk.go.set()
    eventually(lambda: disk.closed)
    assert len(disk.got) <= 2, "what was given up is not written later"


def test_closing_that_hangs_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """All was written, but a video without its end cannot be played."""
    monkeypatch.setattr(behind, "CLOSE_SECONDS", 0.2)

    class NeverDone(Disk):
        def close(self) -> None:
            self.go.wait(20)

    disk = NeverDone()
    sink, delivery = started(disk)
    sink(0)
    sink.close()
    disk.go.set()
    assert not delivery.complete
    assert "it hangs" in (delivery.error or "")


def test_what_never_worked_is_raised_at_once() -> None:
    disk = Disk(broken=(0,))
    sink, _ = started(disk)
    with closing(sink), pytest.raises(StorageError, match="item 0"):
        sink(0)
    assert disk.closed == 1


def test_later_error_is_raised_at_the_next_item() -> None:
    disk = Disk(broken=(1,))
    sink, delivery = started(disk)
    sink(0)
    sink(1)
    with pytest.raises(StorageError, match="item 1"):
        eventually(lambda: sink(2) and False)
    sink.close()
    assert (disk.got, disk.closed) == ([0], 1)
    assert delivery.failed == 1


def test_error_after_the_last_item_is_counted() -> None:
    class Full(Disk):
        def close(self) -> None:
            msg = "disk full"
            raise StorageError(msg)

    sink, delivery = started(Full())
    sink(0)
    sink.close()
    assert (delivery.failed, delivery.error) == (1, "disk full")


def test_guard_within_keeps_its_promises() -> None:
    """A disk that fails later is left alone by the guard; the thread goes on."""
    disk, notes = Disk(broken=(2,)), Notes()
    guard = Guarded(disk, "a.txt", note=notes)
    sink = Behind(guard, guard.delivery, note=notes, size=10, wait=True)
    for i in range(5):
        sink(i)
    sink.close()
    assert disk.got == [0, 1]
    assert (guard.delivery.sent, guard.delivery.failed, guard.delivery.dropped) == (2, 1, 2)


def test_wish_to_end_is_handed_on() -> None:
    disk = Disk(last=1)
    sink, _ = started(disk)
    sink(0)
    sink(1)
    assert eventually(lambda: not sink(2))
    sink.close()


def test_lines_wait_without_their_pictures() -> None:
    whole = decision("cat", frame=frame(level=7))
    bare = without_picture(whole)
    assert bare.frame.image_bgr.nbytes == 0
    assert (bare.frame.index, bare.best, bare.frame.captured) == (whole.frame.index, whole.best, whole.frame.captured)
    assert np.all(whole.frame.image_bgr == 7)
