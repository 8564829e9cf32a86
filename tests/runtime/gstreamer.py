"""What a Jetson has and pip has not: Python on the system's OpenCV with GStreamer, and an RTSP server to read from.

`PACKAGES` are Debian's and Ubuntu's. edgevit runs there in a process of its own: that OpenCV belongs to the system's Python.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import COMMAND, ROOT

SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = (
    "python3-opencv python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav"
)
NEEDS = ("onnxruntime", "flatbuffers", "protobuf", "packaging", "click", "msgspec", "rich", "markdown-it-py", "mdurl", "pygments")
PROBE = """
import cv2, gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GstRtspServer
assert "GStreamer:                   YES" in cv2.getBuildInformation(), "OpenCV without GStreamer"
"""
# Real servers restart on the same port: the old one is killed, not closed.
SERVER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
port, launch, user, password = sys.argv[1:]
Gst.init(None)
server = GstRtspServer.RTSPServer(service=port, address="127.0.0.1")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(launch)
factory.set_shared(True)
if user:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(Gst.Structure.from_string(
        "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true")[0])
server.get_mount_points().add_factory("/live", factory)
assert server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""
ENCODED = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96"


def system_python() -> Path:
    """Python of an environment on the system's OpenCV, made once and kept. Skips the test if there can be none."""
    if (
        not Path(SYSTEM_PYTHON).exists()
        or subprocess.run([SYSTEM_PYTHON, "-c", PROBE], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"no OpenCV with GStreamer, or no RTSP server: apt-get install {PACKAGES}")
    folder = Path(os.environ.get("EDGEVIT_GSTREAMER", "~/.cache/edgevit-gstreamer")).expanduser()
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists() or done.read_text() != " ".join(NEEDS):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", "--without-pip", str(folder)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--constraint", str(ROOT / "constraints.txt"), *NEEDS], check=True)
        done.write_text(" ".join(NEEDS))
    return python


def start(python: Path, *arguments: object, code: str = COMMAND) -> subprocess.Popen[str]:
    """``edgevit``, or other ``code``, with ``arguments`` in that environment."""
    return subprocess.Popen(
        [str(python), "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """A server of one stream, ``/live``, in a process that can be killed, frozen and started again."""

    def __init__(self, launch: str, *, user: str = "", password: str = "") -> None:
        self.port, self._arguments = free_port(), (launch, user, password)
        login = f"{user}:{quote(password, safe='')}@" if user else ""
        self.uri = f"rtsp://{login}127.0.0.1:{self.port}/live"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, "-c", SERVER, str(self.port), *self._arguments],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def pattern(pattern: str, *, size: str = "width=320,height=240", rate: int = 30) -> str:
    """A pipeline for `RtspServer`: a test picture of GStreamer's as H.264."""
    return f"( videotestsrc is-live=true pattern={pattern} ! video/x-raw,format=I420,{size},framerate={rate}/1 ! {ENCODED} )"
