"""Whole files and folders: prepared beside, then put in their place at once. The one way in which edgevit writes them.

What is under way lies in a hidden folder of its own next to its place, ``.NAME.edgevit-XXXXXXXX``, open to its user alone: no
name that others could guess, no link that could lead elsewhere. Its writer holds a lock on it, so whoever writes there next
can tell what a killed process left, and removes it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevit.errors import StorageError, storage_errors
from edgevit.files.own_kinds import FileKind, require_kind
from edgevit.files.paths import exists

KEPT = 40  # characters of the name that the folder beside bears: names may be 255 bytes long, and it adds some
LEFT = re.compile(r"\..*\.edgevit-[a-z0-9_]{8}", re.DOTALL)
"""The names of the folders beside."""
OLD = "old"
"""In a folder beside: what is being replaced, under its own name."""
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2  # linux/fs.h
_NOT_HERE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EXDEV)
"""What renameat2 says where the kernel or the file system lacks a flag."""


def write_whole(
    path: Path,
    content: bytes | str,
    *,
    kind: FileKind | None = None,
    mode: int | None = None,
    durable: bool = True,
    option: str = "",
) -> None:
    """Write ``content`` (text as UTF-8) to ``path``: all of it or nothing, a link there is replaced and never followed.

    Args:
        path: in a folder that exists.
        content: all of it.
        kind: what alone may be replaced; anything if None.
        mode: permissions; those of the file that is replaced, else as the umask has it, if None.
        durable: whether it must survive a power cut.
        option: what names another place, for errors; as in `storage_errors`.

    Raises:
        StorageError: the disk is full, or the folder is missing or cannot be written.
        ConfigError: ``path`` is something else than ``kind``.
    """
    if kind is not None:
        require_kind(path, kind)
    with storage_errors(path, option), beside(path) as folder:
        put(_written(folder, path, content, mode), path, durable=durable)


def write_new(path: Path, content: bytes | str, *, mode: int | None = None) -> bool:
    """As `write_whole`, but never in the place of anything: False if ``path`` is taken. Raises StorageError."""
    with storage_errors(path), beside(path) as folder:
        fresh = _written(folder, path, content, mode)
        _keep(fresh)
        try:
            if not _renamed(fresh, path, RENAME_NOREPLACE):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # the name is ours now
                fresh.replace(path)
        except FileExistsError:
            return False
        _keep(path.absolute().parent)
    return True


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A new empty folder next to ``path``, to prepare in it what `put` then puts there; it is gone afterwards.

    So is what killed processes left in that place. Raises OSError.
    """
    parent = path.absolute().parent
    sweep(parent)
    folder, lock = _claimed(parent, path.name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def put(fresh: Path, path: Path, *, durable: bool = True) -> None:
    """Put ``fresh``, which lies in a folder of `beside`, in the place of ``path``; what was there is gone afterwards.

    In one step: at no time there is nothing, or half of something. Where a folder replaces a folder, that takes Linux and a
    common file system (``RENAME_EXCHANGE``); elsewhere it is two, and what a process that is killed between them has moved away,
    `sweep` puts back. Raises OSError.
    """
    if durable:
        for file in (*(fresh.iterdir() if fresh.is_dir() else ()), fresh):
            _keep(file)
    if path.is_dir() and not fresh.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not _moved(fresh, path) and not _renamed(fresh, path, RENAME_EXCHANGE):
        old = fresh.parent / OLD / path.name
        old.parent.mkdir()
        try:
            path.rename(old)
            fresh.rename(path)
        except BaseException:  # Ctrl-C, too
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    if durable:
        _keep(path.absolute().parent)


def _moved(fresh: Path, path: Path) -> bool:
    """Whether renaming is enough: ``path`` is a file or nothing. Another process may put a folder there any moment."""
    if path.is_dir():
        return False
    try:
        fresh.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def sweep(parent: Path) -> None:
    """Remove the folders beside that killed processes left in ``parent``; what they had moved away goes back to its place."""
    with os.scandir(parent) as entries:
        left = [Path(entry.path) for entry in entries if LEFT.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for folder in left:
        with suppress(OSError):
            if (lock := _locked(folder)) is not None:
                try:
                    _put_back(folder, parent)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)


def require_writable(path: Path, *, parents: bool = False, option: str = "") -> None:
    """Raise StorageError now, not after minutes of work, if nothing can be written at ``path``. Writes nothing.

    With ``parents`` its folder is yet to be made. ``option`` names another place, as in `storage_errors`.
    """
    parent = path.absolute().parent
    if parents:
        parent = next(folder for folder in path.absolute().parents if exists(folder, StorageError))
    elif not exists(parent, StorageError):
        msg = f"{path}: the folder {path.parent} does not exist. Make it first: mkdir -p {path.parent}"
        raise StorageError(msg)
    # Tried, not asked: os.access knows neither quotas nor /proc. The file has no name and is gone at once.
    with storage_errors(path, option), tempfile.TemporaryFile(dir=parent):
        pass


def _written(folder: Path, path: Path, content: bytes | str, mode: int | None) -> Path:
    """A file in ``folder`` that is to be at ``path``."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    fresh = folder / "file"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode), "wb") as stream:
        stream.write(data)
        if mode is None and path.is_file():
            with suppress(OSError):  # a file system without permissions has none to keep
                os.fchmod(stream.fileno(), path.stat().st_mode & 0o777)
    return fresh


def _claimed(parent: Path, name: str) -> tuple[Path, int | None]:
    """A new folder and the lock on it; None where the file system has no locks: nobody sweeps there."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{name[:KEPT]}.edgevit-", dir=parent))
        try:
            lock = _locked(folder)
        except FileNotFoundError:
            continue  # somebody swept before it was locked
        except OSError:
            return folder, None
        if lock is not None and folder.exists():
            return folder, lock
        if lock is not None:
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """The descriptor that locks ``folder``; None if another process holds it. Raises OSError where there are no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _put_back(folder: Path, parent: Path) -> None:
    """What a process moved away and did not live to replace."""
    if (folder / OLD).is_dir():
        for old in (folder / OLD).iterdir():
            if not os.path.lexists(parent / old.name):
                old.rename(parent / old.name)


def _renamed(source: Path, target: Path, flag: int) -> bool:
    """Linux's ``renameat2``; False where that, or the flag, is not to be had. Raises OSError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    here = -100  # AT_FDCWD
    if call(here, os.fsencode(source), here, os.fsencode(target), flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_HERE:
        return False
    raise OSError(code, os.strerror(code), str(target))


def _keep(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not for a folder of every file system
            raise
    finally:
        os.close(descriptor)
