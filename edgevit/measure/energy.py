"""Energy of an inference, from the power monitors that a Jetson has on its board."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.engine.base import Session
from edgevit.progress import Stage

if TYPE_CHECKING:
    from edgevit.engine.base import Frames

ROUNDS = 3  # turns of each session: a warming board slows all alike
SECONDS = 2.0  # of one turn: a monitor averages over up to a second
EVERY = 0.05  # seconds between two readings


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What the board took while one variant ran without a pause."""

    joules_per_image: float
    """Of the whole board as far as its monitors tell, idle power included."""
    watts: float
    """Mean power."""
    idle_watts: float
    """Mean power before, with nothing running."""
    images: int


class _Meter:
    """Mean of ``read`` over a ``with`` block, by the trapezoidal rule."""

    def __init__(self, read: Callable[[], float | None], every: float) -> None:
        self._read, self._every, self._ended = read, every, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edgevit power", daemon=True)
        self.joules, self.seconds, self._last = 0.0, 0.0, (0.0, 0.0)

    def __enter__(self) -> _Meter:
        self._last = (time.perf_counter(), self._read() or 0.0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._take()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            self._take()

    def _take(self) -> None:
        then, before = self._last
        now, watts = time.perf_counter(), self._read()
        power = before if watts is None else watts  # a rail that cannot be read for once is taken to be where it was
        self.joules += (now - then) * (before + power) / 2
        self.seconds += now - then
        self._last = (now, power)


def measure_energy(
    sessions: Mapping[str, Session], frames: Mapping[str, Frames], read: Callable[[], float | None], stage: Stage, *,
    seconds: float = SECONDS, rounds: int = ROUNDS, every: float = EVERY,
) -> dict[str, Energy]:  # fmt: skip
    """Joules per image of each session on its own frames uint8 [N, H, W, 3], one at a time, in turns of ``seconds``.

    ``read`` gives the board's watts now, or None.
    """
    with _Meter(read, every) as idle:
        time.sleep(seconds / 2)
    joules, spent, images = (dict.fromkeys(sessions, 0.0) for _ in range(3))
    for _ in range(rounds):
        for name, session in sessions.items():
            own, count = frames[name], 0
            with _Meter(read, every) as meter:
                end = time.perf_counter() + seconds
                while time.perf_counter() < end:
                    session.infer(own[count % len(own)][None])
                    count += 1
            joules[name] += meter.joules
            spent[name] += meter.seconds
            images[name] += count
            stage.advance()
    return {
        name: Energy(
            joules_per_image=joules[name] / images[name],
            watts=joules[name] / spent[name],
            idle_watts=idle.joules / idle.seconds,
            images=int(images[name]),
        )
        for name in sessions
    }
