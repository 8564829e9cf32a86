"""Real GStreamer pipelines and a real RTSP server, through OpenCV built with GStreamer and through FFmpeg."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from edgevit.errors import SourceError
from edgevit.runtime import gstreamer as pipelines
from edgevit.runtime.recovery import Recovery
from edgevit.runtime.source import open_source
from tests.runtime.fakes import write_video
from tests.runtime.gstreamer import RtspServer, free_port, pattern, start, system_python

SECRET = "p@ss/w0rd"
QUICK = Recovery(stall_seconds=2, first_delay=0.1, longest_delay=0.5)


@pytest.fixture(scope="session")
def board() -> Path:
    return system_python()


@pytest.fixture
def server(board: Path) -> Iterator[Callable[..., RtspServer]]:
    servers: list[RtspServer] = []

    def make(launch: str = "", **options: str) -> RtspServer:
        servers.append(RtspServer(launch or pattern("ball"), **options))
        return servers[-1]

    yield make
    for each in servers:
        each.kill()


class Run:
    """``edgevit run --json`` on the system's OpenCV, read line by line."""

    def __init__(self, python: Path, *arguments: object) -> None:
        self.process = start(python, "run", *arguments, "--json", "--engine", "onnxruntime", "--threads", 1, "--headless")
        self.lines: list[dict[str, Any]] = []
        self.stdout, self.notes = "", ""
        self._readers = [threading.Thread(target=read) for read in (self._results, self._text)]
        for reader in self._readers:
            reader.start()

    def _results(self) -> None:
        for line in self.process.stdout or ():
            self.stdout += line
            self.lines.append(json.loads(line))

    def _text(self) -> None:
        for line in self.process.stderr or ():
            self.notes += line

    def frames(self, count: int, seconds: float = 30) -> None:
        """Wait until so many more frames were classified."""
        wanted, deadline = len(self.lines) + count, time.monotonic() + seconds
        while len(self.lines) < wanted:
            assert self.process.poll() is None, self.notes
            assert time.monotonic() < deadline, f"{len(self.lines)} of {wanted} frames; {self.notes}"
            time.sleep(0.02)

    def end(self, number: signal.Signals | None = signal.SIGINT) -> dict[str, Any]:
        """Stop it, if asked to, and take its summary."""
        if number is not None:
            self.process.send_signal(number)
        self.process.wait(30)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return self.lines[-1]["summary"] if self.lines else {}


@pytest.fixture
def run(board: Path, bundle_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(*arguments: object) -> Run:
        runs.append(Run(board, bundle_path, *arguments))
        return runs[-1]

    yield make
    for each in runs:
        if each.process.poll() is None:
            each.process.kill()
            each.end(None)


def test_live_pipeline_is_classified(run: Callable[..., Run]) -> None:
    caps = "video/x-raw,width=320,height=240,framerate=30/1"
    classified = run(f"gst:videotestsrc is-live=true ! {caps}", "--limit", 20)
    summary = classified.end(None)
    assert classified.process.returncode == 0
    assert summary["frames"] == 20
    assert 20 < summary["fps"] < 40
    assert summary["faults"]["lost"] == 0


def test_pipeline_under_every_is_read_to_its_end(run: Callable[..., Run]) -> None:
    summary = run("gst:videotestsrc num-buffers=40 ! video/x-raw,width=64,height=48", "--policy", "every").end(None)
    assert (summary["frames"], summary["dropped"], summary["faults"]["lost"]) == (40, 0, 0)


def test_pipeline_gives_the_pictures_of_the_file(board: Path, tmp_path: Path) -> None:
    """Colours and order, through a real decoder."""
    path = write_video(tmp_path / "clip.avi", [0, 60, 120, 180, 240])
    code = """if True:
        import sys
        from edgevit.runtime.source import open_source
        uri = f"gst:filesrc location={sys.argv[1]} ! avidemux ! jpegdec"
        with open_source(uri, policy="every") as source:
            print([round(float(frame.image_bgr.mean())) for frame in source])
    """
    with start(board, path, code=code) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert json.loads(stdout) == pytest.approx([0, 60, 120, 180, 240], abs=6), stderr


def test_pipeline_that_cannot_run_says_why(run: Callable[..., Run]) -> None:
    broken = run("gst:nonsense user-pw=secret")
    broken.end(None)
    assert broken.process.returncode == 7
    assert "gst:nonsense user-pw=***: no picture came. GStreamer lacks nonsense. Try it with" in broken.notes


def test_rtsp_server_that_is_killed_and_started_again(run: Callable[..., Run], server: Callable[..., RtspServer]) -> None:
    stream = server(user="admin", password=SECRET)
    classified = run(stream.uri)
    classified.frames(20)
    stream.kill()
    time.sleep(1.5)
    shown = len(classified.lines)
    time.sleep(1)
    assert len(classified.lines) == shown, "frames were invented"
    stream.start()
    classified.frames(20)
    summary = classified.end()
    assert classified.process.returncode == 0
    faults = summary["faults"]
    assert (faults["lost"], faults["reconnected"]) == (1, 1)
    assert faults["down_seconds"] > 2
    assert "lost, " in classified.notes
    assert "back after" in classified.notes
    for text in (classified.stdout, classified.notes):
        assert "admin" not in text
        assert "w0rd" not in text
    assert summary["source"] == f"rtsp://127.0.0.1:{stream.port}/live"


def test_rtsp_server_that_freezes(run: Callable[..., Run], server: Callable[..., RtspServer]) -> None:
    stream = server()
    classified = run(stream.uri, "--stall", 1)
    classified.frames(10)
    stream.process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    stream.process.send_signal(signal.SIGCONT)
    classified.frames(20)
    faults = classified.end()["faults"]
    assert faults["stalled"] >= 1
    assert faults["reconnected"] == 1


def test_run_ends_at_once_while_its_stream_is_frozen(run: Callable[..., Run], server: Callable[..., RtspServer]) -> None:
    stream = server()
    classified = run(stream.uri)
    classified.frames(5)
    stream.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    began = time.monotonic()
    summary = classified.end(signal.SIGTERM)
    assert time.monotonic() - began < 10
    assert classified.process.returncode == 0
    assert summary["frames"] >= 5


def test_stream_that_stays_away_is_given_up(run: Callable[..., Run], server: Callable[..., RtspServer]) -> None:
    stream = server()
    classified = run(stream.uri, "--give-up", 1)
    classified.frames(5)
    stream.kill()
    summary = classified.end(None)
    assert classified.process.returncode == 7
    assert summary["frames"] >= 5
    assert "given up" in classified.notes


JPEG = (
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! jpegenc ! rtpjpegpay name=pay0 )"
)
H265 = pattern("ball").replace("x264enc", "x265enc").replace("rtph264pay", "rtph265pay")
SOFTWARE = """if True:
    import sys
    from itertools import islice
    from edgevit.runtime import gstreamer
    from edgevit.runtime.recovery import Live
    # As on a board whose decodebin cannot be used.
    has = gstreamer.Installed(disable_dpb=False, decodebin=False)
    candidates = gstreamer.rtsp_pipelines(sys.argv[1], gstreamer.Mode(), has)
    notes = []
    with Live("cam", gstreamer.opener("cam", candidates, "Hint.", 9), note=notes.append) as live:
        print([frame.image_bgr.shape for frame in islice(live, 3)], notes)
"""


