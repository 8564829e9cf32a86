"""Memory as the kernel counts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgevit.device.files import number, text

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


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: of memory and swap on a disk, of its control groups, of ``ulimit -v``.

    None where the system does not tell.
    """
    found = meminfo(root).get("MemAvailable")
    if found is None:
        return None
    swapped = sum(swap.free for swap in swaps(root) if not swap.is_memory)
    return max(0, min((found + swapped, *_room_in_groups(root), *_room_of_addresses(root))))


def _room_in_groups(root: Path) -> Iterator[int]:
    """What is left of the limit of each control group that this process is in, of either version, and of those around it."""
    for line in text(root / "proc/self/cgroup").splitlines():
        _, kinds, place = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / kinds
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        group = top / place.lstrip("/")
        for folder in (group, *group.parents):
            most, now = number(folder / limit), number(folder / used)
            if most is not None and now is not None:
                stat = re.search(r"^inactive_file (\d+)$", text(folder / "memory.stat"), re.MULTILINE)
                yield most - now + (int(stat[1]) if stat else 0)  # files that were read are let go first
            if folder == top:
                break


def _room_of_addresses(root: Path) -> Iterator[int]:
    import resource

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = re.search(r"^VmSize:\s+(\d+) kB$", text(root / "proc/self/status"), re.MULTILINE)
    if most != resource.RLIM_INFINITY and used:
        yield most - 1024 * int(used[1])
