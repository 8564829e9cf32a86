"""From what a user types to a source of frames."""

from __future__ import annotations

import re
from collections.abc import Callable

from edgevit.errors import ConfigError, DataError, SourceError, needs_extra
from edgevit.files.paths import exists, expanded, require_utf8
from edgevit.images.finding import SUFFIXES
from edgevit.images.reading import read_image
from edgevit.runtime import gstreamer
from edgevit.runtime.camera import camera_opener
from edgevit.runtime.ffmpeg import web_opener
from edgevit.runtime.frame import Policy, Source
from edgevit.runtime.gstreamer import Mode
from edgevit.runtime.images import Images
from edgevit.runtime.pattern import Pattern
from edgevit.runtime.recovery import Live, Recovery
from edgevit.runtime.redact import redacted
from edgevit.runtime.rtsp import rtsp_opener
from edgevit.runtime.stream import Opener
from edgevit.runtime.video import Video

NUMBERED = re.compile(r"(csi|usb)://(\d+)")
KNOWN = (
    "0, /dev/video0, usb://0, csi://0, rtsp://HOST/PATH, http://HOST/PATH, gst:PIPELINE, test://, a video, an image or a folder "
    "of images"
)


def open_source(
    uri: str,
    *,
    loop: bool = False,
    policy: Policy | None = None,
    mode: Mode | None = None,
    recovery: Recovery | None = None,
    note: Callable[[str], None] = lambda _text: None,
) -> Source:
    """Open a camera, a stream, a video, an image, a folder of images or a synthetic pattern.

    Args:
        uri: ``0``, ``/dev/video0``, ``usb://0``, ``csi://0``, ``rtsp://HOST/PATH``, ``http://HOST/PATH``,
            ``gst:PIPELINE``, a path, or ``test://`` (see `Pattern` for its form).
        loop: start a file or folder over when it ends.
        policy: classify the `latest` frame (default of what is live; a video then plays at its own rate) or `every` one
            (default of files). ``gst:`` and ``http://`` under `every` are read like files: nothing dropped, their end is the end.
        mode: size, rate and rotation asked of a camera; of a stream, rotation only.
        recovery: when a live source counts as lost, and when it is given up.
        note: told in a line what of a folder is left out, and of every loss and return; on any thread.

    Raises:
        SourceError: it is missing, empty, unreadable, gives no frame, or is of an unknown kind.
        ConfigError: an option that this source does not have.
    """
    with needs_extra("cpu"):
        import cv2  # noqa: F401 (every source reads through it: say so here, once)

    mode, recovery = mode or Mode(), recovery or Recovery()
    connect = _opener(uri, mode, every=policy == "every", limit_s=recovery.read_seconds)
    if connect is not None:
        if loop:
            msg = f"{redacted(uri)}: --loop is for files; a live source has no end to start over from"
            raise ConfigError(msg)
        finite = re.match(r"gst:|https?://", uri, re.IGNORECASE) is not None and policy == "every"
        return Live(_name(uri), connect, policy=policy or "latest", recovery=recovery, finite=finite, note=note)
    if mode != Mode():
        msg = f"{redacted(uri)}: size, rate and rotation can be asked of cameras and streams only"
        raise ConfigError(msg)
    source = _with(policy, _recorded(uri, loop=loop, paced=policy == "latest"))
    if source.note is not None:
        note(source.note)
    return source


def _opener(uri: str, mode: Mode, *, every: bool, limit_s: float) -> Opener | None:
    """What connects to a live source, whose reads end after ``limit_s`` where that can be; None for another."""
    if re.match(r"/dev/|rtsps?://|https?://|gst:", uri, re.IGNORECASE):
        require_utf8(uri, SourceError, called=redacted(uri))
    if uri.isdecimal():
        return camera_opener(f"/dev/video{int(uri)}", mode)
    if uri.startswith("/dev/"):
        return camera_opener(uri, mode)
    if re.match(r"rtsps?://", uri, re.IGNORECASE):
        _refuse_size(uri, mode)
        return rtsp_opener(uri, mode, limit_s)
    if re.match(r"https?://", uri, re.IGNORECASE):
        _refuse_size(uri, mode)
        return web_opener(uri, mode, every=every)
    if uri.startswith("gst:"):
        if mode != Mode():
            msg = f"{redacted(uri)}: size, rate and rotation are written into the pipeline itself"
            raise ConfigError(msg)
        gstreamer.need_gstreamer(uri)
        return gstreamer.own_opener(uri, every=every, limit_s=limit_s)
    if match := NUMBERED.fullmatch(uri):
        gstreamer.need_gstreamer(uri)
        number = int(match[2])
        if match[1] == "csi":
            return gstreamer.csi_opener(uri, number, mode, limit_s)
        hint = f"See what the camera offers (v4l2-ctl --list-formats-ext), or read it without GStreamer: {number}"
        candidates = gstreamer.usb_pipelines(f"/dev/video{number}", mode, gstreamer.installed_elements())
        return gstreamer.opener(uri, candidates, hint, limit_s)
    return None


def _refuse_size(uri: str, mode: Mode) -> None:
    if mode.size_wh is not None or mode.fps is not None:
        msg = f"{redacted(uri)}: a stream's size and rate are set on its camera, in its own pages"
        raise ConfigError(msg)


def _name(uri: str) -> str:
    """The source for people, and its frames' name."""
    if uri.isdecimal():
        return f"camera /dev/video{int(uri)}"
    return f"camera {redacted(uri)}" if uri.startswith("/dev/") else redacted(uri)


def _recorded(uri: str, *, loop: bool, paced: bool) -> Source:
    if uri.startswith("test:"):
        return Pattern(uri)
    path = expanded(uri)
    if not exists(path, SourceError, called=redacted(uri)):
        if re.match(r"[a-z][a-z0-9+.-]*:", uri, re.IGNORECASE):
            msg = f"{redacted(uri)}: no known kind of source. Known: {KNOWN}."
            raise SourceError(msg)
        # What is no file may be an address with a typing error, and a password.
        msg = f"{redacted(uri)}: no such file or folder. A camera is a number (0) or /dev/video0."
        raise SourceError(msg)
    if path.is_dir():
        return Images(path, loop=loop)
    if not path.is_file():  # opening a pipe waits for whoever writes to it
        msg = f"{path}: not a regular file, but a pipe, socket or device. Give a file, a folder or a camera."
        raise SourceError(msg)
    if path.suffix.lower() not in SUFFIXES:
        return Video(path, loop=loop, paced=paced)
    try:
        read_image(path)
    except DataError as error:
        raise SourceError(str(error)) from error
    return Images(path, loop=loop)


def _with(policy: Policy | None, source: Source) -> Source:
    """``source`` under ``policy``, if it can have it."""
    if policy == "latest" and not source.live:
        msg = f"{source.description}: has no rate of its own, so no frame is ever overtaken; leave --policy out or say every"
        raise ConfigError(msg)
    source.asked_policy = policy
    return source
