"""Live sources through everything that happens to cameras, on streams that do as they are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import numpy as np
import pytest

from edgevit.errors import SourceError
from edgevit.runtime import recovery
from edgevit.runtime.frame import Frame
from edgevit.runtime.recovery import Live, Recovery

FAST = Recovery(stall_seconds=0.15, open_seconds=0.3, first_delay=0.01, longest_delay=0.05)
IMAGE = np.zeros((4, 6, 3), np.uint8)
END, DAMAGED = "end", "damaged"


class FakeStream:
    """Plays ``script``: pictures, DAMAGED, END, seconds to wait, or an event to hang on."""

    fps = 30.0

    def __init__(self, script: list[object], seconds: float = 0.005) -> None:
        self.script, self.seconds, self.closed, self.current = iter(script), seconds, False, None

    def grab(self) -> float | None:
        assert not self.closed
        time.sleep(self.seconds)
        self.current = next(self.script, END)
        if isinstance(self.current, threading.Event):
            self.current.wait(20)
            self.current = IMAGE
        return None if self.current is END else time.perf_counter()

    def image(self) -> np.ndarray | None:
        return None if self.current is DAMAGED else self.current

    def close(self) -> None:
        self.closed = True


class Connections:
    """An opener: each connection plays the next script; one that is a string fails with it."""

    def __init__(self, *scripts: list[object] | str) -> None:
        self.scripts, self.streams, self.times = iter(scripts), [], []

    def __call__(self) -> FakeStream:
        self.times.append(time.perf_counter())
        script = next(self.scripts, "unplugged")
        if isinstance(script, str):
            raise SourceError(script)
        self.streams.append(FakeStream(script))
        return self.streams[-1]


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    opened: list[Live] = []

    def make(*scripts: list[object] | str, **options: object) -> Live:
        options.setdefault("policy", "every")
        opened.append(Live("fake", Connections(*scripts), **{"recovery": FAST, **options}))
        return opened[-1]

    yield make
    for source in opened:
        source.close()


def capture_threads() -> int:
    return sum(thread.name == "capture" for thread in threading.enumerate())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + 5
    while not condition():
        assert time.perf_counter() < deadline, "waited 5 s"
        time.sleep(0.005)


def test_lost_connection_is_opened_again(live: Callable[..., Live]) -> None:
    notes: list[str] = []
    source = live([IMAGE] * 3, "no such camera", "no such camera", [IMAGE] * 50, note=notes.append)
    frames = list(islice(source, 6))
    assert [frame.index for frame in frames] == list(range(6))
    stamps = [frame.captured for frame in frames]
    assert stamps == sorted(stamps)
    assert (source.faults.lost, source.faults.reconnected, source.faults.stalled) == (1, 1, 0)
    assert source.faults.down_seconds == pytest.approx(stamps[3] - stamps[2], abs=0.05)
    assert source.faults.last == "no such camera"
    assert notes[0] == "fake: lost, the stream ended. Reconnecting, first in 0.01 s."
    assert notes[1].startswith("fake: back after ")
    assert source._opener.streams[0].closed  # type: ignore[attr-defined]


def test_delays_double_up_to_a_limit() -> None:
    assert [Recovery().delay(failures) for failures in (1, 2, 3, 5, 6, 7, 10**6)] == [0.5, 1, 2, 8, 10, 10, 10]


def test_connections_that_flap_are_made_ever_more_slowly(live: Callable[..., Live]) -> None:
    source = live(*[[IMAGE]] * 20, recovery=Recovery(first_delay=0.02, longest_delay=0.16))
    list(islice(source, 6))
    times = source._opener.times  # type: ignore[attr-defined]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[0] < 0.1
    assert gaps[3] >= 0.16


def test_first_failure_is_an_error_at_once(live: Callable[..., Live]) -> None:
    with pytest.raises(SourceError, match="no permission"):
        live("no permission", [IMAGE])
    until(lambda: capture_threads() == 0)


def test_connection_without_a_frame_is_an_error(live: Callable[..., Live]) -> None:
    hang = threading.Event()
    with pytest.raises(SourceError, match=r"fake: no frame within 0.3 s. Is it on"):
        live([hang])
    hang.set()
    until(lambda: capture_threads() == 0)


def test_stalled_stream_is_left_and_its_late_frame_thrown_away(live: Callable[..., Live]) -> None:
    hang = threading.Event()
    source = live([IMAGE, hang, IMAGE], [IMAGE + 1] * 1000)
    frames = iter(source)
    assert next(frames).image_bgr.max() == 0
    start = time.perf_counter()
    assert next(frames).image_bgr.max() == 1
    assert 0.15 <= time.perf_counter() - start < 2
    assert (source.faults.lost, source.faults.stalled, source.faults.reconnected) == (1, 1, 1)
    assert source.faults.last == "no frame for 0.15 s"
    hang.set()
    until(lambda: source.faults.stale == 1)
    assert all(frame.image_bgr.max() == 1 for frame in islice(frames, 20))
    assert source._opener.streams[0].closed  # type: ignore[attr-defined]


def test_reader_that_is_slow_is_no_stall(live: Callable[..., Live]) -> None:
    for policy in ("every", "latest"):
        source = live([IMAGE] * 1000, policy=policy)
        for _ in islice(source, 3):
            time.sleep(0.3)
        assert source.faults.stalled == 0


def test_reads_that_hang_are_bounded(live: Callable[..., Live], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "CLOSE_SECONDS", 0.05)
    hang = threading.Event()
    source = live(*[[IMAGE, hang]] * 20)
    with pytest.raises(SourceError, match="fake: 4 reads hang and cannot be ended"):
        list(source)
    assert capture_threads() == recovery.MAX_HANGING
    start = time.perf_counter()
    source.close()
    assert time.perf_counter() - start < 1
    hang.set()
    until(lambda: capture_threads() == 0)


@pytest.mark.parametrize("seconds", [0, 0.1])
def test_source_that_stays_away_is_given_up_when_told_to(live: Callable[..., Live], seconds: float) -> None:
    source = live([IMAGE] * 2, recovery=Recovery(first_delay=0.01, longest_delay=0.02, give_up_seconds=seconds))
    frames = iter(source)
    assert [next(frames).index, next(frames).index] == [0, 1]
    start = time.perf_counter()
    with pytest.raises(SourceError, match=r"fake: gone for 0 s, given up\. Last: "):
        next(frames)
    assert seconds <= time.perf_counter() - start < seconds + 1
    until(lambda: capture_threads() == 0)


def test_damaged_pictures_are_counted_and_skipped(live: Callable[..., Live]) -> None:
    source = live([IMAGE, DAMAGED, DAMAGED, *[IMAGE] * 50])
    assert [frame.index for frame in islice(source, 3)] == [0, 1, 2]
    assert (source.skipped, source.first_skipped, source.faults.lost) == (2, "frame 1", 0)


def test_nothing_but_damaged_pictures_is_a_lost_connection(live: Callable[..., Live]) -> None:
    source = live([IMAGE, *[DAMAGED] * 100], [IMAGE] * 100)
    list(islice(source, 3))
    assert (source.skipped, source.faults.lost) == (recovery.MAX_DAMAGED, 1)


def test_change_of_size_is_counted(live: Callable[..., Live]) -> None:
    source = live([IMAGE, IMAGE, np.zeros((8, 12, 3), np.uint8), IMAGE, IMAGE])
    shapes = [frame.image_bgr.shape[:2] for frame in islice(source, 4)]
    assert shapes == [(4, 6), (4, 6), (8, 12), (4, 6)]
    assert source.faults.resized == 2


def test_latest_gives_the_newest_and_every_gives_all(live: Callable[..., Live]) -> None:
    def indices(policy: str) -> list[int]:
        taken = []
        for frame in islice(live([IMAGE] * 10**4, policy=policy), 4):
            taken.append(frame.index)
            time.sleep(0.05)
        return taken

    assert indices("every") == [0, 1, 2, 3]
    newest = indices("latest")
    assert newest == sorted(set(newest))
    assert newest[-1] > 9


def test_close_ends_a_wait_and_a_back_off_at_once(live: Callable[..., Live]) -> None:
    source = live([IMAGE], recovery=Recovery(first_delay=60, longest_delay=60))
    seen: list[Frame] = []
    reader = threading.Thread(target=lambda: seen.extend(source))
    reader.start()
    until(lambda: source.faults.lost == 1)
    start = time.perf_counter()
    source.close()
    reader.join(5)
    assert time.perf_counter() - start < 0.5
    assert not reader.is_alive()
    assert len(seen) == 1
    assert capture_threads() == 0
    source.close()


def test_bug_in_a_stream_is_raised_where_frames_are_taken(live: Callable[..., Live]) -> None:
    source = live([IMAGE, 5])
    with pytest.raises(AttributeError):
        list(source)
