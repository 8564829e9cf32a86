"""What GStreamer has here, and the package that ships what it lacks."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

TOOL = "gst-inspect-1.0"
SECONDS = 60.0
"""A first look-up loads every plugin; NVIDIA's take long on a small board."""
NVIDIA = "nvidia-l4t-gstreamer"
"""Of the JetPack: a container gets its plugins from the host."""
BASE, GOOD, BAD = "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good", "gstreamer1.0-plugins-bad"
CORE, LIBAV, LIBCAMERA, TOOLS = "libgstreamer1.0-0", "gstreamer1.0-libav", "gstreamer1.0-libcamera", "gstreamer1.0-tools"
PACKAGES = {
    "queue": CORE,
    "appsink": BASE,
    "decodebin": BASE,
    "videoconvert": BASE,
    "jpegdec": GOOD,
    "rtph264depay": GOOD,
    "rtph265depay": GOOD,
    "rtpjpegdepay": GOOD,
    "rtspsrc": GOOD,
    "v4l2src": GOOD,
    "videoflip": GOOD,
    "h264parse": BAD,
    "h265parse": BAD,
    "jpegparse": BAD,
    "avdec_h264": LIBAV,
    "avdec_h265": LIBAV,
    "libcamerasrc": LIBCAMERA,
    "nvarguscamerasrc": NVIDIA,
    "nvjpegdec": NVIDIA,
    "nvv4l2decoder": NVIDIA,
    "nvvidconv": NVIDIA,
}
"""Debian's and Ubuntu's package by element, of every element that edgevit's own pipelines have."""
OF_BOARDS = (NVIDIA, LIBCAMERA)
"""What only some boards have: elsewhere nothing is amiss without them."""
_ELEMENT = re.compile(r"^[\w.-]+:\s+([A-Za-z][\w-]*): ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The elements that GStreamer finds; None where that cannot be asked, and then everything is taken to be there."""

    elements: frozenset[str] | None = None

    def has(self, element: str) -> bool:
        """Whether the element is there."""
        return self.elements is None or element in self.elements

    def lacking(self, elements: Iterable[str]) -> list[str]:
        """Those of ``elements`` that are not there, in order, each once."""
        return [element for element in dict.fromkeys(elements) if not self.has(element)]


@cache
def registry() -> Registry:
    """What is there now, asked once: without a saved registry every question would load all plugins anew."""
    listed = frozenset(_ELEMENT.findall(_inspect()))
    return Registry(elements=listed or None)


@cache
def has_property(element: str, name: str) -> bool:
    """Whether ``element`` is known to have the property: they differ from JetPack to JetPack."""
    described = _inspect(element)
    return re.search(rf"^\s+{re.escape(name)}\s+: ", described, re.MULTILINE) is not None


def packages_of(elements: Iterable[str]) -> list[str]:
    """The packages that ship ``elements``, each once; elements that edgevit does not know are left out."""
    return list(dict.fromkeys(PACKAGES[element] for element in elements if element in PACKAGES))


def _inspect(*arguments: str) -> str:
    tool = shutil.which(TOOL)
    if tool is None:
        return ""
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
