"""Memory as the kernel counts it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgevit.device.files import text

LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
ZRAM = "/dev/zram"


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A place that memory is swapped to."""

    path: str
    free: int
    """Bytes."""

    @property
    def is_memory(self) -> bool:
        """Whether it is compressed memory itself, as a JetPack sets up by default: nothing is won there by swapping."""
        return self.path.startswith(ZRAM)


def swaps(root: Path) -> list[Swap]:
    """Those in use, by the kernel's list."""
    lines = (line.split() for line in text(root / "proc/swaps").splitlines()[1:])
    return [Swap(path=path, free=(int(size) - int(used)) * 1024) for path, _kind, size, used, *_ in lines]


def meminfo(root: Path) -> dict[str, int]:
    """Bytes by name, such as ``MemAvailable``; empty where there is no /proc/meminfo."""
    return {name: int(kib) * 1024 for name, kib in LINE.findall(text(root / "proc/meminfo"))}
