"""What a ``/dev/video`` node is: a camera, a CSI sensor without its image processor, or part of a processor or codec.

Sources of the names: drivers of NVIDIA's and Raspberry Pi's kernels, as ``v4l2-ctl --list-devices`` shows them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from edgevit.device.files import text

SENSORS = re.compile(r"vi-output|tegra-(video|capture-vi|camrtc-capture-vi)|tegra\d+-vi|unicam|rp1-cfe")
"""What gives a CSI sensor's Bayer pictures as they come: OpenCV reads none of them."""
PARTS = re.compile(r"pispbe|bcm2835-(isp|codec)|rpivid|rpi-hevc-dec")
LISTS = ("rpicam-hello", "libcamera-hello")
"""Programs that list a Raspberry Pi's CSI cameras; the older name is that of Debian 11 and 12."""
LIST_SECONDS = 10.0
_LISTED = re.compile(r"^(\d+) : .*\((/base/[^)]+)\)", re.MULTILINE)

Kind = Literal["camera", "sensor", "part"]


def camera_kind(device: str | Path, root: Path) -> Kind:
    """What ``device``, such as ``/dev/video0`` or a link to it, is by its driver; a camera if nothing says otherwise."""
    node = root / "sys/class/video4linux" / Path(device).resolve().name
    names = (driver_of(node), text(node / "name").strip())
    if any(map(SENSORS.match, names)):
        return "sensor"
    return "part" if any(map(PARTS.match, names)) else "camera"


def driver_of(node: Path) -> str:
    """The kernel driver of a folder in ``/sys/class/video4linux``; empty if it has none."""
    try:
        return (node / "device/driver").readlink().name
    except OSError:
        return ""


def libcamera_names() -> list[str] | None:
    """The names of the CSI cameras that libcamera finds, in its own order; None if nothing here can list them."""
    tool = next(filter(None, map(shutil.which, LISTS)), None)
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, "--list-cameras"], capture_output=True, text=True, errors="replace", timeout=LIST_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [name for _, name in _LISTED.findall(done.stdout + done.stderr)]
