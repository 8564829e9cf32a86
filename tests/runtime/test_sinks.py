"""What is written can be read back."""

from __future__ import annotations

import io
import itertools
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgevit.errors import ConfigError, StorageError
from edgevit.runtime import sinks
from edgevit.runtime.sinks import JsonLines, Overlays, VideoSink, WindowSink, has_display
from edgevit.runtime.source import open_source
from tests.runtime.fakes import frame, prediction, result


def picture(height: int, width: int, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


@pytest.mark.parametrize("name", ["out.mp4", "out.AVI", "ü 日本.mp4"])
def test_video_is_read_back_frame_by_frame(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with closing(VideoSink(path, fps=20)) as sink:
        assert all(sink(picture(48, 64, 10 * i)) for i in range(15))
        assert not path.exists(), "it has its name only once it is whole"
    assert list(tmp_path.glob(f"*{path.suffix}")) == [path]
    with open_source(str(path)) as source:
        assert source.fps == pytest.approx(20)
        levels = [each.image_bgr.mean() for each in source]
    assert levels == pytest.approx([10 * i for i in range(15)], abs=6)


def test_pictures_of_other_sizes_are_resized_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    with closing(VideoSink(path, fps=20)) as sink:
        for size in ((48, 64), (480, 640), (10, 10)):
            sink(picture(*size))
    with open_source(str(path)) as source:
        assert [each.image_bgr.shape for each in source] == [(48, 64, 3)] * 3


def test_video_without_pictures_is_no_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", fps=20)
    sink.close()
    sink.close()
    assert not list(tmp_path.glob("out*"))


def test_video_replaces_an_older_one_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    path.write_bytes(b"old")
    with closing(VideoSink(path, fps=20)) as sink:
        sink(picture(48, 64))
        assert path.read_bytes() == b"old"
    assert path.read_bytes()[:4] == b"RIFF"


@pytest.mark.parametrize("name", ["out.gif", "out.webm", "out"])
def test_video_suffix_that_does_not_work_names_those_that_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"Use one of: \.mp4, \.avi"):
        VideoSink(tmp_path / name, fps=20)


def test_video_into_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="mkdir -p"):
        VideoSink(tmp_path / "gone" / "out.mp4", fps=20)


def test_video_that_cannot_begin_is_a_storage_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = VideoSink(folder / "out.mp4", fps=20)
    folder.rmdir()
    with pytest.raises(StorageError, match="cannot begin this video"):
        sink(picture(48, 64))


def test_json_lines_are_one_object_per_result() -> None:
    stream = io.StringIO()
    predictions = (prediction("café", 0.75), prediction("b", 0.25))
    with closing(JsonLines(stream)) as sink:
        for i in range(2):
            assert sink(result(frame=frame(index=i, captured=100 + i / 8, name="a.png"), predictions=predictions))
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {
        "frame": 0, "name": "a.png", "seconds": 0.0, "label": "café", "confidence": 0.75,
        "top_k": [{"label": "café", "confidence": 0.75}, {"label": "b", "confidence": 0.25}],
        "read_ms": 1.0, "prepare_ms": 2.0, "infer_ms": 3.0, "latency_ms": 6.0,
    }  # fmt: skip
    assert (second["frame"], second["seconds"]) == (1, 0.125)
    assert stream.getvalue().isascii(), "any terminal and any pipe takes it"


class Wall:
    """A screen that keeps its pictures and ends the run when asked."""

    def __init__(self, *, going: bool = True) -> None:
        self.going = going
        self.pictures: list[np.ndarray] = []
        self.closed = False

    def __call__(self, image_bgr: np.ndarray) -> bool:
        self.pictures.append(image_bgr)
        return self.going

    def close(self) -> None:
        self.closed = True


def test_overlay_is_drawn_once_for_all_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    monkeypatch.setattr(sinks, "draw", lambda image, _predictions, *, fps, **_: rates.append(fps) or image)
    walls = Wall(), Wall()
    with closing(Overlays(walls, precision="int8")) as sink:
        assert all(sink(result(finished=i / 10)) for i in range(3))
    assert rates == [None, pytest.approx(10), pytest.approx(10)]
    assert all(a is b for a, b in zip(walls[0].pictures, walls[1].pictures, strict=True))
    assert all(wall.closed for wall in walls)


def test_every_screen_gets_the_picture_that_ends_the_run() -> None:
    window, video = Wall(going=False), Wall()
    assert not Overlays([window, video], precision="int8")(result())
    assert len(video.pictures) == 1
    assert video.pictures[0].shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("desktop", "gui", "want"),
    [
        ({"DISPLAY": ":0"}, "GTK3", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "QT5", True),
        ({"DISPLAY": ":0"}, "NONE", False),
        ({"DISPLAY": ""}, "GTK3", False),
        ({}, "GTK3", False),
    ],
)
def test_display_needs_a_desktop_and_an_opencv_with_windows(
    monkeypatch: pytest.MonkeyPatch, desktop: dict[str, str], gui: str, want: bool
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in desktop.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cv2.getBuildInformation", lambda: f"\n  GUI:                           {gui}\n    VTK support: NO\n")
    assert has_display() is want


@pytest.mark.parametrize(
    ("key", "visible", "going"),
    [(-1, 1.0, True), (ord("x"), 1.0, True), (ord("q"), 1.0, False), (27, 1.0, False), (-1, 0.0, False)],
)
def test_window_ends_with_its_keys_or_its_button(monkeypatch: pytest.MonkeyPatch, key: int, visible: float, going: bool) -> None:
    shown = itertools.count()
    monkeypatch.setattr("cv2.namedWindow", lambda *_: None)
    monkeypatch.setattr("cv2.imshow", lambda *_: next(shown))
    monkeypatch.setattr("cv2.waitKey", lambda _milliseconds: key)
    monkeypatch.setattr("cv2.getWindowProperty", lambda *_: visible)
    assert WindowSink()(picture(4, 4)) is going
    assert next(shown) == 1


def test_window_that_cannot_open_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    def refuse(*_: object) -> None:
        raise cv2.error

    monkeypatch.setattr("cv2.namedWindow", refuse)
    with pytest.raises(ConfigError, match="cannot open a window"):
        WindowSink()
