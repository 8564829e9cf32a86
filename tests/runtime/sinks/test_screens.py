"""What is drawn is shown, once for all."""

from __future__ import annotations

import itertools
from contextlib import closing

import numpy as np
import pytest

from edgevit.errors import ConfigError
from edgevit.runtime.decide import Decider
from edgevit.runtime.sinks import screens
from edgevit.runtime.sinks.screens import Overlays, WindowSink, has_display
from tests.runtime.fakes import decision, prediction, result


def picture(height: int, width: int, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


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
    monkeypatch.setattr(screens, "draw", lambda image, _predictions, *, fps, **_: rates.append(fps) or image)
    walls = Wall(), Wall()
    with closing(Overlays(walls, precision="int8")) as sink:
        assert all(sink(decision(finished=i / 10)) for i in range(3))
    assert rates == [None, pytest.approx(10), pytest.approx(10)]
    assert all(a is b for a, b in zip(walls[0].pictures, walls[1].pictures, strict=True))
    assert all(wall.closed for wall in walls)


def test_a_file_is_shown_at_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast it is worked through."""
    shown = []
    monkeypatch.setattr(screens, "draw", lambda image, _predictions, **options: shown.append(options) or image)
    sink = Overlays([Wall()], precision="int8", overlay="full", position="bottom", paced=True, fps=25.0)
    for i in range(2):
        sink(decision(finished=i / 200))
    assert [(each["fps"], each["processed"]) for each in shown] == [(25.0, None), (25.0, pytest.approx(200))]
    assert (shown[0]["overlay"], shown[0]["position"]) == ("full", "bottom")


def test_title_is_the_decision_and_the_bars_are_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(screens, "draw", lambda image, predictions, *, best, **_: drawn.append((predictions, best)) or image)
    decided = Decider(threshold=0.9)(result(predictions=(prediction("cat", 0.6), prediction("dog", 0.4))))
    Overlays([Wall()], precision="int8")(decided)
    ((bars, title),) = drawn
    assert [each.label for each in bars] == ["cat", "dog"]
    assert (title.label, title.confidence) == ("unknown", 0.6)


def test_every_screen_gets_the_picture_that_ends_the_run() -> None:
    window, video = Wall(going=False), Wall()
    assert not Overlays([window, video], precision="int8")(decision())
    assert len(video.pictures) == 1
    assert video.pictures[0].shape == (120, 160, 3)


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
