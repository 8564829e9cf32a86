"""Whatever a user types becomes frames, or one line that says why not."""

from __future__ import annotations

import itertools
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.errors import ConfigError, SourceError
from edgevit.runtime import camera
from edgevit.runtime.frame import Frame
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.recovery import Recovery
from edgevit.runtime.source import open_source
from edgevit.runtime.video import MissingFrames
from tests.runtime.fakes import write_image, write_video
from tests.support import python


def read(uri: object, *, loop: bool = False, limit: int | None = None) -> list[Frame]:
    with open_source(str(uri), loop=loop) as source:
        return list(itertools.islice(source, limit))


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "Köttbullar 日本.avi"])
def test_video_gives_every_frame(tmp_path: Path, name: str) -> None:
    levels = [20 * i for i in range(12)]
    path = write_video(tmp_path / name, levels)
    frames = read(path)
    assert [frame.index for frame in frames] == list(range(12))
    assert {frame.name for frame in frames} == {name}
    assert all(frame.image_bgr.shape == (48, 64, 3) and frame.image_bgr.dtype == np.uint8 for frame in frames)
    assert [frame.image_bgr.mean() for frame in frames] == pytest.approx(levels, abs=6)
    stamps = [frame.captured for frame in frames]
    assert stamps == sorted(stamps)
    assert abs(time.perf_counter() - stamps[-1]) < 60


def test_video_states_its_rate_and_starts_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [0, 100, 200], fps=12.5)
    with open_source(str(path)) as source:
        assert (source.live, source.fps, source.description) == (False, 12.5, f"video {path}")
        assert [len(list(source)), len(list(source))] == [3, 3]
    looped = read(path, loop=True, limit=7)
    assert [frame.index for frame in looped] == list(range(7))
    assert looped[6].image_bgr.mean() == pytest.approx(looped[0].image_bgr.mean())


def damaged_video(path: Path) -> Path:
    """20 frames, of which the bytes of frame 8 are lost."""
    data = bytearray(write_video(path, [100] * 20, size_wh=(320, 240)).read_bytes())
    starts = [match.start() for match in re.finditer(b"00dc....\xff\xd8", data, re.DOTALL)]
    data[starts[8] + 8 : starts[9]] = bytes(starts[9] - starts[8] - 8)
    path.write_bytes(data)
    return path


def test_damaged_frame_is_skipped_and_counted(tmp_path: Path) -> None:
    with open_source(str(damaged_video(tmp_path / "clip.avi"))) as source:
        for _ in range(2):
            assert [frame.index for frame in source] == list(range(19))
            assert (source.skipped, source.first_skipped) == (1, "frame 8")


def with_holes(path: Path, size: int) -> tuple[Path, int]:
    """40 frames, of which zeros overwrite parts of several; and how many frames FFmpeg gives of it."""
    import cv2

    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for _ in range(40):
        writer.write(cv2.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC))
    writer.release()
    data = bytearray(path.read_bytes())
    for i in range(6):
        at = len(data) * (i + 2) // 10
        data[at : at + size] = bytes(size)
    path.write_bytes(data)
    capture, came = cv2.VideoCapture(str(path)), 0
    for _ in range(100):
        came += capture.read()[0]
    return path, came


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_frames_that_ffmpeg_passes_over_are_counted(tmp_path: Path, suffix: str) -> None:
    path, came = with_holes(tmp_path / f"holes.{suffix}", 900)
    assert came < 40
    with open_source(str(path)) as source:
        for _ in range(2):
            assert len(list(source)) == came
            assert source.skipped == 40 - came


def test_frames_that_a_cut_file_lists_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [100] * 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(str(path)) as source:
        came = len(list(source))
        assert (source.skipped, source.first_skipped) == (50 - came, f"frame {came}")


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv", "clip.mp4"])
def test_a_whole_video_lacks_nothing(tmp_path: Path, name: str) -> None:
    for fps in (10, 29.97, 12.5):
        with open_source(str(write_video(tmp_path / name, [100] * 33, fps=fps))) as source:
            assert (len(list(source)), source.skipped) == (33, 0)


