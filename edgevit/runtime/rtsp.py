"""RTSP: through GStreamer with no buffering, through OpenCV's FFmpeg where there is no GStreamer."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from edgevit.runtime import gstreamer
from edgevit.runtime.ffmpeg import LOW_DELAY, ffmpeg_opener, split_login
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.redact import redacted
from edgevit.runtime.stream import Opener, UnreachableError

PORT, TLS_PORT = 554, 322
REACH_SECONDS = 5.0
HINT = "Check the address, user and password, and that the camera is on: ffprobe -rtsp_transport tcp ADDRESS"


def rtsp_opener(uri: str, mode: Mode, limit_s: float) -> Opener:
    """Connects to ``uri``, which may hold user:password@, percent-encoded where it has a slash; see `gstreamer.opener`."""
    if not gstreamer.built_in():
        return ffmpeg_opener(uri, mode, options=f"rtsp_transport;tcp|{LOW_DELAY}", hint=HINT)
    address, user, password = split_login(uri)
    candidates = gstreamer.rtsp_pipelines(address, mode, gstreamer.installed_elements(), user=user, password=password)
    return gstreamer.opener(redacted(uri), candidates, HINT, limit_s, reach=lambda: check_server(redacted(uri), address))


def check_server(name: str, address: str) -> None:
    """Raise UnreachableError if nothing answers at ``address``; ``name`` is how it may be shown.

    GStreamer notices, too, but OpenCV may then wait for ever for a pipeline that has failed (4.6 with GStreamer 1.22), and every
    decoder would be tried in turn.
    """
    parts = urlsplit(address)
    try:
        host, port = parts.hostname or "", parts.port or (TLS_PORT if parts.scheme.lower() == "rtsps" else PORT)
        socket.create_connection((host, port), REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        msg = f"{name}: nothing answers there ({reason}). {HINT}"
        raise UnreachableError(msg) from None
