"""RTSP: through GStreamer with no buffering, through OpenCV's FFmpeg where there is no GStreamer."""

from __future__ import annotations

from edgevit.runtime import gstreamer
from edgevit.runtime.ffmpeg import LOW_DELAY, ffmpeg_opener, split_login
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Opener

HINT = "Check the address, user and password, and that the camera is on: ffprobe -rtsp_transport tcp ADDRESS"


def rtsp_opener(uri: str, mode: Mode) -> Opener:
    """Connects to ``uri``, which may hold user:password@, percent-encoded where it has a slash."""
    if not gstreamer.built_in():
        return ffmpeg_opener(uri, mode, options=f"rtsp_transport;tcp|{LOW_DELAY}", hint=HINT)
    address, user, password = split_login(uri)
    return gstreamer.opener(redacted(uri), gstreamer.rtsp_pipelines(address, mode, user=user, password=password), HINT)