@pytest.mark.parametrize(("stamps", "listed", "exact", "missing"), [
    ([0, 100, 200, 300], 4, True, 0),
    ([0, 100, 300, 400], 5, True, 1),
    ([0, 100, 200], 7, True, 4),
    ([0, 100, 300], 3, True, 0),  # a pause: the container lists no more
    ([0, 100, 300, 350, 470], 6, False, 0),  # an uneven rate: nothing is known
    ([0, 100, 300, 400], 0, False, 1),  # even, and no list
    ([40, 140, 340, 440], 5, False, 1),  # begins later
    ([0, 0, 0, 0], 4, True, 0),  # an OpenCV that gives no time stamps
    ([0, 100], 2**31 - 1, True, 0),  # no number at all
])  # fmt: skip
def test_gaps_are_missing_frames_only_where_that_is_known(stamps: list[int], listed: int, exact: bool, missing: int) -> None:
    counted = MissingFrames(10, listed, exact=exact)
    found = [counted.before(stamp, 0) for stamp in stamps]
    assert sum(map(len, [*found, *counted.at_the_end()])) == missing


@pytest.mark.parametrize("name", ["a.png", "a.mp4", "a.jpg"])
def test_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    """Opening it would wait for somebody to write."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(str(tmp_path / name))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """OpenCV crashes on it: a video is refused, and so is a stream, without its password; images are read by edgevit."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.avi"))
    write_video(tmp_path / "v.avi", [9, 90])
    (tmp_path / "v.avi").rename(path)
    with pytest.raises(SourceError, match="not UTF-8"):
        open_source(str(path))
    for uri in ("http://me:hunter2@127.0.0.1:9/\udce9", "rtsp://me:hunter2@127.0.0.1:9/\udce9"):
        with pytest.raises(SourceError, match="not UTF-8") as caught:
            open_source(uri)
        assert "hunter2" not in str(caught.value)
    image = path.with_suffix(".png")
    write_image(tmp_path / "i.png")
    (tmp_path / "i.png").rename(image)
    assert len(list(open_source(str(image)))) == 1


def test_what_looks_like_an_image_is_said_to_be_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png")
    for name in ("2.heic", "3.HEIC", "4.gif", "notes.txt", ".hidden.gif"):
        (tmp_path / name).write_bytes(b"x")
    said: list[str] = []
    with open_source(str(tmp_path), note=said.append) as source:
        assert len(list(source)) == 1
    assert said == [
        f"{tmp_path}: 3 files that look like images are left out (2 .heic, 1 .gif). Convert to PNG or JPEG to use them"
    ]


def test_ffmpeg_prints_nothing_about_damage(tmp_path: Path) -> None:
    """In a process of its own: OpenCV decides at its first video how much FFmpeg prints."""
    code = "import sys; from edgevit.runtime.source import open_source; print(len(list(open_source(sys.argv[1]))))"
    with python(code, damaged_video(tmp_path / "clip.avi")) as process:
        assert process.communicate(timeout=60) == ("19\n", "")


def test_cut_video_ends_early(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [100] * 50)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 10 < len(read(path)) < 50


def test_folder_is_read_in_natural_order_with_its_subfolders(tmp_path: Path) -> None:
    for name in ("img10.PNG", "img2.jpg", "b/ü 日本.webp", "a/3.tiff", "a/20.bmp", "a/deep/1.JPEG", "a/4.tif"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    frames = read(tmp_path)
    want = ["a/3.tiff", "a/4.tif", "a/20.bmp", "a/deep/1.JPEG", "b/ü 日本.webp", "img2.jpg", "img10.PNG"]
    assert [frame.name for frame in frames] == want
    assert [frame.index for frame in frames] == list(range(7))
    assert frames[0].image_bgr.shape == (10, 20, 3)


@pytest.mark.parametrize("shape", [(10, 20), (10, 20, 4)])
def test_gray_and_transparent_images_become_bgr(tmp_path: Path, shape: tuple[int, ...]) -> None:
    import cv2

    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.full(shape, 90, np.uint8))[1].tobytes())
    (frame,) = read(tmp_path / "a.png")
    assert frame.image_bgr.shape == (10, 20, 3)
    assert (frame.image_bgr == 90).all()


