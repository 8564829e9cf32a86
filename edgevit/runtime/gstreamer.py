"""GStreamer pipelines for cameras and streams: a Jetson's decoders where they are, software elsewhere.

The pipelines are those of NVIDIA's and JetsonHacks' examples. ``appsink drop=true max-buffers=1 sync=false`` keeps the newest
frame only: without it OpenCV lags by a second or two.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from edgevit.errors import SourceError
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Stream

NEWEST = "appsink drop=true max-buffers=1 sync=false"
EVERY = "appsink max-buffers=4 sync=false"
BGR = "videoconvert ! video/x-raw,format=BGR"
# nvvidconv cannot make BGR.
NVMM_TO_BGR = f"nvvidconv ! video/x-raw,format=BGRx ! {BGR}"
NV_FLIPS = {0: 0, 90: 3, 180: 2, 270: 1}
"""Degrees clockwise -> nvvidconv's flip-method, which counts the other way round."""


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


def csi_pipelines(sensor: int, mode: Mode) -> list[str]:
    """For a camera on a Jetson's CSI connector, or a Raspberry Pi's; best first."""
    asked = Mode(size_wh=mode.size_wh or (1280, 720), fps=mode.fps or 30)
    nvmm, raw = asked.caps("video/x-raw(memory:NVMM)"), asked.caps("video/x-raw")
    return [
        f"nvarguscamerasrc sensor-id={sensor} ! {nvmm} ! {_nv_to_bgr(mode)} ! {NEWEST}",
        f"libcamerasrc ! {raw} ! {_flipped(mode)}{BGR} ! {NEWEST}",
    ]


def usb_pipelines(device: str, mode: Mode) -> list[str]:
    """For a USB camera: its JPEGs through a Jetson's decoder, or in software, or its raw pictures."""
    source, jpeg, raw = f"v4l2src device={device} do-timestamp=true", mode.caps("image/jpeg"), mode.caps("video/x-raw")
    return [
        f"{source} io-mode=2 ! {jpeg} ! jpegparse ! nvv4l2decoder mjpeg=1 ! {_nv_to_bgr(mode)} ! {NEWEST}",
        f"{source} io-mode=2 ! {jpeg} ! jpegparse ! nvjpegdec ! video/x-raw(memory:NVMM) ! {_nv_to_bgr(mode)} ! {NEWEST}",
        f"{source} ! {jpeg} ! jpegdec ! {_flipped(mode)}{BGR} ! {NEWEST}",
        f"{source} ! {raw} ! {_flipped(mode)}{BGR} ! {NEWEST}",
    ]


def rtsp_pipelines(location: str, mode: Mode, *, user: str = "", password: str = "") -> list[str]:
    """For an RTSP stream over TCP, without a jitter buffer: H.264 and H.265 on a Jetson's decoder, any codec in software."""
    login = f" user-id={_quoted(user)} user-pw={_quoted(password)}" if user else ""
    source = f"rtspsrc location={_quoted(location)}{login} latency=0 protocols=tcp drop-on-latency=true"
    newest = f"queue leaky=downstream max-size-buffers=1 ! {NEWEST}"
    hardware = [
        f"{source} ! rtp{codec}depay ! {codec}parse ! nvv4l2decoder enable-max-performance=1 ! {_nv_to_bgr(mode)} ! {newest}"
        for codec in ("h264", "h265")
    ]
    return [*hardware, f"{source} ! application/x-rtp,media=video ! decodebin ! {_flipped(mode)}{BGR} ! {newest}"]


def own_pipeline(text: str, *, every: bool) -> str:
    """A user's pipeline, ended with what hands frames to OpenCV unless it ends so itself."""
    return text if re.search(r"\bappsink\b", text) else f"{text} ! {BGR} ! {EVERY if every else NEWEST}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nv_to_bgr(mode: Mode) -> str:
    return NVMM_TO_BGR.replace("nvvidconv", f"nvvidconv flip-method={NV_FLIPS[mode.rotate]}")


def _flipped(mode: Mode) -> str:
    method = {0: "", 90: "clockwise", 180: "rotate-180", 270: "counterclockwise"}[mode.rotate]
    return f"videoflip method={method} ! " if method else ""


def opener(name: str, pipelines: Iterable[str], hint: str) -> Callable[[], Stream]:
    """Connects through the first of ``pipelines`` that works; ``hint`` ends the message if none does."""
    candidates = list(pipelines)

    def connect() -> Stream:
        import cv2

        missing: list[str] = []
        tried = False
        for pipeline in candidates:
            if lacking := [element for element in elements(pipeline) if not has_element(element)]:
                missing = missing or lacking
                continue
            tried = True
            try:
                stream = Stream(cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER))
            except SourceError:
                continue
            # The hardware's pipeline is not tried again at every reconnect once another has worked.
            candidates[:] = [pipeline]
            return stream
        lacks = "" if tried else f" GStreamer lacks {', '.join(missing)}."
        msg = f"{name}: no picture came.{lacks} {hint}"
        raise SourceError(msg)

    return connect


def elements(pipeline: str) -> list[str]:
    """The element names in ``pipeline``, in order."""
    links = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", '""', pipeline).split("!")
    heads = [part.strip().partition(" ")[0] for part in links]
    return [head for head in heads if re.fullmatch(r"[A-Za-z][\w-]*", head)]


@cache
def has_element(name: str) -> bool:
    """Whether GStreamer has it; True where that cannot be asked, so that the pipeline is tried."""
    tool = shutil.which("gst-inspect-1.0")
    return tool is None or subprocess.run([tool, "--exists", name], check=False, timeout=60).returncode == 0


def built_in() -> bool:
    """Whether this OpenCV was built with GStreamer."""
    import cv2

    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


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
