"""GStreamer pipelines for cameras and streams: a Jetson's decoders where they are, software elsewhere.

The pipelines are those of NVIDIA's and JetsonHacks' examples. ``appsink drop=true max-buffers=1 sync=false`` keeps the newest
frame only: without it OpenCV lags by a second or two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgevit.device.cameras import libcamera_names
from edgevit.device.gstreamer import has_property, registry
from edgevit.device.jetson import detect
from edgevit.errors import SourceError
from edgevit.runtime.candidates import Candidates, DecoderCandidate
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Stream

NEWEST = "appsink drop=true max-buffers=1 sync=false"
EVERY = "appsink max-buffers=4 sync=false"
LEAKY = "queue leaky=downstream max-size-buffers=1"
BGR = "videoconvert ! video/x-raw,format=BGR"
# nvvidconv cannot make BGR.
NVMM_TO_BGRX = "nvvidconv flip-method={} ! video/x-raw,format=BGRx"
NV_FLIPS = {0: 0, 90: 3, 180: 2, 270: 1}
"""Degrees clockwise -> nvvidconv's flip-method, which counts the other way round."""
GSTREAMER = re.compile(r"GStreamer:\s+YES")
"""In OpenCV's account of how it was built."""
CODECS = ("h264", "h265")
TCP_TIMEOUT_US = 5_000_000
"""For one answer of a server; GStreamer's own 20 s would be waited for with every decoder."""
FOUR_CHANNELS, TIMEOUTS = (4, 6), (4, 8)
"""The OpenCV from which on BGRx is read, and pipelines have time limits (opencv/opencv#22919); older ones refuse them."""

CSI_HINT = (
    "Check its ribbon cable; on a Jetson restart the camera service (sudo systemctl restart nvargus-daemon), on a Raspberry Pi "
    "see what is found (rpicam-hello --list-cameras, of rpicam-apps)"
)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What is asked of a camera; None is the camera's own choice."""

    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    rotate: int = 0
    """Degrees clockwise: 0, 90, 180 or 270."""

    def caps(self, media: str) -> str:
        """GStreamer's words for it, after ``media``."""
        width, height = self.size_wh or (None, None)
        rate = None if self.fps is None else f"{round(self.fps * 1001)}/1001" if self.fps % 1 else f"{self.fps:.0f}/1"
        fields = {"width": width, "height": height, "framerate": rate}
        return ",".join([media, *(f"{name}={value}" for name, value in fields.items() if value is not None)])


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What the pipelines depend on and differs from machine to machine."""

    bgrx: bool = True
    """Whether OpenCV reads four channels: a Jetson then converts nothing on its processor."""
    disable_dpb: bool = True
    """Whether a Jetson's decoder can give each picture at once, instead of holding some to put them in order."""
    decodebin: bool = False
    """Whether decodebin can be used: a Jetson's takes the hardware's decoder, whose memory no software element can read."""


def installed_elements() -> Installed:
    """What this machine has."""
    import cv2

    found = registry()
    jetson = detect() is not None if found.elements is None else found.has("nvv4l2decoder")
    return Installed(
        bgrx=version_of_opencv(cv2.__version__) >= FOUR_CHANNELS,
        disable_dpb=jetson and has_property("nvv4l2decoder", "disable-dpb"),
        decodebin=not jetson,
    )


def csi_pipelines(sensor: int, mode: Mode, has: Installed, *, camera_name: str | None = None) -> list[DecoderCandidate]:
    """For a camera on a Jetson's CSI connector, or a Raspberry Pi's, where ``camera_name`` is libcamera's; best first."""
    asked = Mode(size_wh=mode.size_wh or (1280, 720), fps=mode.fps or 30)
    nvmm, nv12 = asked.caps("video/x-raw(memory:NVMM)"), asked.caps("video/x-raw,format=NV12")
    named = f" camera-name={_quoted(camera_name)}" if camera_name else ""
    return [
        _candidate("nvarguscamerasrc", f"nvarguscamerasrc sensor-id={sensor} ! {nvmm} ! {_from_nvmm(mode, has)} ! {NEWEST}"),
        # Without a format the first that both sides know is taken, which may be one that the processor converts slowly.
        _candidate("libcamerasrc", f"libcamerasrc{named} ! {nv12} ! {LEAKY} ! {_flipped(mode)}{BGR} ! {NEWEST}"),
    ]


def usb_pipelines(device: str, mode: Mode, has: Installed) -> list[DecoderCandidate]:
    """For a USB camera: its JPEGs through a Jetson's decoder, or in software, or its raw pictures."""
    source, jpeg, raw = f"v4l2src device={device} do-timestamp=true", mode.caps("image/jpeg"), mode.caps("video/x-raw")
    nv = _from_nvmm(mode, has)
    return [
        _candidate("JPEG, nvv4l2decoder", f"{source} io-mode=2 ! {jpeg} ! jpegparse ! nvv4l2decoder mjpeg=1 ! {nv} ! {NEWEST}"),
        _candidate(
            "JPEG, nvjpegdec",
            f"{source} io-mode=2 ! {jpeg} ! jpegparse ! nvjpegdec ! video/x-raw(memory:NVMM) ! {nv} ! {NEWEST}",
        ),
        _candidate("JPEG, jpegdec", f"{source} ! {jpeg} ! jpegdec ! {_flipped(mode)}{BGR} ! {NEWEST}"),
        _candidate("raw pictures", f"{source} ! {raw} ! {_flipped(mode)}{BGR} ! {NEWEST}"),
    ]


