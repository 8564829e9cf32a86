"""Who is next: several sources, one engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from edgevit.errors import SourceError
from edgevit.runtime.mailbox import STOP_SECONDS, Mailbox

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgevit.runtime.cameras import Camera
    from edgevit.runtime.frame import Frame

Lost = Callable[[str, SourceError], None]
"""Told of a camera that is gone for good, by its name."""


class Turns:
    """Iterates over the frames of several cameras: of those that have one, that whose last turn is longest ago.

    So each camera gets an equal share of an engine that is too slow for all, what one does not use is the others', and none
    waits longer than it takes to serve each of the others once. A camera that hangs or is away has no frame, and so no turn.

    Each is read on a thread of its own: under `latest` what comes overtakes what nobody has taken yet, under `every` the thread
    waits. One that ends leaves the others running, and so does one that fails with SourceError; the first such error is raised
    when all are over. Use it as a context manager; the threads end with it.
    """

    def __init__(self, cameras: Sequence[Camera], *, limit: int | None = None, lost: Lost = lambda _name, _error: None) -> None:
        """Take at most ``limit`` frames of each; ``lost`` is told of every camera that fails, on the thread that iterates."""
        self._changed = threading.Condition()
        self._lanes = [_Lane(camera, limit, self._changed) for camera in cameras]
        self._lost = lost

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for lane in self._lanes:
                stack.enter_context(lane.box)
            stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for lane in self._lanes:
            lane.box.leave()
        until = time.monotonic() + STOP_SECONDS  # for all of them together
        for lane in self._lanes:
            lane.box.join(max(0.0, until - time.monotonic()))

    def __iter__(self) -> Iterator[tuple[Camera, Frame]]:
        waiting = list(self._lanes)  # those whose last turn is longest ago come first
        errors = list[SourceError]()
        while waiting:
            with self._changed:
                while not any(lane.box.full or lane.box.over for lane in waiting):
                    self._changed.wait()
                over = [lane for lane in waiting if lane.box.over]
                waiting = [lane for lane in waiting if not lane.box.over]
                ready = next((lane for lane in waiting if lane.box.full), None)
                frame = ready.box.take() if ready else None
            errors.extend(filter(None, map(self._ended, over)))
            if ready is None or frame is None:
                continue
            waiting.remove(ready)
            if ready.counts_down():
                waiting.append(ready)
            else:
                ready.box.leave()
            yield ready.camera, frame
        if errors:
            raise errors[0]

    def _ended(self, lane: _Lane) -> SourceError | None:
        """What ended a camera, if it was lost; what is no such error ends all of them."""
        error = lane.box.error
        if isinstance(error, SourceError):
            self._lost(lane.camera.called, error)
            return error
        if error is not None:
            raise error
        return None


class _Lane:
    """A camera, the frame that waits, and how many it may still have."""

    def __init__(self, camera: Camera, limit: int | None, changed: threading.Condition) -> None:
        self.camera, self._left = camera, limit
        self.box: Mailbox[Frame] = Mailbox(camera.source, overtake=camera.source.policy == "latest", changed=changed)

    def counts_down(self) -> bool:
        """Count a turn; whether it may have another."""
        if self._left is not None:
            self._left -= 1
        return self._left is None or self._left > 0
