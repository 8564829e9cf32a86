"""A piece of work that any process can do, and what one process keeps from a piece to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Blob(Protocol):
    """Bytes that lie where every worker can read them, so that no task has to carry them; it can be pickled."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        ...

    def read(self) -> bytes:
        """The content."""
        ...


@dataclass(frozen=True, kw_only=True)
class Held:
    """A `Blob` that travels with its task."""

    content: bytes

    @property
    def digest(self) -> str:
        """See `Blob.digest`."""
        return digest_of(self.content)

    def read(self) -> bytes:
        """See `Blob.read`."""
        return self.content


class Warm:
    """What a worker keeps from one task to the next: a single thing, such as an engine that took a second to compile."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._kept: Any = None

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for ``key``; made now, in the place of what was kept for another, if that is not at hand."""
        if self._kept is None or self._key != key:
            self.close()
            self._key, self._kept = key, make()
        return self._kept

    def close(self) -> None:
        """Let go of it, by its own ``close`` if it has one."""
        kept, self._kept = self._kept, None
        if hasattr(kept, "close"):
            kept.close()


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work: a function of a module and its argument. What it gives depends on nothing else.

    ``function(argument, warm)`` may keep a thing in ``warm``. Both, and the result, are sent between processes by pickle. Raises
    TypeError for a function that only this process knows, such as a lambda.
    """

    name: str
    """For people: what it does."""
    function: Callable[[Any, Warm], Any]
    argument: Any

    def __post_init__(self) -> None:
        name = getattr(self.function, "__qualname__", repr(self.function))
        if "<" in name or "." in name:
            msg = f"{self.name}: {name} is no function of a module, so no other process can find it"
            raise TypeError(msg)

    def run(self, warm: Warm) -> Any:
        """Do it, here."""
        return self.function(self.argument, warm)


def digest_of(content: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()
