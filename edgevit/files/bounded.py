"""Reading what a user names: no pipe, which could wait for ever, no device, which could never end, and no flood."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

MIB = 2**20


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for anything else, and without ``follow`` for a link."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow and path.is_symlink():
        msg = "it is a link, and a bundle's files are its own"
        raise OSError(msg)
    stream = os.fdopen(os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0))), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        msg = "it is no regular file"
        raise OSError(msg)
    return stream


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file. Raises OSError for anything else, and for one of more than ``limit`` bytes."""
    with open_regular(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        msg = f"it is longer than {limit:,} bytes"
        raise OSError(msg)
    return content
