"""RTSP: through GStreamer with no buffering, through OpenCV's FFmpeg where there is no GStreamer."""

from __future__ import annotations

import os

from edgevit.errors import SourceError
from edgevit.runtime import gstreamer
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Opener, Stream

FFMPEG_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
OPEN_MS, READ_MS = 10_000, 5_000


def rtsp_opener(uri: str, mode: Mode) -> Opener:
    """Connects to ``uri``, which may hold user:password@."""
    name = redacted(uri)
    hint = "Check the address, user and password, and that the camera is on: ffprobe -rtsp_transport tcp ADDRESS"
    if gstreamer.built_in():
        return gstreamer.opener(name, gstreamer.rtsp_pipelines(uri, mode), hint)

    def connect() -> Stream:
        import cv2

        # OpenCV reads these at every open, FFmpeg's log level once. It would print addresses.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_OPTIONS)
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        try:
            return Stream(cv2.VideoCapture(uri, cv2.CAP_FFMPEG, limits), rotate=mode.rotate)
        except SourceError:
            msg = f"{name}: no picture came. {hint}"
            raise SourceError(msg) from None

    return connect
