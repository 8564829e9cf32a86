"""Ways of connecting that fail, hang and work, one after the other: on streams that do as told, and on real pipelines."""

from __future__ import annotations

import json
import socket
import threading
import time
from itertools import islice

import cv2
import numpy as np
import pytest

from edgevit.errors import SourceError
from edgevit.runtime import ffmpeg, recovery
from edgevit.runtime.candidates import Candidates, DecoderCandidate
from edgevit.runtime.gstreamer import opener
from edgevit.runtime.recovery import Live, Recovery
from edgevit.runtime.rtsp import check_server
from edgevit.runtime.source import open_source
from edgevit.runtime.stream import UnreachableError
from tests.runtime.fakes import Notes, eventually
from tests.runtime.gstreamer import free_port, start, system_python

QUICK = Recovery(candidate_seconds=0.3, stall_seconds=0.3, first_delay=0.01, longest_delay=0.05)


class Pictures:
    """A stream of ``count`` pictures, then its end."""

    fps = None

    def __init__(self, count: int = 10**6) -> None:
        self.left, self.closed = count, False

    def grab(self) -> float | None:
        time.sleep(0.002)
        self.left -= 1
        return time.perf_counter() if self.left >= 0 else None

    def image(self) -> np.ndarray:
        return np.zeros((4, 6, 3), np.uint8)

    def close(self) -> None:
        self.closed = True


class Machine:
    """What becomes of each pipeline that is opened: ``fails``, ``hangs`` until `free` is set, or works."""

    def __init__(self) -> None:
        self.free, self.opened = threading.Event(), list[str]()

    def __call__(self, pipeline: str) -> Pictures:
        self.opened.append(pipeline)
        if pipeline == "hangs":
            self.free.wait(20)
        if pipeline == "fails":
            raise SourceError
        return Pictures(5 if pipeline == "short" else 10**6)

    def of(self, *pipelines: str, missing: tuple[str, ...] = ()) -> Candidates:
        found = [DecoderCandidate(decoder=f"{at} {name}", pipeline=name, missing=missing) for at, name in enumerate(pipelines)]
        return Candidates("cam", found, self, "Look at it.")  # type: ignore[arg-type]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovery, "CLOSE_SECONDS", 0.05)
    made = Machine()
    yield made
    made.free.set()


def test_one_that_hangs_is_left_and_the_next_is_tried(machine: Machine) -> None:
    """Within its limit; what was tried is said once, and the camera is not one that was lost."""
    notes, began = Notes(), time.perf_counter()
    live = Live("cam", machine.of("hangs", "fails", "works"), recovery=QUICK, note=notes)
    assert 0.3 <= time.perf_counter() - began < 2
    assert len(list(islice(live, 3))) == 3
    assert notes == ["cam: through 2 works, after 0 hangs (hangs), 1 fails (no picture)"]
    assert (live.faults.lost, live.faults.stalled) == (0, 0)
    live.close()


def test_first_one_that_works_is_not_worth_a_word(machine: Machine) -> None:
    notes = Notes()
    Live("cam", machine.of("works", "fails"), recovery=QUICK, note=notes).close()
    assert (notes, machine.opened) == ([], ["works"])


def test_one_that_worked_is_the_only_one_from_then_on(machine: Machine) -> None:
    """Hardware that failed is not tried again at every reconnect, and one that worked is not lost by a hang."""
    notes = Notes()
    live = Live("cam", machine.of("fails", "short", "works"), recovery=QUICK, note=notes, policy="every")
    assert len(list(islice(live, 12))) == 12
    live.close()
    assert machine.opened[:3] == ["fails", "short", "short"]
    assert set(machine.opened) == {"fails", "short"}
    assert sum("through" in note for note in notes) == 1


@pytest.mark.parametrize("last", ["fails", "hangs"])
def test_all_that_was_tried_is_in_the_error(machine: Machine, last: str) -> None:
    words = {"fails": "no picture", "hangs": "hangs"}[last]
    with pytest.raises(SourceError) as caught:
        Live("cam", machine.of("fails", "hangs", last), recovery=QUICK)
    assert str(caught.value) == (
        f"cam: no picture came. Tried: 0 fails (no picture), 1 hangs (hangs), 2 {last} ({words}). Look at it."
    )


