"""Pipelines word for word, and what they are built from."""

from __future__ import annotations

import pytest

from edgevit.errors import SourceError
from edgevit.runtime import gstreamer
from edgevit.runtime.ffmpeg import split_login
from edgevit.runtime.gstreamer import Mode, csi_pipelines, elements, own_pipeline, rtsp_pipelines, usb_pipelines
from edgevit.runtime.redact import redacted

TO_BGR = "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR"
NEWEST = "appsink drop=true max-buffers=1 sync=false"


def test_csi_pipeline_of_a_jetson() -> None:
    assert csi_pipelines(1, Mode(size_wh=(1920, 1080), fps=60, rotate=180))[0] == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1 ! "
        f"nvvidconv flip-method=2 ! {TO_BGR} ! {NEWEST}"
    )


def test_usb_pipelines_try_the_decoders_of_a_jetson_first() -> None:
    pipelines = usb_pipelines("/dev/video2", Mode(size_wh=(1280, 720), fps=30))
    assert pipelines[0] == (
        "v4l2src device=/dev/video2 do-timestamp=true io-mode=2 ! image/jpeg,width=1280,height=720,framerate=30/1 ! jpegparse ! "
        f"nvv4l2decoder mjpeg=1 ! nvvidconv flip-method=0 ! {TO_BGR} ! {NEWEST}"
    )
    assert pipelines[-2] == (
        "v4l2src device=/dev/video2 do-timestamp=true ! image/jpeg,width=1280,height=720,framerate=30/1 ! jpegdec ! "
        f"videoconvert ! video/x-raw,format=BGR ! {NEWEST}"
    )
    assert [each for each in elements(pipelines[1]) if each.startswith("nv")] == ["nvjpegdec", "nvvidconv"]


def test_rtsp_pipelines() -> None:
    hardware, _, software = rtsp_pipelines("rtsp://host/x", Mode(), user="u", password='a"b ! c\\')
    login = 'user-id="u" user-pw="a\\"b ! c\\\\"'
    source = f'rtspsrc location="rtsp://host/x" {login} latency=0 protocols=tcp drop-on-latency=true'
    assert hardware == (
        f"{source} ! rtph264depay ! h264parse ! nvv4l2decoder enable-max-performance=1 ! nvvidconv flip-method=0 ! {TO_BGR} ! "
        f"queue leaky=downstream max-size-buffers=1 ! {NEWEST}"
    )
    assert "decodebin" in elements(software)


@pytest.mark.parametrize(("fps", "want"), [(None, "m"), (30.0, "m,framerate=30/1"), (29.97, "m,framerate=30000/1001")])
def test_rates_are_fractions(fps: float | None, want: str) -> None:
    assert Mode(fps=fps).caps("m") == want


def test_own_pipeline_is_ended_only_if_it_has_no_end() -> None:
    own = "videotestsrc ! appsink name=x"
    assert own_pipeline(own, every=False) == own
    assert own_pipeline("videotestsrc", every=False) == f"videotestsrc ! videoconvert ! video/x-raw,format=BGR ! {NEWEST}"
    assert "drop" not in own_pipeline("videotestsrc", every=True)


def test_pipelines_of_elements_that_are_missing_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer, "has_element", lambda name: not name.startswith("nv") and name != "libcamerasrc")
    with pytest.raises(SourceError, match=r"csi://0: no picture came. GStreamer lacks nvarguscamerasrc, nvvidconv. Look"):
        gstreamer.opener("csi://0", csi_pipelines(0, Mode()), "Look.")()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("rtsp://user:pw@host:554/a", "rtsp://host:554/a"),
        ("rtsp://user:p@w/x@host/a", "rtsp://host/a"),
        ("rtsp://host/a?user=admin&password=pw&channel=1", "rtsp://host/a?user=***&password=***&channel=1"),
        ('gst:rtspsrc location="rtsp://user:pw@host/a" user-pw=pw user-id="my name" ! decodebin',
         'gst:rtspsrc location="rtsp://host/a" user-pw=*** user-id=*** ! decodebin'),
        ("rtsp://host/a", "rtsp://host/a"),
        ("/dev/video0", "/dev/video0"),
    ],
)  # fmt: skip
def test_redacted(text: str, want: str) -> None:
    assert redacted(text) == want


@pytest.mark.parametrize(
    ("uri", "want"),
    [
        ("rtsp://host:554/a@b", ("rtsp://host:554/a@b", "", "")),
        ("rtsp://user:pw@host/a", ("rtsp://host/a", "user", "pw")),
        ("rtsp://user:p%40w%2F@host/a?x=1", ("rtsp://host/a?x=1", "user", "p@w/")),
        ("rtsp://user:p@w@host/a", ("rtsp://host/a", "user", "p@w")),
        ("rtsp://user@host", ("rtsp://host", "user", "")),
    ],
)
def test_login_is_taken_out_of_an_address(uri: str, want: tuple[str, str, str]) -> None:
    assert split_login(uri) == want
