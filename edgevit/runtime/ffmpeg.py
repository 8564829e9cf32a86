"""Streams from the network through OpenCV's FFmpeg: with a time limit, no delay, and nothing printed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, unquote

from edgevit.errors import SourceError
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Opener, Stream

LOW_DELAY = "fflags;nobuffer|flags;low_delay"
VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
OPEN_MS, READ_MS = 10_000, 5_000


def ffmpeg_opener(uri: str, mode: Mode, *, options: str, hint: str) -> Opener:
    """Connects to ``uri``, which may hold user:password@, with FFmpeg's ``options`` in the form that OpenCV has for them."""
    name = redacted(uri)
    address, user, password = split_login(uri)
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()  # FFmpeg knows no other
    encoded = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}" if user else f"{scheme}://{rest}"

    def connect() -> Stream:
        import cv2

        # OpenCV reads FFmpeg's log level once. It would print addresses.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        try:
            with _given(options):
                return Stream(cv2.VideoCapture(encoded, cv2.CAP_FFMPEG, limits), rotate=mode.rotate)
        except SourceError:
            msg = f"{name}: no picture came. {hint}"
            raise SourceError(msg) from None

    return connect


def web_opener(uri: str, mode: Mode, *, every: bool) -> Opener:
    """Connects to an ``http://`` or ``https://`` camera: MJPEG, HLS, or what else FFmpeg reads from there.

    Where ``every`` frame counts, those are kept that FFmpeg looks at to learn what the stream is.
    A server's certificate is not checked, as most cameras have signed their own: FFmpeg's default.
    """
    hint = "Check the address, user and password, and that it is the stream itself, not the camera's page: ffprobe ADDRESS"
    return ffmpeg_opener(uri, mode, options="" if every else LOW_DELAY, hint=hint)


def split_login(uri: str) -> tuple[str, str, str]:
    """The address without login, the user and the password, decoded. The login ends at the last @ before a host."""
    match = re.fullmatch(r"(\w+://)(?:([^/]*)@)?([^/@]+(?:/.*)?)", uri)
    if match is None:
        return uri, "", ""
    scheme, login, rest = match.groups()
    user, _, password = (login or "").partition(":")
    return scheme + rest, unquote(user), unquote(password)


@contextmanager
def _given(options: str) -> Iterator[None]:
    """FFmpeg's options while a stream is opened: OpenCV reads them at every open, and a video file would lose frames by them."""
    own = bool(options) and VARIABLE not in os.environ  # what a user has set holds
    if own:
        os.environ[VARIABLE] = options
    try:
        yield
    finally:
        if own:
            os.environ.pop(VARIABLE, None)