def test_hanging_ones_are_bounded(machine: Machine) -> None:
    with pytest.raises(SourceError, match=r"Tried: 0 hangs \(hangs\), .*3 hangs \(hangs\)\. Look"):
        Live("cam", machine.of(*["hangs"] * 9), recovery=QUICK)
    assert len(machine.opened) == recovery.MAX_HANGING


def test_one_that_comes_back_after_it_was_left_changes_nothing(machine: Machine) -> None:
    live = Live("cam", machine.of("hangs", "works"), recovery=QUICK)
    machine.free.set()
    eventually(lambda: sum(thread.name == "capture" and thread.is_alive() for thread in threading.enumerate()) == 1)
    assert live.faults.lost == 0
    assert len(list(islice(live, 3))) == 3
    live.close()


def test_source_that_nothing_answers_for_is_not_tried_in_other_ways(machine: Machine) -> None:
    """At the first connection that is the end; at a later one it is waited for, and nothing is opened meanwhile."""
    away = [UnreachableError("cam: away"), UnreachableError("cam: away")]

    def reach() -> None:
        if away and (not machine.opened or machine.opened[-1] == "short"):
            raise away.pop()

    found = [DecoderCandidate(decoder=name, pipeline=name) for name in ("fails", "short")]
    candidates = Candidates("cam", found, machine, "Hint", reach)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"^cam: away$"):
        Live("cam", candidates, recovery=QUICK)
    assert machine.opened == []
    away.pop()
    live = Live("cam", candidates, recovery=QUICK, policy="every")
    away.append(UnreachableError("cam: away"))
    assert len(list(islice(live, 7))) == 7
    assert live.faults.last == "cam: away"
    live.close()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("rtsp://127.0.0.1:{closed}/x", "Connection refused"),
        ("rtsp://127.0.0.1:99999/x", "Port out of range 0-65535"),
        ("rtsp://camera.invalid/x", ""),
    ],
)
def test_rtsp_server_that_does_not_answer(address: str, reason: str) -> None:
    """Told at once, in the system's words."""
    with pytest.raises(UnreachableError, match=rf"^cam: nothing answers there \({reason}.*\)\. Check the address"):
        check_server("cam", address.format(closed=free_port()))


def test_rtsp_server_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_server("cam", f"rtsp://127.0.0.1:{server.getsockname()[1]}/x?a=b")


def test_lacking_elements_are_named_with_their_packages(machine: Machine) -> None:
    candidates = machine.of("works", missing=("h264parse", "nvv4l2decoder", "nonsense"))
    with pytest.raises(SourceError, match=r"cam: no picture came. GStreamer lacks h264parse, nvv4l2decoder, nonsense "
                                          r"\(of gstreamer1.0-plugins-bad, nvidia-l4t-gstreamer\)\. Look"):  # fmt: skip
        candidates()
    assert machine.opened == []


def test_lacking_ones_of_another_board_are_no_reason(machine: Machine) -> None:
    """Where something was tried: a PC need not have NVIDIA's elements, but it could have a parser."""
    found = [DecoderCandidate(decoder="a", pipeline="works", missing=("nvvidconv",)),
             DecoderCandidate(decoder="b", pipeline="fails"),
             DecoderCandidate(decoder="c", pipeline="works", missing=("h265parse",))]  # fmt: skip
    with pytest.raises(
        SourceError, match=r"cam: no picture came. GStreamer lacks h265parse \(of gstreamer1.0-plugins-bad\)\. Hint"
    ):
        Candidates("cam", found, machine, "Hint")()  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "limited"), [("4.6.0", False), ("4.7.0", False), ("4.8.0", True), ("5.0.0", True)])
