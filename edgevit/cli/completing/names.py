"""Names of edgevit's own, from where they are told: cheap to ask for, since somebody waits with a finger on the key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def targets() -> Iterable[str]:
    """All that a bundle can be built for."""
    from edgevit.shipped import shipped_names

    return shipped_names("targets")


def recipes() -> Iterable[str]:
    """All ways to calibrate."""
    from edgevit.shipped import shipped_names

    return shipped_names("calibration")


def engines() -> Iterable[str]:
    """All engines, whether or not they are installed here."""
    from edgevit.engines import ENGINES

    return ENGINES


def compared() -> Iterable[str]:
    """What `compare --precisions` takes, before anything is added to it."""
    from edgevit.numberformat import FORMATS

    return [name for item in FORMATS.values() for name in ((item.name, f"{item.name}-linear") if item.scaled else (item.name,))]


def sources() -> Iterable[str]:
    """The cameras of this machine, and what needs none."""
    cameras = sorted(map(str, Path("/dev").glob("video*")))
    return ("0", *cameras, "csi://0", "usb://0", "test://", "rtsp://", "http://", "gst:")
