"""What is at a path that a user named. A path that cannot be looked at is that user's error, of the kind the caller says.

`pathlib.Path.exists` and its kin raise OSError for a folder without permission and for a name that is too long.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from edgevit.errors import EdgevitError

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def expanded(text: str) -> Path:
    """``text`` as a path, from the home folder that a ``~`` or ``~user`` in front stands for, if there is such a user."""
    path = Path(text)
    with suppress(RuntimeError):
        path = path.expanduser()
    return path


def own_name(path: Path) -> str:
    """Of a file or folder without its suffix, even where it is called ``.`` or is a link."""
    return Path(os.path.realpath(path)).stem


def require_utf8(text: object, error: type[EdgevitError], *, called: str | None = None) -> None:
    """Raise ``error`` if ``text`` is not to be had in UTF-8, as a file's name need not be: OpenCV crashes on such a one.

    The error calls it ``called``, where ``text`` may hold a password.
    """
    try:
        str(text).encode()
    except UnicodeEncodeError:
        msg = f"{called or text}: OpenCV opens no name that is not UTF-8. Rename it, or give a link to it."
        raise error(msg) from None


def looked_at(path: Path, error: type[EdgevitError], *, called: str | None = None) -> os.stat_result | None:
    """What is at ``path``, links followed; None if nothing is. Raises ``error`` if the system does not let anybody look.

    The error calls it ``called``, where ``path`` itself may hold a password.
    """
    try:
        return path.stat()
    except OSError as reason:
        if reason.errno in _NOTHING:
            return None
        msg = f"{called or path}: cannot be looked at: {reason.strerror}. Check the path, and that you may enter its folders."
        raise error(msg) from (None if called else reason)
    except ValueError as reason:
        msg = f"{called or path}: no path holds a NUL character. Check where this name comes from."
        raise error(msg) from (None if called else reason)


def exists(path: Path, error: type[EdgevitError], *, called: str | None = None) -> bool:
    """Whether there is anything at ``path``, links followed. Raises ``error`` as `looked_at` does."""
    return looked_at(path, error, called=called) is not None


def is_folder(path: Path, error: type[EdgevitError]) -> bool:
    """Whether ``path`` is a folder, or a link to one. Raises ``error`` as `looked_at` does."""
    found = looked_at(path, error)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: Path, error: type[EdgevitError]) -> bool:
    """Whether ``path`` is a regular file, or a link to one. Raises ``error`` as `looked_at` does."""
    found = looked_at(path, error)
    return found is not None and stat.S_ISREG(found.st_mode)
