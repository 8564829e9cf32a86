"""Room on a disk, looked at before it runs out: a full one damages what others write, too."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgevit.errors import StorageError

RESERVE_MIB = 64
"""Pictures and videos leave so much free."""


def require_space(path: Path) -> None:
    """Raise StorageError if the disk that holds ``path``'s folder has less than `RESERVE_MIB` free."""
    free = shutil.disk_usage(path.parent).free
    if free < RESERVE_MIB * 2**20:
        msg = f"{path}: the disk is full: {free / 2**20:.0f} MiB free, {RESERVE_MIB} are kept. Free space or choose another place"
        raise StorageError(msg)
