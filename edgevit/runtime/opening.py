"""Several sources, opened and closed at the same time: one that takes long holds up none of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from edgevit.errors import SourceError
from edgevit.runtime.cameras import Asked, Camera
from edgevit.runtime.frame import Source
from edgevit.runtime.turns import Lost


@contextmanager
def open_cameras(asked: Sequence[Asked], opened: Callable[[str], Source], lost: Lost) -> Iterator[list[Camera]]:
    """The cameras that could be opened, for as long as the block lasts; ``opened`` opens one, by what the user calls it.
    What was open stays open.

    One alone must open. Of several, those that cannot be opened are left out, and ``lost`` is told: with a camera that is away
    when a machine starts, the others run.

    Raises SourceError if none can be opened, ConfigError for an option that one of them does not have.
    """
    if len(asked) == 1:
        (only,) = asked
        with opened(only.uri) if only.opened is None else nullcontext(only.opened) as source:
            yield [Camera(source=source, name=only.name, region=only.region)]
        return

    def way(one: Asked) -> Callable[[], Source]:
        return lambda: one.opened or opened(one.uri)

    found = _open_together([way(one) for one in asked])
    cameras = [
        Camera(source=each, name=one.name, region=one.region)
        for one, each in zip(asked, found, strict=True)
        if isinstance(each, Source)
    ]
    try:
        for one, each in zip(asked, found, strict=True):
            if isinstance(each, SourceError):
                lost(one.name or one.uri, each)
        yield cameras
    finally:
        theirs = [one.opened for one in asked]
        close_together(camera.source for camera in cameras if camera.source not in theirs)


def close_together(sources: Iterable[Source]) -> None:
    """Close them all; it takes as long as the slowest, a read that hangs."""
    threads = [threading.Thread(target=source.close, name="close", daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _open_together(ways: Sequence[Callable[[], Source]]) -> list[Source | Exception]:
    """What each way leads to: a source, or why there is none. Raises the first error that is no SourceError, or if all failed."""
    found: list[Source | Exception | None] = [None] * len(ways)
    left = threading.Event()

    def open_one(place: int) -> None:
        try:
            source = ways[place]()
        except Exception as error:
            found[place] = error
            return
        found[place] = source
        if left.is_set():  # nobody waits any more
            source.close()

    # Daemons: a connection that hangs must not keep the program from ending.
    threads = [threading.Thread(target=open_one, args=(place,), name="open", daemon=True) for place in range(len(ways))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failed = [each for each in found if isinstance(each, Exception)]
        grave = [each for each in failed if not isinstance(each, SourceError)]
        if grave or len(failed) == len(found):
            raise (grave or failed)[0]
    except BaseException:
        left.set()
        close_together(each for each in found if isinstance(each, Source))
        raise
    return [each for each in found if each is not None]
