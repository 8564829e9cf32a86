"""A live source that stays up: read on a thread, watched, reconnected."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgevit.errors import SourceError
from edgevit.runtime.candidates import Candidates
from edgevit.runtime.faults import Faults
from edgevit.runtime.frame import Frame, Policy, Source
from edgevit.runtime.stream import Opener, Stream, UnreachableError

CLOSE_SECONDS = 2.0
"""How long `Live.close` waits for a read under way; one that hangs is left to the end of the process."""
MAX_DAMAGED = 30
"""Consecutive pictures that may fail to decode before the connection counts as lost."""
MAX_HANGING = 4
"""Reads that may hang at the same time, each on a thread that nothing can stop, before the run is given up."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """When a connection counts as lost, and what is done then."""

    stall_seconds: float = 5.0
    """Longest wait for a frame."""
    open_seconds: float = 20.0
    """Longest wait for a connection and its first frame: an RTSP stream waits for a key frame."""
    candidate_seconds: float = 15.0
    """The same, where there are several ways of connecting, for each of them until one gave a picture."""
    give_up_seconds: float | None = None
    """How long a source may be away before SourceError is raised; 0 does not reconnect, None never gives up."""
    first_delay: float = 0.5
    longest_delay: float = 10.0

    @property
    def read_seconds(self) -> float:
        """What OpenCV may wait for a picture, where it can tell the time: its read then ends and leaves nothing behind."""
        return 0.9 * max(self.candidate_seconds, self.stall_seconds)

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row: doubled each time, up to the longest."""
        return min(self.first_delay * 2.0 ** min(failures - 1, 32), self.longest_delay)


