"""Results of build stages, kept by content: the same inputs give the stored result at once.

An entry is one file, named by the SHA-256 of everything its stage depends on, beginning with the
SHA-256 of its content. It is written beside and renamed, so an interrupted stage leaves nothing and
a damaged entry is noticed and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.errors import storage_errors
from edgevit.writing import write_whole

LIMIT_BYTES = 8 * 2**30
_DIGEST = hashlib.sha256().digest_size


def default_cache_dir() -> Path:
    """``$EDGEVIT_CACHE``, else ``edgevit`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("EDGEVIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevit"


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder of stage results. ``enabled=False`` computes everything anew and stores nothing."""

    root: Path = field(default_factory=default_cache_dir)
    enabled: bool = True

    def find(self, stage: str, **inputs: Any) -> bytes | None:
        """The stored result of ``stage`` for these JSON-ready ``inputs``, or None."""
        if not self.enabled:
            return None
        path = self._path(stage, inputs)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        with suppress(OSError):  # a cache that is mounted read-only still serves
            path.touch()  # the least recently used entries go first
        return content[_DIGEST:]

    def store(self, stage: str, result: bytes, **inputs: Any) -> None:
        """Keep ``result``. Raises StorageError if the disk is full or read-only."""
        if not self.enabled:
            return
        path = self._path(stage, inputs)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not kept through a power cut: a damaged entry is noticed.
            write_whole(path, hashlib.sha256(result).digest() + result, durable=False)
            self._trim()

    def check(self) -> None:
        """Raise StorageError now, not after minutes of work, if nothing can be kept."""
        if self.enabled:
            with storage_errors(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self.root):
                    pass

    def get(self, stage: str, produce: Callable[[], bytes], **inputs: Any) -> bytes:
        """The stored result, else what ``produce`` makes, which is then stored."""
        found = self.find(stage, **inputs)
        if found is None:
            found = produce()
            self.store(stage, found, **inputs)
        return found

    def _path(self, stage: str, inputs: dict[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        return self.root / stage / key

    def _trim(self) -> None:
        entries = sorted((path.stat().st_mtime, path) for path in self.root.glob("*/*") if not path.name.startswith("."))
        total = sum(path.stat().st_size for _, path in entries)
        while total > LIMIT_BYTES and len(entries) > 1:
            _, oldest = entries.pop(0)
            total -= oldest.stat().st_size
            oldest.unlink(missing_ok=True)
