"""Every frame of a file, the newest of a camera, and no thread left behind."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import EngineError, SourceError
from edgevit.runtime.frame import Source
from edgevit.runtime.images import Images
from edgevit.runtime.loop import Result, classify_frames
from edgevit.runtime.source import open_source
from tests.runtime.fakes import CONTRACT, LABELS, FakeCamera, FakeSession, write_image, write_video


def classified(source: Source, *, seconds: float = 0.0, limit: int | None = None) -> list[Result]:
    return list(classify_frames(source, FakeSession(seconds), CONTRACT, LABELS, limit=limit))


def capture_threads() -> int:
    return sum(thread.name == "capture" for thread in threading.enumerate())


def test_video_is_classified_frame_by_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [0, 128, 255, 255])
    with open_source(str(path)) as source:
        results = classified(source)
    assert [result.predictions[0].label for result in results] == ["dark", "gray", "bright", "bright"]
    assert [len(result.predictions) for result in results] == [3] * 4
    assert [result.dropped for result in results] == [0] * 4


def test_stages_add_up_to_the_latency(tmp_path: Path) -> None:
    with open_source(str(write_image(tmp_path / "a.png"))) as source:
        (result,) = classified(source, seconds=0.02)
    assert result.infer_ms >= 20
    assert result.read_ms > 0
    assert result.prepare_ms > 0
    assert result.latency_ms >= result.prepare_ms + result.infer_ms
    assert result.latency_ms == pytest.approx(1e3 * (result.finished - result.frame.captured))


def test_time_the_caller_takes_is_not_reading() -> None:
    with open_source("test://8x8?frames=3") as source:
        results = []
        for result in classify_frames(source, FakeSession(), CONTRACT, LABELS):
            results.append(result)
            time.sleep(0.05)
    assert max(result.read_ms for result in results[1:]) < 50


@pytest.mark.parametrize("uri", ["test://8x8?frames=9", "test://8x8@500?frames=400"])
def test_limit_ends_the_run(uri: str) -> None:
    with open_source(uri) as source:
        assert len(classified(source, limit=4)) == 4
    assert capture_threads() == 0


def test_slow_model_sees_the_newest_frame_and_counts_the_rest() -> None:
    camera = FakeCamera(frames=60, seconds=0.005)
    results = classified(camera, seconds=0.03)
    indices = [result.frame.index for result in results]
    assert indices == sorted(set(indices))
    assert indices[-1] == 59
    assert len(results) < 30
    assert len(results) + sum(result.dropped for result in results) == 60
    # A queue would make each frame wait longer than the one before; the mailbox keeps all about as fresh.
    assert max(result.latency_ms for result in results) < 30 + 100
    assert capture_threads() == 0


def test_fast_model_drops_nothing_and_sees_no_frame_twice() -> None:
    results = classified(FakeCamera(frames=10, seconds=0.02))
    assert [result.frame.index for result in results] == list(range(10))
    assert max(result.read_ms for result in results) >= 15


def test_leaving_early_stops_the_thread() -> None:
    camera = FakeCamera(frames=10**9, seconds=0.005)
    start = time.perf_counter()
    for _ in classify_frames(camera, FakeSession(), CONTRACT, LABELS):
        break
    assert time.perf_counter() - start < 1
    assert camera.left
    assert capture_threads() == 0


def test_interrupt_stops_the_thread() -> None:
    class Interrupted(FakeSession):
        def infer(self, frames_bgr: object) -> object:  # type: ignore[override]
            raise KeyboardInterrupt

    camera = FakeCamera(frames=10**9, seconds=0.005)
    with pytest.raises(KeyboardInterrupt):
        next(classify_frames(camera, Interrupted(), CONTRACT, LABELS))
    assert camera.left
    assert capture_threads() == 0


def test_closing_does_not_wait_for_a_camera_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.runtime.mailbox.STOP_SECONDS", 0.1)
    unplugged = threading.Event()

    class Hanging(FakeCamera):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from super().__iter__()
            unplugged.wait(10)

    results = classify_frames(Hanging(frames=1, seconds=0), FakeSession(), CONTRACT, LABELS)
    next(results)
    start = time.perf_counter()
    results.close()
    assert time.perf_counter() - start < 1
    unplugged.set()


def test_failing_camera_raises_after_its_last_frame() -> None:
    camera = FakeCamera(frames=2, seconds=0.03, error=SourceError("unplugged"))
    results = classify_frames(camera, FakeSession(), CONTRACT, LABELS)
    assert [next(results).frame.index, next(results).frame.index] == [0, 1]
    with pytest.raises(SourceError, match="unplugged"):
        next(results)
    assert capture_threads() == 0


def test_source_without_frames_gives_no_results() -> None:
    assert classified(FakeCamera(frames=0, seconds=0)) == []


class Failing(FakeSession):
    """Fails as often as told, then works."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def infer(self, frames_bgr: np.ndarray) -> np.ndarray:
        self.failures -= 1
        if self.failures >= 0:
            msg = "device lost"
            raise EngineError(msg)
        return super().infer(frames_bgr)


def test_engine_that_fails_once_gets_the_frame_again() -> None:
    results = list(classify_frames(FakeCamera(frames=3, seconds=0.02), Failing(1), CONTRACT, LABELS))
    assert [result.frame.index for result in results] == [0, 1, 2]
    assert [result.retries for result in results] == [1, 0, 0]


def test_engine_that_keeps_failing_ends_the_run() -> None:
    with pytest.raises(EngineError, match="device lost"):
        next(classify_frames(FakeCamera(frames=9, seconds=0.01), Failing(2), CONTRACT, LABELS))
    assert capture_threads() == 0


@pytest.mark.parametrize("cores", [1, 2])
def test_next_frame_of_a_file_is_prepared_while_the_engine_works(
    tmp_path: Path, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the engine, on one core, leaves a core free."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: set(range(cores)))

    class Slow(Images):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for frame in super().__iter__():
                time.sleep(0.04)
                yield frame

    for i in range(10):
        write_image(tmp_path / f"{i}.png")
    start = time.perf_counter()
    results = classified(Slow(tmp_path), seconds=0.04)
    assert (time.perf_counter() - start < 10 * 0.08 - 0.1) is (cores > 1)
    assert [result.frame.name for result in results] == [f"{i}.png" for i in range(10)]
    assert min(result.read_ms for result in results) >= 40
    assert capture_threads() == 0


def test_live_source_under_every_waits_for_its_reader() -> None:
    camera = FakeCamera(frames=6, seconds=0.001)
    camera.asked_policy = "every"
    assert [result.frame.index for result in classified(camera, seconds=0.02)] == list(range(6))


def test_leaving_a_file_early_stops_the_thread(tmp_path: Path) -> None:
    with open_source(str(write_video(tmp_path / "clip.avi", [0] * 20)), loop=True) as source:
        for _ in classify_frames(source, FakeSession(), CONTRACT, LABELS):
            break
    assert capture_threads() == 0
