"""Results of build stages, kept by content: the same inputs give the stored result at once.

An entry is one file, named by the SHA-256 of everything its stage depends on, the code included, beginning with the
SHA-256 of its content. It is written beside and renamed, so an interrupted stage leaves nothing and
a damaged entry is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.code import code_digest
from edgevit.errors import StorageError, storage_errors
from edgevit.files.writing import write_whole

LIMIT_BYTES = 8 * 2**30
PLACE = "EDGEVIT_CACHE"
"""Environment variable: the folder."""
_DIGEST = hashlib.sha256().digest_size


def default_cache_dir() -> Path:
    """``$EDGEVIT_CACHE``, else ``edgevit`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get(PLACE)
    if chosen:
        return Path(chosen).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevit"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(os.devnull) / "edgevit"  # cannot be made, which is said then


@dataclass(frozen=True)
class Kind:
    """One kind of stage result: entries are told apart by their inputs and by the code that makes them."""

    name: str
    module: str
    """``__name__`` of what makes it. With all that it imports it is part of every key: other code finds nothing."""
    durable: bool = False
    """Whether an entry survives a power cut; else that may damage it, which is noticed, and it is made again."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder of stage results. ``enabled=False`` computes everything anew and stores nothing."""

    root: Path = field(default_factory=default_cache_dir)
    enabled: bool = True
    note: Callable[[str], None] = field(default=lambda _text: None, repr=False, compare=False)
    """Told in a line, once, that results cannot be kept."""
    _told: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    def find(self, kind: Kind, **inputs: Any) -> bytes | None:
        """The stored result of ``kind`` for these JSON-ready ``inputs``, or None."""
        if not self.enabled:
            return None
        path = self._path(kind, inputs)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(memoryview(content)[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        with suppress(OSError):  # a cache that is mounted read-only still serves
            path.touch()  # the least recently used entries go first
        return content[_DIGEST:]

    def store(self, kind: Kind, result: bytes, **inputs: Any) -> None:
        """Keep ``result``, if the disk takes it."""
        if not self.enabled:
            return
        path = self._path(kind, inputs)
        with self._or_note(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, hashlib.sha256(result).digest() + result, durable=kind.durable, option=PLACE)
            self._trim()

    def check(self) -> None:
        """Say now, not after minutes of work, if nothing can be kept."""
        if self.enabled:
            with self._or_note(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self.root):
                    pass

    @contextmanager
    def _or_note(self, path: Path) -> Iterator[None]:
        """A cache saves time: where it cannot be written, everything is computed anew, and nothing fails by it."""
        try:
            with storage_errors(path, PLACE):
                yield
        except StorageError as error:
            if not self._told:
                self._told.append(path)
                self.note(f"cache: {error} Until then finished stages are not kept; --no-cache leaves the cache out")

    def _path(self, kind: Kind, inputs: dict[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps([code_digest(kind.module), inputs], sort_keys=True).encode()).hexdigest()
        return self.root / kind.name / key

    def _trim(self) -> None:
        entries = []
        for path in self.root.glob("*/*"):
            with suppress(FileNotFoundError):  # another process may trim, too
                if not path.name.startswith("."):
                    found = path.stat()
                    entries.append((found.st_mtime, path, found.st_size))
        total = sum(size for *_, size in entries)
        for _, oldest, size in sorted(entries)[:-1]:
            if total <= LIMIT_BYTES:
                break
            oldest.unlink(missing_ok=True)
            total -= size


class NotKeptError(Exception):
    """`Kept` was asked for what would have to be computed."""


class Kept(Cache):
    """A look at what is there: finds it, or raises NotKeptError before anything is computed; stores nothing."""

    def find(self, kind: Kind, **inputs: Any) -> bytes:
        """The stored result of ``kind`` for these ``inputs``. Raises NotKeptError if there is none."""
        found = super().find(kind, **inputs)
        if found is None:
            raise NotKeptError
        return found

    def store(self, kind: Kind, result: bytes, **inputs: Any) -> None:
        """Nothing new comes of looking."""
