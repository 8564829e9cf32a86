"""Where a service's files lie: its releases, which one is in use, and which one was before.

Below ``FOLDER/services/NAME``: ``releases/ID`` holds a bundle and ``wanted.json``, and never changes. ``current`` and
``previous`` are links to releases, each exchanged in one step; ``former`` is there while it is not settled whether the current
one does any good.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgevit.bundle import Bundle, open_bundle
from edgevit.errors import ConfigError, StateError, storage_errors
from edgevit.files.bounded import read_bounded
from edgevit.files.writing import beside, put, write_whole
from edgevit.services.wanted import LIMIT, Wanted, parse_wanted, to_json

WANTED, HEALTHY, CURRENT, PREVIOUS, FORMER = "wanted.json", "healthy", "current", "previous", "former"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A bundle with what it is to be run on."""

    folder: Path

    @property
    def id(self) -> str:
        """Of bundle and options together."""
        return self.folder.name

    @property
    def bundle(self) -> Path:
        """The only thing below ``bundle``, under the name that it was deployed with. Raises StateError."""
        found = [path for path in sorted((self.folder / "bundle").glob("*")) if not path.name.startswith(".")]
        if len(found) != 1:
            msg = f"{self.folder}: this release has no bundle. Deploy it again."
            raise StateError(msg)
        return found[0]

    def wanted(self) -> Wanted:
        """What it is to be run on. Raises StateError."""
        path = self.folder / WANTED
        try:
            return parse_wanted(read_bounded(path, LIMIT).decode())
        except (OSError, ValueError) as error:
            msg = f"{path}: cannot be read: {error}. Deploy it again."
            raise StateError(msg) from error

    @property
    def was_healthy(self) -> bool:
        """Whether it ever gave labels in service: only such a one is worth to go back to."""
        return (self.folder / HEALTHY).exists()

    def mark_healthy(self) -> None:
        """Remember that it gives labels."""
        if not self.was_healthy:
            write_whole(self.folder / HEALTHY, "")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Of one service. Raises ConfigError for a name that none can have."""

    folder: Path
    """Absolute: of all that is deployed."""
    name: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            msg = f"--name {self.name!r}: a service's name has letters, digits, - and _ only, 64 at most."
            raise ConfigError(msg)

    @property
    def root(self) -> Path:
        """Of this service alone."""
        return self.folder / "services" / self.name

    @property
    def current(self) -> Release | None:
        """In use; None before there is one."""
        return self._release(CURRENT)

    @property
    def previous(self) -> Release | None:
        """In use before that."""
        return self._release(PREVIOUS)

    def _release(self, link: str) -> Release | None:
        with suppress(OSError):
            target = (self.root / link).readlink()
            if target.parent == Path("releases") and ID.fullmatch(target.name) and (self.root / target).is_dir():
                return Release(folder=self.root / target)
        return None

    def make(self, bundle: Bundle, wanted: Wanted) -> Release:
        """The release of ``bundle`` and ``wanted``, made if it is not there. Its files are those of the bundle where links go."""
        name = hashlib.sha256(f"{bundle.sha256}\n{to_json(wanted)}".encode()).hexdigest()[:16]
        release = Release(folder=self.root / "releases" / name)
        if release.folder.is_dir():
            return release
        with storage_errors(release.folder, "--dir"):
            release.folder.parent.mkdir(parents=True, exist_ok=True)
            with beside(release.folder) as work:
                fresh = work / "release"
                (fresh / "bundle").mkdir(parents=True)
                target = fresh / "bundle" / bundle.path.name
                if bundle.path.is_dir():
                    shutil.copytree(bundle.path, target, copy_function=_linked)
                else:
                    _linked(str(bundle.path), str(target))
                write_whole(fresh / WANTED, to_json(wanted), mode=0o600)
                open_bundle(target, None)
                put(fresh, release.folder, durable=False)
        return release

    def begin(self, release: Release) -> Release | None:
        """Have ``release`` be the current one, in one step; returns the one to go back to, which is remembered until `settle`."""
        with storage_errors(self.root, "--dir"):
            current, back = self.current, self._release(FORMER) or self.previous
            if current is not None and current != release and current.was_healthy:
                back = current
            if back is not None and back != release:
                self._point(FORMER, back)
            self._point(CURRENT, release)
        return back if back != release else None

    def settle(self, release: Release | None, before: Release | None) -> None:
        """Have ``release`` be the current one and ``before`` the one before it, from now on; others are removed."""
        with storage_errors(self.root, "--dir"):
            for link, target in ((CURRENT, release), (PREVIOUS, before)):
                if target is not None:
                    self._point(link, target)
                elif link == CURRENT:
                    (self.root / link).unlink(missing_ok=True)
            (self.root / FORMER).unlink(missing_ok=True)
        self.prune()

    def prune(self) -> None:
        """Remove releases that no link leads to."""
        links = (self._release(link) for link in (CURRENT, PREVIOUS, FORMER))
        kept = {release.id for release in links if release is not None}
        with suppress(OSError):
            for folder in (self.root / "releases").iterdir():
                if ID.fullmatch(folder.name) and folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)

    def _point(self, link: str, release: Release) -> None:
        fresh = self.root / f".{link}.{os.getpid()}"
        with suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(Path("releases") / release.id)
        fresh.replace(self.root / link)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time; waits for another."""
        with storage_errors(self.root, "--dir"):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def places(folder: Path) -> list[Place]:
    """Every service below ``folder``, by name."""
    found = sorted((folder / "services").glob("*/releases"))
    return [Place(folder=folder, name=path.parent.name) for path in found if NAME.fullmatch(path.parent.name)]


def _linked(source: str, target: str) -> str:
    """A second name for a file that never changes; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
