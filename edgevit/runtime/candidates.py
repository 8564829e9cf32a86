"""Several ways of connecting to one source, tried one by one until one gives a picture."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgevit.device.gstreamer import OF_BOARDS, PACKAGES, packages_of
from edgevit.errors import SourceError
from edgevit.runtime.stream import Stream


@dataclass(frozen=True, kw_only=True)
class DecoderCandidate:
    """A pipeline that may work here."""

    decoder: str
    """What tells it from the others, for people."""
    pipeline: str
    missing: tuple[str, ...] = ()
    """Elements of it that are not here: it is passed over."""


class Candidates:
    """Connects, one candidate a call, through the next that has not failed; through the one that gave a picture for ever after.

    A candidate that hangs cannot be interrupted. Whoever waits leaves its call behind and calls again, on another thread: what an
    unfinished call was trying counts as hanging, and the next one is tried.
    """

    def __init__(
        self,
        name: str,
        candidates: Iterable[DecoderCandidate],
        open_pipeline: Callable[[str], Stream],
        hint: str,
        reach: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            name: the source for people, without a password.
            candidates: the ways of connecting, best first.
            open_pipeline: connects through a pipeline. Raises SourceError if it gives no picture.
            hint: ends the message if none does.
            reach: called before every connection. Raises UnreachableError where no candidate can connect.
        """
        found = list(candidates)
        self._name, self._open, self._hint, self._reach = name, open_pipeline, hint, reach
        self._lock = threading.Lock()
        self._waiting = [each for each in found if not each.missing]
        self._missing = list(dict.fromkeys(element for each in found for element in each.missing))
        self._trying: DecoderCandidate | None = None
        self._settled: DecoderCandidate | None = None
        self._tried: list[str] = []

    @property
    def settled(self) -> bool:
        """Whether one gave a picture; it is the only one from then on, so that hardware is not tried again at every reconnect."""
        return self._settled is not None

    @property
    def more(self) -> bool:
        """Whether there is one that was not tried yet."""
        return self._settled is None and bool(self._waiting)

    @property
    def story(self) -> str:
        """What gave a picture, and what was tried before it; empty if the first one did, or none."""
        if self._settled is None or not self._tried:
            return ""
        return f"through {self._settled.decoder}, after {', '.join(self._tried)}"

    def __call__(self) -> Stream:
        """Connect through one candidate. Raises SourceError, which is not the last word while there are ``more``."""
        self._reach()
        candidate = self._next()
        try:
            stream = self._open(candidate.pipeline)
        except SourceError:
            with self._lock:
                if self._trying is candidate:  # else it was left as hanging, and has been counted
                    self._trying = None
                    self._tried.append(f"{candidate.decoder} (no picture)")
            raise SourceError(self.failure()) from None
        with self._lock:
            if self._trying is candidate:
                self._trying, self._settled = None, candidate
        return stream

    def leave(self) -> None:
        """Count what an unfinished call is trying as hanging."""
        with self._lock:
            if self._trying is not None:
                self._tried.append(f"{self._trying.decoder} (hangs)")
                self._trying = None

    def failure(self) -> str:
        """Why there is no connection: what was tried, what GStreamer lacks for the rest, and the hint."""
        tried = f" Tried: {', '.join(self._tried)}." if len(self._tried) > 1 or "(hangs)" in "".join(self._tried) else ""
        missing = [each for each in self._missing if not self._tried or PACKAGES.get(each) not in OF_BOARDS]
        packages = packages_of(missing)
        lacks = f" GStreamer lacks {', '.join(missing)}" if missing else ""
        lacks += f" (of {', '.join(packages)})" if packages else ""
        return f"{self._name}: no picture came.{tried}{lacks}{'.' if lacks else ''} {self._hint}"

    def _next(self) -> DecoderCandidate:
        self.leave()
        with self._lock:
            if self._settled:
                return self._settled
            if self._waiting:
                self._trying = self._waiting.pop(0)
                return self._trying
        raise SourceError(self.failure())