def rtsp_pipelines(location: str, mode: Mode, has: Installed, *, user: str = "", password: str = "") -> list[DecoderCandidate]:
    """For an RTSP stream over TCP, without a jitter buffer: H.264 and H.265 on a Jetson's decoder, those and JPEG in software."""
    login = f" user-id={_quoted(user)} user-pw={_quoted(password)}" if user else ""
    limits = f"latency=0 protocols=tcp drop-on-latency=true tcp-timeout={TCP_TIMEOUT_US}"
    source = f"rtspsrc location={_quoted(location)}{login} {limits}"
    at_once = " disable-dpb=true" if has.disable_dpb else ""
    decoder = f"nvv4l2decoder enable-max-performance=1{at_once} ! {_from_nvmm(mode, has)}"
    bgr, newest = f"{_flipped(mode)}{BGR}", f"{LEAKY} ! {NEWEST}"
    hardware = [
        _candidate(
            f"{codec}, nvv4l2decoder",
            f"{source} ! rtp{codec}depay ! {codec}parse ! {decoder} ! {newest}",
        )
        for codec in CODECS
    ]
    software = [
        _candidate(f"{codec}, avdec_{codec}", f"{source} ! rtp{codec}depay ! {codec}parse ! avdec_{codec} ! {bgr} ! {newest}")
        for codec in CODECS
    ]
    any_codec = _candidate("decodebin", f"{source} ! application/x-rtp,media=video ! decodebin ! {bgr} ! {newest}")
    jpeg = _candidate("JPEG, jpegdec", f"{source} ! rtpjpegdepay ! jpegdec ! {bgr} ! {newest}")
    return [*hardware, *([any_codec] if has.decodebin else []), *software, jpeg]


def own_pipeline(text: str, *, every: bool) -> str:
    """A user's pipeline, ended with what hands frames to OpenCV unless it ends so itself."""
    return text if re.search(r"\bappsink\b", text) else f"{text} ! {BGR} ! {EVERY if every else NEWEST}"


def csi_opener(uri: str, sensor: int, mode: Mode, limit_s: float) -> Candidates:
    """Connects to the CSI camera that counts as ``sensor``, from 0. Raises SourceError if it is known not to be there."""
    names = None
    if registry().has("libcamerasrc") and not registry().has("nvarguscamerasrc"):
        names = libcamera_names()
        if names is None and sensor:  # without a name libcamera takes its first camera, which is another one
            msg = f"{uri}: nothing here tells libcamera's cameras apart. Install what does: sudo apt install rpicam-apps"
            raise SourceError(msg)
        if names is not None and sensor >= len(names):
            msg = f"{uri}: no such CSI camera; libcamera finds {', '.join(names) or 'none'}. Check the ribbon cable"
            raise SourceError(msg)
    candidates = csi_pipelines(sensor, mode, installed_elements(), camera_name=names[sensor] if names else None)
    return opener(uri, candidates, CSI_HINT, limit_s)


def own_opener(uri: str, *, every: bool, limit_s: float) -> Candidates:
    """Connects through the pipeline that ``gst:PIPELINE`` names."""
    pipeline = own_pipeline(uri.removeprefix("gst:"), every=every)
    return opener(redacted(uri), [_candidate("the pipeline", pipeline)], "Try it with gst-launch-1.0 and autovideosink.", limit_s)


def opener(
    name: str, candidates: Iterable[DecoderCandidate], hint: str, limit_s: float, reach: Callable[[], None] = lambda: None
) -> Candidates:
    """Connects through the first of ``candidates`` that works; see `Candidates` for ``hint`` and ``reach``.

    ``limit_s`` is how long OpenCV may wait for a picture, where it can tell the time: a read that it ends leaves nothing behind.
    """

    def connect(pipeline: str) -> Stream:
        import cv2

        ms = max(1, round(limit_s * 1000))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, ms]
        bounded = version_of_opencv(cv2.__version__) >= TIMEOUTS
        return Stream(cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, limits if bounded else []))

    return Candidates(name, candidates, connect, hint, reach)


def version_of_opencv(version: str) -> tuple[int, ...]:
    """Its first two numbers."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _candidate(decoder: str, pipeline: str) -> DecoderCandidate:
    return DecoderCandidate(decoder=decoder, pipeline=pipeline, missing=tuple(registry().lacking(elements(pipeline))))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _from_nvmm(mode: Mode, has: Installed) -> str:
    """From the hardware's memory to what OpenCV reads: turned on the way, converted by the processor only where it must be."""
    bgrx = NVMM_TO_BGRX.format(NV_FLIPS[mode.rotate])
    return bgrx if has.bgrx else f"{bgrx} ! {BGR}"


def _flipped(mode: Mode) -> str:
    method = {0: "", 90: "clockwise", 180: "rotate-180", 270: "counterclockwise"}[mode.rotate]
    return f"videoflip method={method} ! " if method else ""


def elements(pipeline: str) -> list[str]:
    """The element names in ``pipeline``, in order."""
    links = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", '""', pipeline).split("!")
    heads = [part.strip().partition(" ")[0] for part in links]
    return [head for head in heads if re.fullmatch(r"[A-Za-z][\w-]*", head)]


def built_in() -> bool:
    """Whether this OpenCV was built with GStreamer."""
    import cv2

    return GSTREAMER.search(cv2.getBuildInformation()) is not None


def need_gstreamer(uri: str) -> None:
    """Raise SourceError, with what to do, if this OpenCV cannot run a pipeline."""
    import cv2

    if not built_in():
        msg = (
            f"{redacted(uri)}: this OpenCV ({cv2.__version__}, {cv2.__file__}) has no GStreamer; pip's never has. Use the "
            "system's: apt install python3-opencv, pip uninstall opencv-python opencv-python-headless, and a virtual "
            "environment made with --system-site-packages."
        )
        raise SourceError(msg)
