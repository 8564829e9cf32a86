"""Several cameras on one engine: fair turns, nobody starves, nobody who is away holds up the others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import ConfigError, SourceError
from edgevit.runtime.cameras import Camera
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.loop import Result, classify_cameras
from edgevit.runtime.recovery import Live, Recovery
from edgevit.runtime.source import open_source
from tests.runtime.fakes import CONTRACT, LABELS, FakeCamera, FakeSession, Notes, frame, write_video


class Endless(Source):
    """A source that always has a frame."""

    description = "endless"

    def __init__(self, *, live: bool = True, level: int = 0) -> None:
        self.live, self.level = live, level

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            yield frame(index=index, level=self.level, captured=time.perf_counter())
            index += 1
            if self.live:
                time.sleep(0.001)


class Silent(Source):
    """A camera that is on and never shows anything."""

    live, description = True, "silent"

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        self.closed.wait()
        yield from ()

    def close(self) -> None:
        self.closed.set()


def cameras(**sources: Source) -> list[Camera]:
    return [Camera(name=name, source=source) for name, source in sources.items()]


def classified(found: list[Camera], count: int, *, seconds: float = 0.002, **options) -> list[Result]:
    results = classify_cameras(found, FakeSession(seconds), CONTRACT, LABELS, **options)
    taken = [result for _, result in zip(range(count), results, strict=False)]
    results.close()
    return taken


def order(results: list[Result]) -> str:
    return "".join(str(result.camera) for result in results)


def test_cameras_that_always_have_a_frame_take_turns() -> None:
    taken = classified(cameras(a=Endless(), b=Endless(), c=Endless(live=False)), 60, seconds=0.005)
    counts = Counter(order(taken))
    assert max(counts.values()) - min(counts.values()) <= 3  # the first frames come when each thread has begun
    late = order(taken)[15:]
    assert all(sorted(late[at : at + 3]) == ["a", "b", "c"] for at in range(0, len(late) - 2, 3)), late


def test_slow_camera_is_served_at_once_and_a_silent_one_costs_nothing() -> None:
    silent = Silent()
    found = cameras(fast=Endless(), slow=FakeCamera(frames=10**6, seconds=0.05), silent=silent)
    taken = classified(found, 100, seconds=0.005)
    silent.close()
    slow = [result for result in taken if result.camera == "slow"]
    assert 4 <= len(slow) <= 14  # 0.5 s and more of 20 frames a second
    assert all(result.dropped == 0 for result in slow)
    assert sorted(result.latency_ms for result in slow)[len(slow) // 2] < 30  # at most one inference of the other, and its own


def test_drops_are_counted_for_each_camera_by_itself() -> None:
    taken = classified(cameras(a=Endless(), b=Endless(live=False)), 40, seconds=0.01)
    for name in "ab":
        own = [result for result in taken if result.camera == name]
        assert sum(result.dropped for result in own) == own[-1].frame.index + 1 - len(own)
    assert all(result.dropped == 0 for result in taken if result.camera == "b")  # a file waits
    assert any(result.dropped for result in taken if result.camera == "a")


def test_limit_is_of_each_and_the_end_of_one_is_not_the_end_of_all() -> None:
    taken = classified(cameras(a=FakeCamera(frames=3, seconds=0.001), b=Endless(), c=Endless(live=False)), 999, limit=7)
    assert Counter(order(taken))["b"] == Counter(order(taken))["c"] == 7
    assert Counter(order(taken))["a"] <= 3


def test_camera_that_fails_ends_itself_alone_and_is_raised_in_the_end() -> None:
    lost: dict[str, str] = {}
    found = cameras(bad=FakeCamera(frames=2, seconds=0.001, error=SourceError("unplugged")), good=Endless(live=False))
    results = classify_cameras(
        found, FakeSession(), CONTRACT, LABELS, limit=200, lost=lambda name, error: lost.update({name: str(error)})
    )
    counts: Counter[str | None] = Counter()
    with pytest.raises(SourceError, match="unplugged"):
        counts.update(result.camera for result in results)
    assert counts["good"] == 200
    assert lost == {"bad": "unplugged"}


def test_error_that_is_no_loss_of_a_camera_ends_the_run() -> None:
    found = cameras(bad=FakeCamera(frames=1, seconds=0.001, error=ZeroDivisionError("a bug")), good=Endless())
    with pytest.raises(ZeroDivisionError):
        for _ in classify_cameras(found, FakeSession(), CONTRACT, LABELS):
            pass


def test_no_thread_is_left_behind_and_leaving_does_not_add_up() -> None:
    before, silent = threading.active_count(), [Silent() for _ in range(4)]
    results = classify_cameras(cameras(a=Endless(), **{f"s{i}": each for i, each in enumerate(silent)}), FakeSession(), CONTRACT,
                               LABELS)  # fmt: skip
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 3.5  # four that hang are waited for together
    for each in silent:
        each.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_lost_connection_of_one_camera_does_not_stop_the_other(tmp_path: Path) -> None:
    """A real recovery: the reader of one ends, waits, and comes back, while the other goes on."""
    import cv2

    video, notes = write_video(tmp_path / "a.avi", [10] * 5), Notes()

    class Stream:
        fps = None

        def __init__(self) -> None:
            self._capture = cv2.VideoCapture(str(video))

        def grab(self) -> float | None:
            time.sleep(0.005)
            return time.perf_counter() if self._capture.grab() else None

        def image(self) -> np.ndarray | None:
            return self._capture.retrieve()[1]

        def close(self) -> None:
            self._capture.release()

    with Live("flapping", Stream, recovery=Recovery(first_delay=0.1), note=notes) as flapping:
        found = [Camera(name="flapping", source=flapping), Camera(name="steady", source=Endless())]
        taken = classified(found, 300, seconds=0.002)
    assert flapping.faults.lost >= 1
    assert Counter(result.camera for result in taken)["steady"] > 200
    assert any("Reconnecting" in note for note in notes)


def test_files_in_turns_give_every_frame_in_order(tmp_path: Path) -> None:
    with (
        open_source(str(write_video(tmp_path / "a.avi", list(range(0, 200, 10))))) as a,
        open_source(str(write_video(tmp_path / "b.avi", list(range(0, 100, 10))))) as b,
    ):
        taken = list(classify_cameras(cameras(a=a, b=b), FakeSession(), CONTRACT, LABELS))
    assert [result.frame.index for result in taken if result.camera == "a"] == list(range(20))
    assert [result.frame.index for result in taken if result.camera == "b"] == list(range(10))
    assert not any(result.dropped for result in taken)


def test_batches_are_for_files() -> None:
    class Batches(FakeSession):
        batch = 4

    with pytest.raises(ConfigError, match=r"--batch 4: .* is live"):
        next(classify_cameras(cameras(a=Endless()), Batches(), CONTRACT, LABELS))


def test_batch_gives_what_single_frames_give(tmp_path: Path) -> None:
    class Batches(FakeSession):
        batch, seen = 4, list[int]()

        def infer(self, frames_bgr: np.ndarray) -> np.ndarray:
            self.seen.append(len(frames_bgr))
            return super().infer(frames_bgr)

    video = write_video(tmp_path / "a.avi", list(range(0, 250, 25)))
    with open_source(str(video)) as source:
        single = list(classify_cameras(cameras(a=source), FakeSession(), CONTRACT, LABELS))
        batched = list(classify_cameras(cameras(a=source), Batches(), CONTRACT, LABELS))
        limited = list(classify_cameras(cameras(a=source), Batches(), CONTRACT, LABELS, limit=5))
    assert Batches.seen == [4, 4, 2, 4, 1]
    assert [each.predictions for each in batched] == [each.predictions for each in single]
    assert [each.frame.index for each in limited] == [0, 1, 2, 3, 4]
