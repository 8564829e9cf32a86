"""Pipelines word for word, and what they are built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.device.gstreamer import Registry
from edgevit.errors import SourceError
from edgevit.runtime import gstreamer
from edgevit.runtime.candidates import DecoderCandidate
from edgevit.runtime.ffmpeg import split_login
from edgevit.runtime.gstreamer import Installed, Mode, csi_pipelines, elements, own_pipeline, rtsp_pipelines, usb_pipelines
from edgevit.runtime.redact import redacted

NEWEST = "appsink drop=true max-buffers=1 sync=false"
LEAKY = "queue leaky=downstream max-size-buffers=1"
BGR = "videoconvert ! video/x-raw,format=BGR"
JETSON, PC = Installed(), Installed(disable_dpb=False, decodebin=True)


def decoders(candidates: list[DecoderCandidate]) -> list[str]:
    return [each.decoder for each in candidates]


def test_csi_pipeline_of_a_jetson() -> None:
    """Four channels go to OpenCV as they are: no processor converts them."""
    assert csi_pipelines(1, Mode(size_wh=(1920, 1080), fps=60, rotate=180), JETSON)[0].pipeline == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1 ! "
        f"nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! {NEWEST}"
    )


def test_opencv_that_reads_three_channels_only() -> None:
    pipeline = csi_pipelines(0, Mode(), Installed(bgrx=False))[0].pipeline
    assert pipeline.endswith(f"video/x-raw,format=BGRx ! {BGR} ! {NEWEST}")


def test_csi_pipeline_of_a_raspberry_pi() -> None:
    """The camera by its name, the format fixed, and a queue that keeps the newest."""
    assert csi_pipelines(1, Mode(), JETSON, camera_name="/base/soc/i2c0mux/i2c@1/imx219@10")[1].pipeline == (
        'libcamerasrc camera-name="/base/soc/i2c0mux/i2c@1/imx219@10" ! '
        f"video/x-raw,format=NV12,width=1280,height=720,framerate=30/1 ! {LEAKY} ! {BGR} ! {NEWEST}"
    )


def test_usb_pipelines_try_the_decoders_of_a_jetson_first() -> None:
    pipelines = [each.pipeline for each in usb_pipelines("/dev/video2", Mode(size_wh=(1280, 720), fps=30), JETSON)]
    assert pipelines[0] == (
        "v4l2src device=/dev/video2 do-timestamp=true io-mode=2 ! image/jpeg,width=1280,height=720,framerate=30/1 ! jpegparse ! "
        f"nvv4l2decoder mjpeg=1 ! nvvidconv flip-method=0 ! video/x-raw,format=BGRx ! {NEWEST}"
    )
    assert pipelines[-2] == (
        "v4l2src device=/dev/video2 do-timestamp=true ! image/jpeg,width=1280,height=720,framerate=30/1 ! jpegdec ! "
        f"{BGR} ! {NEWEST}"
    )
    assert [each for each in elements(pipelines[1]) if each.startswith("nv")] == ["nvjpegdec", "nvvidconv"]


def test_rtsp_pipelines_of_a_jetson() -> None:
    """The hardware first, and last decoders that are software for certain: decodebin would take the hardware's again."""
    found = rtsp_pipelines("rtsp://host/x", Mode(rotate=90), JETSON, user="u", password='a"b ! c\\')
    login = 'user-id="u" user-pw="a\\"b ! c\\\\"'
    source = f'rtspsrc location="rtsp://host/x" {login} latency=0 protocols=tcp drop-on-latency=true tcp-timeout=5000000'
    assert found[0].pipeline == (
        f"{source} ! rtph264depay ! h264parse ! nvv4l2decoder enable-max-performance=1 disable-dpb=true ! "
        f"nvvidconv flip-method=3 ! video/x-raw,format=BGRx ! {LEAKY} ! {NEWEST}"
    )
    assert found[2].pipeline == (
        f"{source} ! rtph264depay ! h264parse ! avdec_h264 ! videoflip method=clockwise ! {BGR} ! {LEAKY} ! {NEWEST}"
    )
    assert decoders(found) == [
        "h264, nvv4l2decoder",
        "h265, nvv4l2decoder",
        "h264, avdec_h264",
        "h265, avdec_h265",
        "JPEG, jpegdec",
    ]
    assert not [each for each in found if "decodebin" in elements(each.pipeline)]


