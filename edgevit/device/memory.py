"""Memory as the kernel counts it."""

from __future__ import annotations

import re
from pathlib import Path

from edgevit.device.files import text

LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)


def meminfo(root: Path) -> dict[str, int]:
    """Bytes by name, such as ``MemAvailable``; empty where there is no /proc/meminfo."""
    return {name: int(kib) * 1024 for name, kib in LINE.findall(text(root / "proc/meminfo"))}
