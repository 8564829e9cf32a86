"""What is at a path that a user named. A path that cannot be looked at is that user's error, of the kind the caller says.

`pathlib.Path.exists` and its kin raise OSError for a folder without permission and for a name that is too long.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from edgevit.errors import EdgevitError

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def looked_at(path: Path, error: type[EdgevitError]) -> os.stat_result | None:
    """What is at ``path``, links followed; None if nothing is. Raises ``error`` if the system does not let anybody look."""
    try:
        return path.stat()
    except OSError as reason:
        if reason.errno in _NOTHING:
            return None
        msg = f"{path}: cannot be looked at: {reason.strerror}. Check the path, and that you may enter its folders."
        raise error(msg) from reason
    except ValueError as reason:
        msg = f"{str(path)!r}: no path holds a NUL character. Check where this name comes from."
        raise error(msg) from reason


def exists(path: Path, error: type[EdgevitError]) -> bool:
    """Whether there is anything at ``path``, links followed. Raises ``error`` as `looked_at` does."""
    return looked_at(path, error) is not None


def is_folder(path: Path, error: type[EdgevitError]) -> bool:
    """Whether ``path`` is a folder, or a link to one. Raises ``error`` as `looked_at` does."""
    found = looked_at(path, error)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: Path, error: type[EdgevitError]) -> bool:
    """Whether ``path`` is a regular file, or a link to one. Raises ``error`` as `looked_at` does."""
    found = looked_at(path, error)
    return found is not None and stat.S_ISREG(found.st_mode)