def test_unreadable_images_are_counted(tmp_path: Path) -> None:
    for name in ("1.png", "4.png"):
        write_image(tmp_path / name)
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").write_bytes(b"no image")
    with open_source(str(tmp_path)) as source:
        assert [frame.name for frame in source] == ["1.png", "4.png"]
        assert (source.skipped, source.first_skipped) == (2, "2.png")
        assert (source.live, source.fps) == (False, None)


def test_looped_folder_counts_an_unreadable_image_once(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    with open_source(str(tmp_path), loop=True) as source:
        assert [frame.index for frame in itertools.islice(source, 5)] == [0, 1, 2, 3, 4]
        assert source.skipped == 1


def test_folder_of_unreadable_images_fails_even_when_looped(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"none of 1 images can be decoded \(first: 1.png\)"):
        read(tmp_path, loop=True)


def test_single_image(tmp_path: Path) -> None:
    (frame,) = read(write_image(tmp_path / "ein Bild ü.JPG", 200))
    assert (frame.name, frame.index) == ("ein Bild ü.JPG", 0)
    assert len(read(tmp_path / "ein Bild ü.JPG", loop=True, limit=3)) == 3


def test_pattern_moves_and_repeats() -> None:
    first, again = read("test://64x48?frames=3"), read("test://64x48?frames=3")
    assert [frame.image_bgr.shape for frame in first] == [(48, 64, 3)] * 3
    assert all((a.image_bgr == b.image_bgr).all() for a, b in zip(first, again, strict=True))
    assert (first[0].image_bgr != first[1].image_bgr).any()


def test_pattern_without_numbers_is_endless_vga() -> None:
    with open_source("test://") as source:
        assert (source.live, source.fps) == (False, None)
        assert [frame.image_bgr.shape for frame in itertools.islice(source, 2)] == [(480, 640, 3)] * 2


def test_pattern_with_a_rate_is_live_and_keeps_it() -> None:
    with open_source("test://8x8@100?frames=21") as source:
        assert (source.live, source.fps) == (True, 100.0)
        stamps = [frame.captured for frame in source]
    assert len(stamps) == 21
    assert stamps[-1] - stamps[0] == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("test://640", "not a test pattern"),
        ("test://8x8?frames=0", "frames must be at least 1"),
        ("test://8x8@0", "FPS from 1 to 1000"),
        ("test://0x8", "from 1 to 8192"),
        ("test://8x99999", "from 1 to 8192"),
        ("ftp://host/a.mp4", "no known kind of source. Known: 0, /dev/video0"),
        ("csi://front", "no known kind of source"),
    ],
)
def test_uri_that_is_not_read_says_what_is(uri: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as error:
        open_source(uri)
    assert str(error.value).startswith(uri)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.mp4", None, "no such file or folder"),
        ("notes.txt", b"hello", "no video frame that this OpenCV can decode"),
        ("empty.mp4", b"", "no video frame that this OpenCV can decode"),
        ("broken.jpg", b"\xff\xd8\xff", "not a readable image"),
        ("empty.png", b"", "not a readable image"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=says) as error:
        open_source(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "none.mp4", [])
    with pytest.raises(SourceError, match="no video frame"):
        open_source(str(path))


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SourceError, match=r"no images in this folder. Looked for .bmp"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("uri", ["99", "/dev/video99"])
def test_missing_camera_is_named_with_those_there_are(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    devices = [Path(f"/dev/video{i}") for i in (10, 2, 0)]
    monkeypatch.setattr(camera.Path, "glob", lambda _self, _pattern: iter(devices))
    says = "/dev/video99: no such camera. Cameras here: /dev/video0, /dev/video2, /dev/video10."
    with pytest.raises(SourceError, match=re.escape(says)):
        open_source(uri)


def test_machine_without_cameras_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera.Path, "glob", lambda _self, _pattern: iter(()))
    with pytest.raises(SourceError, match=r"no /dev/video\*; connect a camera, or try test://"):
        open_source("99")


def test_device_that_is_no_camera_is_refused() -> None:
    with pytest.raises(SourceError, match="/dev/null: opens no camera stream"):
        open_source("/dev/null")


class Driver:
    """OpenCV's capture of a camera that gives ``frames`` frames and is then unplugged."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.released = False
        self.asked: list[tuple[int, float]] = []

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return True

    def set(self, name: int, value: float) -> bool:
        self.asked.append((name, value))
        return True

    def grab(self) -> bool:
        assert not self.released, "grab after release"
        self.frames -= 1
        return self.frames >= 0

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        assert not self.released, "retrieve after release"
        return True, np.zeros((4, 6, 3), np.uint8)

    def get(self, _property: int) -> float:
        return 30.0

    def release(self) -> None:
        self.released = True


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver(frames=4)
    monkeypatch.setattr("cv2.VideoCapture", lambda *_: driver)
    return driver


def test_camera_that_vanishes_is_given_up_when_told_to(driver: Driver) -> None:
    with open_source("/dev/null", policy="every", recovery=Recovery(give_up_seconds=0)) as source:
        assert (source.live, source.fps, source.policy) == (True, 30.0, "every")
        frames = iter(source)
        assert [next(frames).index for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(SourceError, match=r"camera /dev/null: gone for 0 s, given up. Last: the stream ended"):
            next(frames)
    assert driver.released


def test_camera_is_asked_for_jpeg_before_size_and_rate(driver: Driver) -> None:
    import cv2

    with open_source("/dev/null", mode=Mode(size_wh=(1280, 720), fps=30)):
        pass
    assert driver.asked == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]


def test_camera_is_turned(driver: Driver) -> None:
    with open_source("/dev/null", mode=Mode(rotate=90)) as source:
        assert next(iter(source)).image_bgr.shape == (6, 4, 3)


def test_camera_is_not_read_once_closed(driver: Driver) -> None:
    driver.frames = 10**9
    with open_source("/dev/null") as source:
        frames = iter(source)
        assert next(frames).image_bgr.shape == (4, 6, 3)
    assert driver.released
    assert list(frames) == []
    source.close()


def test_video_plays_at_its_own_rate_for_latest(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", [0] * 11, fps=50)
    with open_source(str(path), policy="latest") as source:
        assert (source.live, source.policy) == (True, "latest")
        stamps = [frame.captured for frame in source]
    assert stamps[-1] - stamps[0] == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"policy": "latest"}, "has no rate of its own"),
        ({"mode": Mode(size_wh=(640, 480))}, "can be asked of cameras and streams only"),
        ({"mode": Mode(rotate=90)}, "can be asked of cameras and streams only"),
    ],
)
def test_option_that_a_source_does_not_have_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_source("test://8x8", **options)


@pytest.mark.parametrize(
    ("uri", "options", "says"),
    [
        ("rtsp://user:secret@host/a", {"mode": Mode(fps=5)}, "rtsp://host/a: a stream's size and rate"),
        ("gst:videotestsrc", {"mode": Mode(rotate=90)}, "written into the pipeline"),
        ("0", {"loop": True}, "--loop is for files"),
    ],
)
def test_option_that_a_live_source_does_not_have_is_refused(uri: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        open_source(uri, **options)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "uri", ["csi://0", "usb://0", "gst:rtspsrc location=rtsp://user:secret@host/a user-pw=secret ! fakesink"]
)
def test_opencv_without_gstreamer_says_what_to_do(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "    GStreamer:                   NO")
    with pytest.raises(
        SourceError, match=r"has no GStreamer; pip's never has. Use the system's: apt install python3-opencv"
    ) as error:
        open_source(uri)
    assert "secret" not in str(error.value)
    assert str(error.value).startswith(uri[:5])
