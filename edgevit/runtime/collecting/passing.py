"""A source of those frames of another that pass the filters: the loop that classifies takes it for any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgevit.runtime.collecting.chooser import Chooser
from edgevit.runtime.collecting.look import Look, look_at
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.loop import frames_of
from edgevit.runtime.region import Region


class Passing(Source):
    """Measures every frame, and gives those that the chooser passes.

    It does so only when it is asked for the next, without a thread of its own: what became of the last one counts then.
    """

    live, captures = True, True  # so that nobody reads ahead

    def __init__(
        self, source: Source, chooser: Chooser, *, seconds: float | None = None, seen: Callable[[], None],
        region: Region | None = None, note: Callable[[str], None] = lambda _text: None,
    ) -> None:  # fmt: skip
        """End after so many ``seconds`` of the source's time; ``seen`` is called for every frame.

        With ``region``, that alone is measured; ``note`` is told where it follows another size.
        """
        self.description, self.fps = source.description, source.fps
        self.look: Look
        """Of the frame that was given last."""
        self.at: float | None = None
        """Its seconds; None where time means nothing."""
        self.over = False
        """Whether the time is."""
        self._source, self._chooser, self._seconds, self._seen = source, chooser, seconds, seen
        self._region, self._note = region, note

    def __iter__(self) -> Iterator[Frame]:
        begun: float | None = None
        with frames_of(self._source, self._region, self._note) as frames:
            for frame in frames:
                passed = frame.captured if frame.seconds is None else frame.seconds
                begun = passed if begun is None else begun
                if self._seconds is not None and passed - begun >= self._seconds:
                    self.over = True
                    return
                self._seen()
                look, at = look_at(frame.seen), None if self._source.timeless else passed
                if self._chooser.passes(look, at):
                    self.look, self.at = look, at
                    yield frame