class Live(Source):
    """Frames of what ``opener`` connects to, through every loss of the connection.

    A thread connects and reads. Under `latest` it overwrites the frame that waits to be taken; under `every` it waits, and
    what does not fit into the camera's own buffer is lost there. A connection that ends is opened again after a growing
    delay. A read that hangs cannot be interrupted: whoever waits for the frame leaves that thread behind, and what it
    brings after all is thrown away.
    """

    live, captures = True, True
    faults: Faults

    def __init__(
        self,
        name: str,
        opener: Opener,
        *,
        policy: Policy = "latest",
        recovery: Recovery | None = None,
        finite: bool = False,
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Connect and wait for the first frame.

        Args:
            name: the source for people, without a password; what comes before its first space names the frames.
            opener: connects. It is called on other threads, one after the other unless one hangs.
            policy: what becomes of a frame that nobody has taken when the next one comes.
            recovery: time limits.
            finite: a stream that ends is not lost but over, as a file is.
            note: told in a line of every loss and return; on any thread.

        Raises:
            SourceError: no connection, or no frame within ``recovery.open_seconds``.
        """
        self.description, self.faults, self.fps = name, Faults(), None
        self._opener, self.asked_policy, self._recovery, self._note = opener, policy, recovery or Recovery(), note
        self._finite, self._over = finite, False
        self._frame_name = name.removeprefix("camera ").partition(" ")[0]
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._closed = False
        self._error: Exception | None = None
        self._index = 0
        self._size: tuple[int, ...] | None = None
        self._lost_at: float | None = None
        self._threads: list[threading.Thread] = []
        with self._changed:
            self._start(None)
            try:
                self._wait()
            except BaseException:
                self._closed = True
                self._changed.notify_all()
                raise

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                self._wait()
                frame, self._waiting = self._waiting, None
                self._changed.notify_all()
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """End every wait at once and release the device, within `CLOSE_SECONDS` even if a read hangs."""
        with self._changed:
            self._closed, self._waiting = True, None
            self._changed.notify_all()
        until = time.perf_counter() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.perf_counter()))

    # Under the lock, on the thread that takes frames.

    def _wait(self) -> None:
        """Until a frame waits or the source is closed; looks after the reading thread meanwhile."""
        while self._waiting is None and not self._closed and not self._over:
            if self._error is not None:
                raise self._error
            now = time.perf_counter()
            if now >= self._due:
                self._abandon()
                continue
            give_up = self._give_up_at()
            if now >= give_up:
                self._turn += 1  # its reader leaves
                self._changed.notify_all()
                msg = f"{self.description}: gone for {now - (self._lost_at or now):.0f} s, given up. Last: {self._last()}"
                self._error = SourceError(msg)
                continue
            # Bounded: threading takes no infinity.
            self._changed.wait(min(self._due, give_up, now + 60) - now)
        if self._waiting is None and not self._closed and self._error is not None:  # over before it began
            raise self._error

    def _give_up_at(self) -> float:
        limit = self._recovery.give_up_seconds
        return math.inf if limit is None or self._lost_at is None else self._lost_at + limit

    def _last(self) -> str:
        return self.faults.last or "no frame"

    def _abandon(self) -> None:
        """Leave a reader that hangs, and start another: for the next way of connecting where the first frame is still to come."""
        if self._index == 0:
            self._leave_candidate()
            return
        self.faults.stalled += 1
        if not self._too_many_hang():
            self._start(f"no frame for {self._limit:g} s")

    def _leave_candidate(self) -> None:
        opener = self._opener
        if isinstance(opener, Candidates):
            opener.leave()
            if not opener.more:
                self._error = SourceError(opener.failure())
            elif not self._too_many_hang(opener.failure()):
                self._start(None)
            return
        msg = f"{self.description}: no frame within {self._limit:g} s. Is it on, and reachable?"
        self._error = SourceError(msg)

    def _too_many_hang(self, why: str = "") -> bool:
        """Whether no other reader may be started, since so many hang; says so where frames are taken."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) < MAX_HANGING:
            return False
        msg = (
            why
            or f"{self.description}: {len(self._threads)} reads hang and cannot be ended. Start again; check cable and driver."
        )
        self._error = SourceError(msg)
        return True

    def _start(self, lost: str | None) -> None:
        """A new reader, which takes the old one's place; ``lost`` is why there was an old one."""
        self._turn = getattr(self, "_turn", 0) + 1
        self._due, self._limit = math.inf, math.inf
        self._changed.notify_all()
        # A daemon: a read that hangs must not keep the program from ending.
        thread = threading.Thread(target=self._read, args=(self._turn, lost), name="capture", daemon=True)
        self._threads.append(thread)
        thread.start()

    # On the reading thread.

    def _read(self, turn: int, lost: str | None) -> None:
        failures = 0
        try:
            while True:
                if lost is not None:
                    failures += 1
                    if not self._back_off(turn, lost, failures):
                        return
                delivered, lost = self._connect(turn)
                # Only a connection that lasted ends a series of failures: one that flaps is not hammered.
                failures = 0 if delivered and self._lasted(delivered) else failures
                if lost is None or (self._finite and delivered):
                    return
        except Exception as error:
            with self._changed:
                if turn == self._turn:
                    self._error = error  # raised where frames are taken
        finally:
            with self._changed:
                self._over = self._over or (self._finite and turn == self._turn)
                self._changed.notify_all()

    def _lasted(self, delivered: float) -> bool:
        return time.perf_counter() - delivered >= self._recovery.longest_delay

    def _connect(self, turn: int) -> tuple[float | None, str | None]:
        """One connection to its end: when its first frame was delivered, and why it was lost; no reason if it is left."""
        opener = self._opener
        candidates = opener if isinstance(opener, Candidates) and not opener.settled else None
        while True:
            if not self._expect(turn, self._recovery.candidate_seconds if candidates else self._recovery.open_seconds):
                return None, None
            try:
                stream = opener()
                break
            except SourceError as error:
                if candidates is None or not candidates.more or isinstance(error, UnreachableError):
                    return None, str(error)
        if candidates and candidates.story and self._is_read_by(turn):
            self._note(f"{self.description}: {candidates.story}")
        try:
            return self._pump(turn, stream)
        finally:
            stream.close()

    def _pump(self, turn: int, stream: Stream) -> tuple[float | None, str | None]:
        self.fps = self.fps or stream.fps
        first: float | None = None
        damaged = 0
        while (captured := stream.grab()) is not None:
            image = stream.image()
            if image is None:
                damaged += 1
                if not self._expect(turn, self._recovery.stall_seconds):
                    return first, None
                self.skip(f"frame {self._index}")
                if damaged >= MAX_DAMAGED:
                    return first, f"{damaged} pictures in a row could not be decoded"
                continue
            damaged = 0
            if not self._deliver(turn, Frame(image_bgr=image, captured=captured, index=self._index, name=self._frame_name)):
                return first, None
            first = first or captured
        return first, "the stream ended"

    def _expect(self, turn: int, seconds: float) -> bool:
        """Say that the next sign of life comes within ``seconds``. False if this reader was left or all is closed."""
        with self._changed:
            if turn != self._turn or self._closed:
                return False
            self._limit, self._due = seconds, time.perf_counter() + seconds
            self._changed.notify_all()
            return True

    def _is_read_by(self, turn: int) -> bool:
        with self._changed:
            return turn == self._turn and not self._closed

    def _deliver(self, turn: int, frame: Frame) -> bool:
        with self._changed:
            if self.policy == "every" and self._waiting is not None:
                self._due = math.inf
                self._changed.wait_for(lambda: self._waiting is None or turn != self._turn or self._closed)
            if turn != self._turn:
                self.faults.stale += 1
                return False
            if self._closed:
                return False
            self._waiting = frame
            self._index += 1
            size, self._size = self._size, frame.image_bgr.shape
            self.faults.resized += size not in (None, self._size)
            lost_at, self._lost_at = self._lost_at, None
            if lost_at is not None:
                self.faults.reconnected += 1
                self.faults.down_seconds += frame.captured - lost_at
            self._limit = self._recovery.stall_seconds
            self._due = time.perf_counter() + self._limit
            self._changed.notify_all()
        if lost_at is not None:
            self._note(f"{self.description}: back after {frame.captured - lost_at:.1f} s")
        return True

    def _back_off(self, turn: int, reason: str, failures: int) -> bool:
        """Wait before the next connection. False if there is none to be made."""
        delay = self._recovery.delay(failures)
        with self._changed:
            if turn != self._turn or self._closed:
                return False
            if self._index == 0:
                self._error = SourceError(reason)
            self.faults.last = reason
            fresh = self._lost_at is None
            if fresh:
                self._lost_at = time.perf_counter()
                self.faults.lost += 1
            self._due = math.inf
            self._changed.notify_all()
            if self._error is not None or self._recovery.give_up_seconds == 0:
                return False
        if fresh:
            self._note(f"{self.description}: lost, {reason}. Reconnecting, first in {delay:g} s.")
        with self._changed:
            return not self._changed.wait_for(lambda: self._closed or turn != self._turn, delay)
