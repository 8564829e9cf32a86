"""Keeps a small file up to date that says how the run goes: for a health check, a service manager, a fleet.

A thread writes it once a second and the loop never waits for that: a disk that is full or hangs leaves an old file, no more.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import ConfigError, StorageError
from edgevit.files.own_kinds import STATE
from edgevit.files.writing import write_whole
from edgevit.printable import printable
from edgevit.runtime.decide import UNKNOWN, Decision
from edgevit.runtime.redact import without_secrets
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.state import Latency, RunState

if TYPE_CHECKING:
    from edgevit.runtime.frame import Source

EVERY_S = 1.0
"""Between two versions of the file."""
WINDOW_S = 10.0
"""What rate and latencies are of."""
MOST = 4096
"""Frames in it, at most: of a source that is faster, the latest."""
CLOSE_S = 3.0
"""How long the end waits for a disk that hangs."""
ERROR_LENGTH = 500

Sample = Callable[[], Mapping[str, float | str | None]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Watched:
    """What there is to tell once source and engine are open."""

    sources: Sequence[Source]
    deliveries: Callable[[], Iterable[Delivery]]
    sample: Sample | None


class StateFile:
    """A sink, and the thread that writes the file. The file is there from the first moment on; writing never ends a run."""

    def __init__(self, path: Path, begun: RunState, *, note: Note) -> None:
        """Write ``begun`` to ``path`` and go on every `EVERY_S`. ``note`` is told when writing fails, and when it works again."""
        self._path, self._state, self._note = path, begun, note
        self._latest: deque[tuple[float, float]] = deque(maxlen=MOST)
        """`time.perf_counter` seconds of a label, and its latency."""
        self._frames = self._dropped = self._unknown = 0
        self._watched: _Watched | None = None
        self._lost: str | None = None
        self._failing = False
        self._counting, self._over = threading.Lock(), threading.Event()
        self._write()
        # A daemon: a disk that hangs cannot keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="state", daemon=True)
        self._thread.start()

    def watch(
        self, sources: Sequence[Source], engine: str, deliveries: Callable[[], Iterable[Delivery]], sample: Sample | None
    ) -> None:  # fmt: skip
        """Tell of these, too, from now on: they are open. Of several sources it tells sums."""
        rates = [source.fps for source in sources]
        fps = sum(rate for rate in rates if rate is not None) if None not in rates else None
        live = any(source.live for source in sources)
        self._state = replace(self._state, engine=engine, live=live, source_fps=fps)
        self._watched = _Watched(sources=sources, deliveries=deliveries, sample=sample)

    def lose(self, camera: str, error: str) -> None:
        """Tell from now on that a camera is gone for good, and why."""
        self._lost = self._lost or _line(f"{camera}: {error}")

    def __call__(self, decision: Decision) -> bool:
        """Count one decision, within microseconds; never asks to end the run."""
        best = decision.best
        with self._counting:
            self._frames += 1
            self._dropped += decision.dropped
            self._unknown += best.index < 0 and best.label == UNKNOWN
            self._latest.append((decision.finished, decision.latency_ms))
        return True

    def close(self) -> None:
        """Nothing to finish: `end` does, which knows how the run ended."""

    def end(self, code: int, error: str | None = None) -> None:
        """Write, for the last time, that the run ended with exit ``code``, for ``error`` if it failed. Twice is harmless."""
        if self._over.is_set():
            return
        self._state = replace(self._state, ended=time.time(), exit=code, last_error=_line(error) if error else None)
        self._over.set()
        self._thread.join(CLOSE_S)

    def now(self) -> RunState:
        """The run as it is."""
        with self._counting:
            latest, frames, dropped, unknown = list(self._latest), self._frames, self._dropped, self._unknown
        now, clock = time.perf_counter(), time.time()
        recent = [(finished, latency) for finished, latency in latest if now - finished <= WINDOW_S]
        told: dict[str, Any] = {}
        if latest:
            told["last_frame"] = clock - (now - latest[-1][0])
            # Until now, not until the last label: the rate of a source that stalls falls.
            told["fps"] = (len(recent) - 1) / (now - recent[0][0]) if len(recent) > 1 else 0.0 if frames > 1 else None
            told["latency_ms"] = _percentiles(sorted(latency for _, latency in recent))
        if self._watched is not None:
            sources = self._watched.sources
            faults = [source.faults for source in sources if source.faults]
            told |= {"skipped": sum(each.skipped for each in sources), "reconnects": sum(each.reconnected for each in faults)}
            failing = [f"{each.name}: {each.error}" for each in self._watched.deliveries() if each.failing]
            trouble = self._lost or next(iter(failing), next((each.last for each in faults if each.last), None))
            told["last_error"] = self._state.last_error or (trouble and _line(trouble))
            told["telemetry"] = _sampled(self._watched.sample)
        return replace(self._state, updated=clock, frames=frames, dropped=dropped, unknown=unknown, **told)

    def _work(self) -> None:
        while not self._over.wait(EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        try:
            # Not durable: after a power cut nobody runs, and a flash disk lasts longer.
            write_whole(self._path, self.now().to_json(), kind=STATE, durable=False, option="--state")
        except (StorageError, ConfigError) as error:
            if not self._failing:
                self._note(f"{error} The run goes on")
            self._failing = True
            return
        if self._failing:
            self._note(f"{self._path}: is written again")
        self._failing = False


def _percentiles(latencies: list[float]) -> Latency | None:
    if not latencies:
        return None
    p50, p99 = (latencies[-(-len(latencies) * percent // 100) - 1] for percent in (50, 99))
    return Latency(p50=round(max(0.0, p50), 3), p99=round(max(0.0, p99), 3))


def _sampled(sample: Sample | None) -> dict[str, float | str | None]:
    return {key: value for key, value in sample().items() if value is not None} if sample is not None else {}


def _line(text: str) -> str:
    return printable(without_secrets(text))[:ERROR_LENGTH]


def begun(bundle: str, model: str, source: str, version: str) -> RunState:
    """This process's run as it begins: the bundle's digest, its model's name, the source as it may be shown, the version."""
    now = time.time()
    return RunState(version=version, bundle=bundle, model=model, source=source, pid=os.getpid(), started=now, updated=now)