def test_opencv_ends_its_own_reads_where_it_can(version: str, limited: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody stops waiting for it; an older one refuses to open with such a limit."""
    given: list[tuple] = []

    class Capture:
        def __init__(self, *arguments: object) -> None:
            given.append(arguments)

        def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
            return False

        def release(self) -> None: ...

    monkeypatch.setattr(cv2, "__version__", version)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    limit = Recovery().read_seconds
    assert limit < Recovery().candidate_seconds
    with pytest.raises(SourceError):
        opener("cam", [DecoderCandidate(decoder="a", pipeline="p")], "Hint", limit)()
    ms = round(limit * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, ms]
    assert given == [("p", cv2.CAP_GSTREAMER, limits if limited else [])]


def test_server_that_says_nothing_through_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's OpenCV: its own limits end the connection, and no thread is left."""
    monkeypatch.setattr(ffmpeg, "OPEN_MS", 700)
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as server:
        began, address = time.perf_counter(), f"http://127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(SourceError, match="no picture came"):
            open_source(address)
    assert 0.5 < time.perf_counter() - began < 6
    eventually(lambda: not [each for each in threading.enumerate() if each.name == "capture" and each not in threads])


# --- real pipelines --------------------------------------------------------------------------------------------------

REAL = """if True:
    import json, sys, time
    from itertools import islice
    from edgevit.errors import SourceError
    from edgevit.runtime.candidates import DecoderCandidate
    from edgevit.runtime.gstreamer import opener
    from edgevit.runtime.recovery import Live, Recovery
    pipelines, notes, began = json.loads(sys.argv[1]), [], time.monotonic()
    candidates = [DecoderCandidate(decoder=each.split()[0], pipeline=each) for each in pipelines]
    limits = Recovery(candidate_seconds=1.5, stall_seconds=1, first_delay=0.05)
    try:
        connect = opener("cam", candidates, "Hint.", limits.read_seconds)
        live = Live("cam", connect, recovery=limits, note=notes.append, policy="every")
    except SourceError as error:
        notes.append(str(error))
        shapes, faults = [], {}
    else:
        opened = time.monotonic() - began
        shapes = [frame.image_bgr.shape for frame in islice(live, int(sys.argv[2]))]
        faults = {**live.faults.to_dict(), "opened": opened}
        live.close()
    print(json.dumps({"notes": notes, "shapes": shapes, "faults": faults}), flush=True)
"""
CAPS = "video/x-raw,format=BGRx,width=320,height=240,framerate=30/1"
NEWEST = "appsink drop=true max-buffers=1 sync=false"
NEVER_STARTS = f"appsrc ! videoconvert ! {NEWEST}"
GIVES_NOTHING = f"videotestsrc is-live=true ! {CAPS} ! valve drop=true ! {NEWEST}"
WORKS = f"videotestsrc is-live=true ! {CAPS} ! {NEWEST}"
DIES = f"videotestsrc is-live=true num-buffers=8 ! {CAPS} ! {NEWEST}"
CHANGES = (
    "concat name=c ! videoconvert ! video/x-raw,format=BGR ! appsink sync=false "
    "videotestsrc num-buffers=5 ! video/x-raw,format=I420,width=320,height=240 ! c. "
    "videotestsrc num-buffers=5 ! video/x-raw,format=NV12,width=640,height=360 ! c."
)


def real(frames: int, *pipelines: str) -> dict:
    with start(system_python(), json.dumps(pipelines), frames, code=REAL) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return json.loads(stdout)


def test_real_pipelines_that_hang() -> None:
    """While it starts, and while its first picture is waited for: both are left, and the next one runs."""
    seen = real(5, NEVER_STARTS, GIVES_NOTHING, WORKS)
    assert seen["notes"] == ["cam: through videotestsrc, after appsrc (hangs), videotestsrc (hangs)"]
    assert seen["shapes"] == [[240, 320, 3]] * 5
    assert 3 <= seen["faults"]["opened"] < 8
    assert seen["faults"]["stalled"] == 0


def test_real_pipelines_that_all_hang() -> None:
    seen = real(1, GIVES_NOTHING, "nonsense ! appsink", NEVER_STARTS)
    assert seen["notes"] == ["cam: no picture came. Tried: videotestsrc (hangs), nonsense (no picture), appsrc (hangs). Hint."]


def test_real_pipeline_that_dies() -> None:
    """It is opened again, through the same candidate."""
    seen = real(14, "nonsense ! appsink", DIES, WORKS)
    assert seen["faults"]["lost"] >= 1
    assert seen["faults"]["reconnected"] >= 1
    assert len(seen["shapes"]) == 14


def test_real_pipeline_that_changes_its_format() -> None:
    """Size and format under way: the connection stays."""
    seen = real(8, CHANGES)
    assert {tuple(shape) for shape in seen["shapes"]} == {(240, 320, 3), (360, 640, 3)}
    assert (seen["faults"]["resized"], seen["faults"]["lost"]) == (1, 0)
