"""RTSP: through GStreamer with no buffering, through OpenCV's FFmpeg where there is no GStreamer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from edgevit.errors import SourceError
from edgevit.runtime import gstreamer
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Opener, Stream

FFMPEG_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
OPEN_MS, READ_MS = 10_000, 5_000


def rtsp_opener(uri: str, mode: Mode) -> Opener:
    """Connects to ``uri``, which may hold user:password@, percent-encoded where it has a slash."""
    name = redacted(uri)
    address, user, password = _split(uri)
    hint = "Check the address, user and password, and that the camera is on: ffprobe -rtsp_transport tcp ADDRESS"
    if gstreamer.built_in():
        return gstreamer.opener(name, gstreamer.rtsp_pipelines(address, mode, user=user, password=password), hint)

    scheme, _, rest = address.partition("://")
    encoded = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}" if user else address

    def connect() -> Stream:
        import cv2

        # OpenCV reads FFmpeg's log level once. It would print addresses.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        try:
            with _low_delay():
                return Stream(cv2.VideoCapture(encoded, cv2.CAP_FFMPEG, limits), rotate=mode.rotate)
        except SourceError:
            msg = f"{name}: no picture came. {hint}"
            raise SourceError(msg) from None

    return connect


@contextmanager
def _low_delay() -> Iterator[None]:
    """FFmpeg's options while a stream is opened: OpenCV reads them at every open, and a video file would lose frames by them."""
    own = VARIABLE not in os.environ  # what a user has set holds
    if own:
        os.environ[VARIABLE] = FFMPEG_OPTIONS
    try:
        yield
    finally:
        if own:
            os.environ.pop(VARIABLE, None)


def _split(uri: str) -> tuple[str, str, str]:
    """The address without login, the user and the password, decoded. The login ends at the last @ before a host."""
    match = re.fullmatch(r"(\w+://)(?:([^/]*)@)?([^/@]+(?:/.*)?)", uri)
    if match is None:
        return uri, "", ""
    scheme, login, rest = match.groups()
    user, _, password = (login or "").partition(":")
    return scheme + rest, unquote(user), unquote(password)