@pytest.mark.parametrize(
    ("launch", "notes"),
    [
        (pattern("ball"), []),
        (H265, ["cam: through h265, avdec_h265, after h264, avdec_h264 (no picture)"]),
        (JPEG, ["cam: through JPEG, jpegdec, after h264, avdec_h264 (no picture), h265, avdec_h265 (no picture)"]),
    ],
    ids=["h264", "h265", "jpeg"],
)
def test_software_decoders_by_name(board: Path, server: Callable[..., RtspServer], launch: str, notes: list[str]) -> None:
    """What is left on a board whose hardware decodes nothing: each codec, real ones, found by trying."""
    with start(board, server(launch).uri, code=SOFTWARE) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert stdout == f"{[(240, 320, 3)] * 3} {notes}\n", stderr


@pytest.mark.parametrize("login", ["", "admin:wrong@"])
def test_stream_that_cannot_be_opened(run: Callable[..., Run], server: Callable[..., RtspServer], login: str) -> None:
    port = server(user="admin", password=SECRET).port if login else free_port()
    failed = run(f"rtsp://{login}127.0.0.1:{port}/live")
    failed.end(None)
    assert failed.process.returncode == 7
    said = rf"edgevit: rtsp://127\.0\.0\.1:{port}/live: nothing answers there \(Connection refused\)\. Check the address"
    if login:
        # OpenCV 4.6 may wait for ever for a pipeline that has failed already.
        tried = r"decodebin \((no picture|hangs)\), h264, avdec_h264 \((no picture|hangs)\)"
        said = rf"edgevit: rtsp://127\.0\.0\.1:{port}/live: no picture came\. Tried: {tried}.*\. Check the address"
    assert re.search(said, failed.notes), failed.notes
    assert "wrong" not in failed.notes


def test_rtsp_through_ffmpeg(board: Path, server: Callable[..., RtspServer], capfd: pytest.CaptureFixture[str]) -> None:
    """pip's OpenCV, in this process: the fallback."""
    if pipelines.built_in():
        pytest.skip("this OpenCV has GStreamer")
    stream = server(user="admin", password="secret")
    with open_source(stream.uri, recovery=QUICK) as source:
        frames = iter(source)
        assert [frame.image_bgr.shape for frame in islice(frames, 5)] == [(240, 320, 3)] * 5
        stream.kill()
        last = [frame.index for frame in islice(frames, 1)]
        stream.start()
        while source.faults.reconnected == 0:
            last.append(next(frames).index)
        assert last == sorted(set(last))
        assert source.faults.lost == 1
    stream.kill()
    with pytest.raises(SourceError, match=rf"^rtsp://127.0.0.1:{stream.port}/live: no picture came"):
        open_source(stream.uri)
    assert "secret" not in "".join(capfd.readouterr())


def test_resolution_changes_under_way(run: Callable[..., Run], server: Callable[..., RtspServer]) -> None:
    stream = server()
    classified = run(stream.uri)
    classified.frames(5)
    stream.kill()
    stream._arguments = (pattern("ball", size="width=640,height=360"), "", "")
    stream.start()
    classified.frames(10)
    assert classified.end()["faults"]["resized"] == 1
