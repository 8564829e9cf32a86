"""The file that says how a run goes: right, whole at every moment, and of no harm to the run."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgevit.errors import StateError
from edgevit.runtime.decide import UNKNOWN
from edgevit.runtime.faults import Faults
from edgevit.runtime.sinks import state as module
from edgevit.runtime.sinks.base import Delivery
from edgevit.runtime.sinks.state import StateFile, begun
from edgevit.runtime.state import RunState, parse_state, read_state
from tests.runtime.fakes import FakeCamera, decision, prediction
from tests.support import Outcome

DIGEST = "a" * 64


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.02)


@contextmanager
def opened(path: Path, notes: list[str] | None = None) -> Iterator[StateFile]:
    said: list[str] = [] if notes is None else notes
    file = StateFile(path, begun(DIGEST, "cells", "rtsp://***@camera/1", "0.1.0"), note=said.append)
    try:
        yield file
    finally:
        file.end(0)


def until(path: Path, right: Callable[[RunState], bool]) -> RunState:
    end = time.monotonic() + 10
    while True:
        found = read_state(path)
        if right(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.01)


def test_from_the_first_moment_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with opened(path) as file:
        first = read_state(path)
        assert (first.phase, first.bundle, first.frames, first.fps, first.engine) == ("starting", DIGEST, 0, None, None)
        assert first.started <= first.updated <= time.time()
        camera = FakeCamera(0, 0.0)
        camera.fps, camera.skipped, camera.faults = 25.0, 3, Faults(reconnected=2, last="no frame for 5 s")
        output = Delivery(name="mqtt", error="refused", failing=False)
        file.watch([camera], "fake 1 on numpy", lambda: [output], lambda: {"temperature_c": 51.5, "power_w": None})
        start = time.perf_counter()
        for number in range(101):  # 100 a second, of which 99 took 5 ms and two 20
            each = decision(
                finished=start - (100 - number) / 100, latency_ms=20.0 if number in (3, 4) else 5.0, dropped=number % 2
            )
            file(replace(each, best=prediction(UNKNOWN, index=-1)) if number < 10 else each)
        found = until(path, lambda state: state.frames == 101)
        assert found.phase == "running"
        assert found.fps == pytest.approx(100, rel=0.1)
        assert found.latency_ms is not None
        assert (found.latency_ms.p50, found.latency_ms.p99) == (5.0, 20.0)
        assert (found.dropped, found.unknown, found.skipped, found.reconnects) == (50, 10, 3, 2)
        assert found.unknown_share == pytest.approx(10 / 101)
        assert found.last_frame == pytest.approx(time.time(), abs=1)
        assert (found.source_fps, found.live, found.telemetry) == (25.0, True, {"temperature_c": 51.5})
        assert found.last_error == "no frame for 5 s"
        output.failing = True
        until(path, lambda state: state.last_error == "mqtt: refused")
        file.end(7, "rtsp://me:secret@camera/1: the server is gone\nat all")
    last = read_state(path)
    assert (last.phase, last.exit, last.frames) == ("ended", 7, 101)
    assert last.ended is not None
    assert last.last_error is not None
    assert "secret" not in path.read_text()
    assert "\n" not in last.last_error
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_the_rate_of_a_source_that_stalls_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "state.json") as file:
        now = time.perf_counter()
        for number in range(20):
            file(decision(finished=now - 2 + number / 10))  # ten a second, the last 0.1 s ago
        assert file.now().fps == pytest.approx(9.5, rel=0.02)
        monkeypatch.setattr(time, "perf_counter", lambda: now + 8)
        assert file.now().fps == pytest.approx(1.9, rel=0.02)
        monkeypatch.setattr(time, "perf_counter", lambda: now + 60)
        assert (file.now().fps, file.now().latency_ms) == (0.0, None)
        monkeypatch.undo()


def test_a_full_disk_is_survived(tmp_path: Path) -> None:
    """A real one, of 64 kB; the run goes on and the file is written again once there is room."""
    disk, notes = tmp_path / "disk", list[str]()
    disk.mkdir()
    if shutil.which("mount") is None or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("a small disk takes root")
    try:
        with opened(disk / "state.json", notes) as file:
            with (disk / "filling").open("wb", buffering=0) as filling, suppress(OSError):
                for _ in range(100):
                    filling.write(b"0" * 4096)
            end = time.monotonic() + 10
            while not notes and time.monotonic() < end:
                assert file(decision(finished=time.perf_counter())) is True
                time.sleep(0.01)
            assert "No space left on device" in notes[0]
            assert notes[0].endswith("The run goes on")
            (disk / "filling").unlink()
            before = file.now().frames
            until(disk / "state.json", lambda state: state.frames >= before)
        assert notes[1:] == [f"{disk / 'state.json'}: is written again"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    path, notes = tmp_path / "state.json", list[str]()
    path.write_text('{"mine": 1}')
    with opened(path, notes):
        pass
    assert path.read_text() == '{"mine": 1}'
    assert "holds something else" in notes[0]


def good() -> dict[str, Any]:
    return begun(DIGEST, "cells", "csi://0", "0.1.0").to_dict()


def test_it_reads_back_as_it_was() -> None:
    state = RunState(
        version="0.1.0", bundle=DIGEST, model="Größe\x1b", source="test://", pid=7, started=1.5, updated=2.5, frames=3, fps=2.0,
        telemetry={"mode": "MAXN", "temperature_c": 50.0},
    )  # fmt: skip
    assert parse_state(state.to_json()) == state
    assert parse_state(replace(state, fps=math.inf).to_json()).fps is None
    newer = {**state.to_dict(), "of a newer edgevit": [1]}
    assert parse_state(json.dumps(newer)) == state


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 0}, {"pid": True}, {"pid": "1"}, {"frames": -1}, {"frames": 1.5}, {"frames": 2**70}, {"bundle": "b"},
        {"bundle": None},
        {"fps": -1.0}, {"fps": math.nan}, {"updated": math.inf}, {"telemetry": {"a": math.nan}}, {"telemetry": {"a": []}},
        {"exit": 256}, {"latency_ms": {"p50": 1.0}}, {"last_error": "x" * 2001}, {"edgevit_state": 2}, {"model": "x" * 70_000},
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(change: dict[str, Any]) -> None:
    parse_state(json.dumps(good()))
    with pytest.raises(ValueError, match=r"."):
        parse_state(json.dumps(good() | change))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"edgevit_state": 1}', b"[" * 5000])
def test_what_is_no_json_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"state\.json: cannot be read as the state of a run") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StateError, match="there is no such file"):
        read_state(tmp_path / "none")
    with pytest.raises(StateError, match="Is a directory"):
        read_state(tmp_path)


@pytest.mark.parametrize(
    ("source", "code", "error"),
    [("test://32x32?frames=3", 0, None), ("/none/at all", 7, "no such file"), ("gst:nothing pw=hunter2", 7, "gst")],
)
def test_the_command_says_how_it_ended(
    source: str, code: int, error: str | None, edgevit: Callable[..., Outcome], bundle_path: Path, tmp_path: Path
) -> None:  # fmt: skip
    path = tmp_path / "made" / "state.json"
    assert edgevit("run", bundle_path, source, "--headless", "--state", path).code == code
    found = read_state(path)
    assert (found.exit, found.frames) == (code, 3 if error is None else 0)
    assert (found.last_error is None) == (error is None)
    assert error is None or error in (found.last_error or "")
    assert "hunter2" not in path.read_text()


def test_several_sources_are_one_run(tmp_path: Path) -> None:
    """Counts are sums, the rate to expect is known where every source's is, and a camera that is lost is told for good."""
    first, second = FakeCamera(0, 0.0), FakeCamera(0, 0.0)
    first.fps, first.skipped, first.faults = 25.0, 3, Faults(reconnected=2, last="no frame for 5 s")
    second.fps, second.skipped = 15.0, 1
    with opened(tmp_path / "state.json") as file:
        file.watch([first, second], "fake", list, None)
        found = file.now()
        assert (found.source_fps, found.live, found.skipped, found.reconnects) == (40.0, True, 4, 2)
        assert found.last_error == "no frame for 5 s"
        file.lose("door", "rtsp://me:secret@door/1: the server is gone")
        assert file.now().last_error == "door: rtsp://door/1: the server is gone"
        second.fps = None
        file.watch([first, second], "fake", list, None)
        assert file.now().source_fps is None
