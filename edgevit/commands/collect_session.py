"""One session of collecting: frames that pass the filters, or those at which a key is pressed, into an album."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from edgevit.bundle import Bundle
from edgevit.commands.collect_result import CollectResult, Ended
from edgevit.engine.of_bundle import session_of
from edgevit.errors import EdgevitError
from edgevit.images.dataset import UNLABELLED
from edgevit.runtime.collecting.album import Album, Snapshot, contents_of
from edgevit.runtime.collecting.chooser import Chooser, Filters
from edgevit.runtime.collecting.earlier import Earlier
from edgevit.runtime.collecting.keymap import QUIT, SKIP, SPACE, UNDO, Keymap
from edgevit.runtime.collecting.look import Look, look_at
from edgevit.runtime.collecting.passing import Passing
from edgevit.runtime.collecting.unsure import Doubt, Unsure, doubt_of
from edgevit.runtime.decide import Decider
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.loop import classify_frames, frames_of
from edgevit.runtime.region import Region
from edgevit.runtime.stopping import undisturbed

MANY = 500
"""Pictures that take seconds to look through."""


class Watch(Protocol):
    """Told what happens."""

    def kept(self, snapshot: Snapshot, against: str = "") -> None:
        """A snapshot was kept; by key, ``against`` is why the filters would have left it out."""
        ...

    def undone(self, snapshot: Snapshot | None) -> None:
        """The latest was removed, None if there was none."""
        ...

    def seen(self, session: Session) -> None:
        """A frame is looked at."""
        ...

    def note(self, text: str) -> None:
        """Something was assumed or left out."""
        ...


class Silent:
    """Says nothing."""

    def kept(self, snapshot: Snapshot, against: str = "") -> None:
        """Nothing."""

    def undone(self, snapshot: Snapshot | None) -> None:
        """Nothing."""

    def seen(self, session: Session) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class Keyboard(Protocol):
    """Where keys come from."""

    def pressed(self, frame: Frame, *, wait: bool = False) -> list[str]:
        """Show ``frame`` if there is a display; the keys since the last call, with ``wait`` at least one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked for."""

    filters: Filters = field(default_factory=Filters)
    into: str = ""
    """The subfolder of what passes the filters."""
    label: str | None = None
    """Its class."""
    limit: int | None = None
    seconds: float | None = None
    region: Region | None = None
    """The part of the picture that is looked at and kept; None: all of it."""
    model: Bundle | None = None
    """Whose doubts decide."""
    unsure: Unsure = field(default_factory=Unsure)


class Session:
    """Collects once. The source and the album are the caller's, who closes them."""

    def __init__(self, source: Source, album: Album, wishes: Wishes, watch: Watch) -> None:
        self.source, self.album, self.wishes, self.watch = source, album, wishes, watch
        self.frames = 0
        self.chooser = Chooser(wishes.filters, Earlier(alike=wishes.filters.alike, change=wishes.filters.change))
        self._ended: Ended = "end"
        self._typed: list[str] = []
        self._begun = time.perf_counter()

    def by_filters(self) -> EdgevitError | None:
        """Keep what passes the filters, and if there is a model only what it is unsure of. What went wrong after the start."""
        return self._guarded(self._filter)

    def by_keys(self, keymap: Keymap, keyboard: Keyboard) -> EdgevitError | None:
        """Keep the frames at which a key of a class is pressed, whatever speaks against them. What went wrong after the start."""
        return self._guarded(lambda: self._follow(keymap, keyboard))

    def result(self) -> CollectResult:
        """What came of it."""
        faults = self.source.faults.line() if self.source.faults else ""
        return CollectResult(
            path=self.album.folder, source=self.source.description, snapshots=tuple(self.album.snapshots), frames=self.frames,
            left_out=dict(self.chooser.left_out.most_common()), skipped=self.source.skipped,
            faults=faults or None, seconds=time.perf_counter() - self._begun, ended=self._ended,
            contents=contents_of(self.album.folder), mib=self.album.mib, guessed=self.wishes.model is not None,
        )  # fmt: skip

    def _guarded(self, work: Callable[[], Ended]) -> EdgevitError | None:
        try:
            with _out_of_time(self.source, self.wishes.seconds) as is_over:
                self._ended = work()
                if self._ended == "end" and is_over():
                    self._ended = "seconds"
        except KeyboardInterrupt:
            self._ended = "interrupted"
        except EdgevitError as error:
            self._ended = "error"
            return error
        return None

    def _seen(self) -> None:
        self.frames += 1
        self.watch.seen(self)

    def _look_through(self) -> None:
        if self.album.earlier >= MANY:
            self.watch.note(
                f"{self.album.folder}: looking through its {self.album.earlier:,} pictures, to keep none that is alike"
            )
        for name, look in self.album.earlier_looks():
            self.chooser.earlier.add(name, look.thumbnail)

    def _filter(self) -> Ended:
        self._look_through()
        passing = Passing(
            self.source, self.chooser, seconds=self.wishes.seconds, seen=self._seen, region=self.wishes.region,
            note=self.watch.note,
        )  # fmt: skip
        with closing(self._doubted(passing)) as frames:
            for frame, doubt in frames:
                with undisturbed():
                    snapshot = self._save(frame, passing.look, label=self.wishes.label, doubt=doubt, into=self.wishes.into)
                    if snapshot is None:
                        return "budget"
                    self.chooser.keep(snapshot.file, passing.look, passing.at)
                    self.watch.kept(snapshot)
                if self._is_enough():
                    return "limit"
        return "seconds" if passing.over else "end"

    def _save(
        self, frame: Frame, look: Look, *, label: str | None, into: str, doubt: Doubt | None = None
    ) -> Snapshot | None:  # fmt: skip
        return self.album.save(frame, look, change=self.chooser.change_of(look), label=label, doubt=doubt, into=into)

    def _doubted(self, passing: Passing) -> Generator[tuple[Frame, Doubt | None], None, None]:
        """The frames to keep; of a model's those that it is unsure of."""
        if self.wishes.model is None:
            for frame in passing:
                yield frame, None
            return
        manifest = self.wishes.model.manifest
        decider = Decider(top_k=2, problem_type=manifest.problem_type, known=self.wishes.model.known())
        with ExitStack() as stack:
            session = stack.enter_context(session_of(self.wishes.model))
            for text in session.warnings:
                self.watch.note(text)
            results = classify_frames(
                passing, session, manifest.preprocessing, manifest.labels, top_k=decider.wanted,
                problem_type=manifest.problem_type,
            )  # fmt: skip
            for result in stack.enter_context(closing(results)):
                doubt = doubt_of(decider(result))
                if self.wishes.unsure(doubt):
                    yield result.frame, doubt
                else:
                    self.chooser.left_out["certain"] += 1

    def _follow(self, keymap: Keymap, keyboard: Keyboard) -> Ended:
        """A key means the frame that was there when it was pressed: the last one, or while images wait for keys this one."""
        self._look_through()
        last: _Shown | None = None
        begun: float | None = None
        with frames_of(self.source, self.wishes.region, self.watch.note) as frames:
            for frame in frames:
                begun = frame.captured if begun is None else begun
                if self.wishes.seconds is not None and frame.captured - begun >= self.wishes.seconds:
                    return "seconds"
                self._seen()
                look = look_at(frame.seen)
                shown = _Shown(frame=frame, look=look, against=self.chooser.reason(look, None) or "")
                if self.source.timeless:
                    ended = self._step(shown, keymap, keyboard)
                else:
                    ended = self._obey(keyboard.pressed(frame), last or shown, keymap)
                if ended:
                    return ended
                last = shown
        return "end"

    def _step(self, shown: _Shown, keymap: Keymap, keyboard: Keyboard) -> Ended | None:
        """Wait until one image is saved or passed over."""
        while True:
            # Whoever types ahead means the images that follow.
            self._typed = self._typed or keyboard.pressed(shown.frame, wait=True)
            key = self._typed.pop(0)
            if ended := self._obey([key], shown, keymap):
                return ended
            if key in SKIP or key == SPACE or keymap.label_of(key) is not None:
                return None

    def _obey(self, keys: list[str], shown: _Shown, keymap: Keymap) -> Ended | None:
        for key in keys:
            label = keymap.label_of(key)
            if key.casefold() in QUIT:
                return "quit"
            if key.casefold() in UNDO:
                with undisturbed():
                    snapshot = self.album.undo()
                    if snapshot is not None:
                        self.chooser.forget_last()
                    self.watch.undone(snapshot)
            elif label is not None or key == SPACE:
                like = self.chooser.earlier.like(shown.look.thumbnail)
                with undisturbed():
                    snapshot = self._save(shown.frame, shown.look, label=label, into=label or UNLABELLED)
                    if snapshot is None:
                        return "budget"
                    self.chooser.keep(snapshot.file, shown.look, None)
                    self.watch.kept(snapshot, f"nearly the same as {like}" if like else shown.against)
                if self._is_enough():
                    return "limit"
        return None

    def _is_enough(self) -> bool:
        return self.wishes.limit is not None and len(self.album.snapshots) >= self.wishes.limit


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shown:
    frame: Frame
    look: Look
    against: str
    """Why the filters would leave it out."""


@contextmanager
def _out_of_time(source: Source, seconds: float | None) -> Iterator[Callable[[], bool]]:
    """End a camera's wait for a frame when the time is over, even if none comes; whether it was."""
    over = threading.Event()
    if seconds is None or not source.captures:
        yield over.is_set
        return

    def close() -> None:
        over.set()
        source.close()

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), close)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()
