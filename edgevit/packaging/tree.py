"""A tree of files as a package holds it: given piece by piece, so that no bundle is held whole, and with one time for all."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgevit.bundle import MANIFEST, SIGNATURE, Bundle, read_signature

EPOCH = "SOURCE_DATE_EPOCH"
"""Environment variable: the time of every file, in seconds since 1970; see reproducible-builds.org."""
FIRST = 315532800
"""Without it: 1980, the earliest time that a zip can hold."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file."""

    path: PurePosixPath
    """Relative to the tree's root."""
    read: Callable[[], bytes]
    mode: int = 0o644


def text_member(path: str, text: str, mode: int = 0o644) -> Member:
    """A file of ``text``."""
    content = text.encode()
    return Member(path=PurePosixPath(path), read=lambda: content, mode=mode)


def bundle_members(bundle: Bundle, folder: str) -> Iterator[Member]:
    """The bundle as a plain folder, whatever it is here: what its manifest names, checked as it is read, and its signature."""
    manifest, signature = bundle.manifest_bytes(), read_signature(bundle.path)
    root = PurePosixPath(folder)
    yield Member(path=root / MANIFEST, read=lambda: manifest)
    if signature is not None:
        yield Member(path=root / SIGNATURE, read=lambda: signature)
    for name in sorted(bundle.manifest.files):
        yield Member(path=root / name, read=lambda name=name: bundle.raw(name))  # type: ignore[misc]


def epoch() -> int:
    """Seconds since 1970 that files get as their time."""
    given = os.environ.get(EPOCH, "")
    return int(given) if given.isdecimal() and len(given) < 12 else FIRST


def write_tree(root: Path, members: Iterable[Member]) -> int:
    """Write ``members`` below ``root``, folders with mode 755; returns the bytes of all. Raises OSError, BundleError."""
    total = 0
    for member in members:
        path = root / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        content = member.read()
        path.write_bytes(content)
        path.chmod(member.mode)
        total += len(content)
    level(root)
    return total


def level(root: Path) -> None:
    """Give everything below ``root`` one time, and all folders mode 755, whatever this process's umask is. Raises OSError."""
    time = epoch()
    for path in (root, *root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (time, time), follow_symlinks=False)


def write_tar(path: Path, members: Iterable[Member]) -> None:
    """Write ``members`` to an uncompressed tar, owned by root. Raises OSError, BundleError."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        folders: set[PurePosixPath] = set()
        for member in members:
            for folder in reversed(member.path.parents):
                if folder not in folders:
                    folders.add(folder)
                    archive.addfile(_info(folder, tarfile.DIRTYPE, 0o755))
            content = member.read()
            info = _info(member.path, tarfile.REGTYPE, member.mode)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _info(path: PurePosixPath, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{path}" if str(path) != "." else ".")
    info.type, info.mode, info.mtime, info.uname, info.gname = kind, mode, epoch(), "root", "root"
    return info