def test_rtsp_pipelines_elsewhere() -> None:
    """Whatever decodes here, before the software by name; and no property that the decoder lacks."""
    found = rtsp_pipelines("rtsp://host/x", Mode(), PC)
    assert decoders(found)[2:] == ["decodebin", "h264, avdec_h264", "h265, avdec_h265", "JPEG, jpegdec"]
    assert "disable-dpb" not in found[0].pipeline


def test_what_is_installed_follows_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder of a Jetson rules decodebin out wherever it is, and its properties are asked for."""
    for there in (True, False):
        names = frozenset({"decodebin", *(["nvv4l2decoder"] if there else [])})
        monkeypatch.setattr(gstreamer, "registry", lambda names=names: Registry(elements=names))
        monkeypatch.setattr(gstreamer, "has_property", lambda element, name: (element, name) == ("nvv4l2decoder", "disable-dpb"))
        has = gstreamer.installed_elements()
        assert (has.disable_dpb, has.decodebin) == (there, not there)


def test_versions_of_opencv() -> None:
    versions = {name: gstreamer.version_of_opencv(name) for name in ("4.5.4", "4.6.0", "4.8.0-dev", "4.10.0", "5.0.0")}
    assert [name for name, version in versions.items() if version >= gstreamer.TIMEOUTS] == ["4.8.0-dev", "4.10.0", "5.0.0"]
    assert [name for name, version in versions.items() if version < gstreamer.FOUR_CHANNELS] == ["4.5.4"]


@pytest.mark.parametrize(("fps", "want"), [(None, "m"), (30.0, "m,framerate=30/1"), (29.97, "m,framerate=30000/1001")])
def test_rates_are_fractions(fps: float | None, want: str) -> None:
    assert Mode(fps=fps).caps("m") == want


def test_own_pipeline_is_ended_only_if_it_has_no_end() -> None:
    own = "videotestsrc ! appsink name=x"
    assert own_pipeline(own, every=False) == own
    assert own_pipeline("videotestsrc", every=False) == f"videotestsrc ! videoconvert ! video/x-raw,format=BGR ! {NEWEST}"
    assert "drop" not in own_pipeline("videotestsrc", every=True)


def of(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A GStreamer that has these elements only."""
    monkeypatch.setattr(gstreamer, "registry", lambda: Registry(elements=frozenset(names)))


def test_pipelines_of_elements_that_are_missing_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the message names the packages that would bring them."""
    of(monkeypatch, "queue", "videoconvert", "appsink")
    candidates = gstreamer.csi_opener("csi://0", 0, Mode(), 1)
    with pytest.raises(
        SourceError, match=r"csi://0: no picture came. GStreamer lacks nvarguscamerasrc, nvvidconv, libcamerasrc "
    ):
        candidates()
    with pytest.raises(SourceError, match=r"\(of nvidia-l4t-gstreamer, gstreamer1.0-libcamera\)\. Check its ribbon cable"):
        candidates()


def test_csi_cameras_of_a_raspberry_pi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By number among those that libcamera lists; another number, and a list that nobody gives, are said at once."""
    of(monkeypatch, "libcamerasrc", "queue", "videoconvert", "appsink")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match=r"csi://1: nothing here tells libcamera's cameras apart.*apt install rpicam-apps"):
        gstreamer.csi_opener("csi://1", 1, Mode(), 1)
    assert gstreamer.csi_opener("csi://0", 0, Mode(), 1).more
    tool = tmp_path / "rpicam-hello"
    tool.write_text("#!/bin/sh\necho 'Available cameras'\n"
                    "echo '0 : imx219 [3280x2464] (/base/soc/i2c0mux/i2c@1/imx219@10)'\n"
                    "echo \"    Modes: 'SRGGB8' : 640x480 [206.65 fps - (1000, 752)/1280x960 crop]\"\n"
                    "echo '1 : imx708 [4608x2592 10-bit RGGB] (/base/axi/pcie@120000/rp1/i2c@80000/imx708@1a)'\n")  # fmt: skip
    tool.chmod(0o755)
    seen: list[str] = []
    monkeypatch.setattr(gstreamer, "opener", lambda _uri, candidates, *_: seen.extend(each.pipeline for each in candidates))
    gstreamer.csi_opener("csi://1", 1, Mode(), 1)
    assert 'camera-name="/base/axi/pcie@120000/rp1/i2c@80000/imx708@1a"' in seen[-1]
    with pytest.raises(SourceError, match=r"csi://2: no such CSI camera; libcamera finds /base/soc.*, /base/axi"):
        gstreamer.csi_opener("csi://2", 2, Mode(), 1)


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
