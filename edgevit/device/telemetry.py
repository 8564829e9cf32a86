"""Power, clocks, load, temperature and throttling while something runs, once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgevit.device.jetson import ROOT, Board, detect
from edgevit.device.power import counted, input_lacks, total
from edgevit.device.sensors import KernelFiles, Psutil, Sample, TegrastatsProcess

INTERVAL = 1.0
"""Seconds between samples."""
TEGRASTATS = "usr/bin/tegrastats"
INPUT_IN_TEGRASTATS = ("11.0",)
"""Boards whose tegrastats tells the input's power even where no file does: Thor. Its other rails are about two thirds of it."""
NO_PSUTIL = "telemetry: CPU load is not recorded without psutil: pip install 'edgevit[telemetry]', or run with --no-telemetry"
FIGURES = ("power_w", "cpu_load", "cpu_mhz", "gpu_load", "gpu_mhz", "memory_mb", "temperature_c")


class TelemetrySource(Protocol):
    """Gives a sample when called."""

    def __call__(self) -> Sample:
        """Take one."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass
class Range:
    """Smallest, mean and largest of a value; the values themselves are not kept."""

    count: int = 0
    sum: float = 0.0
    min: float = float("inf")
    max: float = float("-inf")

    def add(self, value: float) -> None:
        """Count one."""
        self.count += 1
        self.sum += value
        self.min, self.max = min(self.min, value), max(self.max, value)

    def to_dict(self) -> dict[str, float] | None:
        """JSON-ready; None without a value."""
        return {"min": self.min, "mean": self.sum / self.count, "max": self.max} if self.count else None


class Telemetry:
    """Samples on a thread of its own between ``start`` and ``stop``. Made by `open_telemetry`."""

    def __init__(
        self,
        read: Callable[[], Sample],
        board: Board | None,
        *,
        notes: tuple[str, ...] = (),
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.notes = notes
        """What cannot be recorded here, and what would help."""
        self._read, self._board, self._interval, self._clock = read, board, interval, clock
        self._ranges = {name: Range() for name in FIGURES}
        self._rails: dict[str, Range] = {}
        self._counted: tuple[str, ...] = ()
        self._hottest: tuple[float, str] | None = None
        self._reasons: dict[str, None] = {}
        self._throttling_is_known = False
        self._joules = 0.0
        self._seconds = 0.0
        self._last: tuple[float, float | None] | None = None
        self._newest: dict[str, float | str | None] = {}
        self._lock = threading.Lock()  # the thread adds while others look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edgevit telemetry", daemon=True)

    def start(self) -> None:
        """Take the first sample, and one every interval from then on."""
        self.take()
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample, so that the time since the one before counts, too. Stopping twice is harmless."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self.take()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            self.take()

    def take(self) -> None:
        """Take one sample now."""
        sample, now = self._read(), self._clock()
        power = total(sample.rails)
        sensor, degrees = max(sample.temperatures.items(), key=lambda item: item[1], default=(None, None))
        values = {
            "power_w": power,
            "cpu_load": sample.cpu_load,
            "cpu_mhz": sample.cpu_mhz,
            "gpu_load": sample.gpu_load,
            "gpu_mhz": sample.gpu_mhz,
            "memory_mb": sample.memory_mb,
            "temperature_c": degrees,
        }
        of_input = not input_lacks(sample.rails)
        if self._counts_input and not of_input:
            values["power_w"] = power = None  # the input was measured before, and the others are less than that
        throttled = None if sample.throttling is None else ", ".join(sample.throttling) or "no"
        with self._lock:
            if of_input and power is not None and not self._counts_input:
                self._measure_power_anew(power)
            for name, value in values.items():
                if value is not None:
                    self._ranges[name].add(value)
            for name, watts in sample.rails.items():
                self._rails.setdefault(name, Range()).add(watts)
            self._counted = (counted(sample.rails) if power is not None else ()) or self._counted
            if sensor is not None and degrees is not None and (self._hottest is None or degrees > self._hottest[0]):
                self._hottest = (degrees, sensor)
            if sample.throttling is not None:
                self._throttling_is_known = True
                self._reasons.update(dict.fromkeys(sample.throttling))
            self._integrate(now, power)
            self._newest = {**values, "temperature_sensor": sensor, "mode": self._mode, "throttled": throttled}

    @property
    def _counts_input(self) -> bool:
        """Whether the power so far is that of the board's input."""
        return not input_lacks(dict.fromkeys(self._counted, 0.0))

    def _measure_power_anew(self, power: float) -> None:
        """Forget what was taken for the whole until now, which is less: tegrastats takes a moment to tell the input."""
        self._ranges["power_w"], self._joules = Range(), power * self._seconds
        self._last = self._last and (self._last[0], None)

    def _integrate(self, now: float, power: float | None) -> None:
        """Energy by the trapezoidal rule: between two samples power is taken to change evenly."""
        if self._last is not None:
            then, before = self._last
            self._seconds += now - then
            # Where a sample lacks power the neighbour's stands in for it.
            ends = [watts for watts in (before, power) if watts is not None]
            self._joules += (now - then) * sum(ends) / len(ends) if ends else 0.0
        self._last = (now, power)

    @property
    def _mode(self) -> str | None:
        return self._board.mode if self._board else None

    def sample(self) -> Mapping[str, float | str | None]:
        """The newest values: `FIGURES`, ``temperature_sensor``, ``mode`` and ``throttled`` (a reason, ``no``, or None: unknown).

        Watts, percent, MHz, MB of 2^20 bytes and degrees Celsius. Cheap, and safe from any thread.
        """
        with self._lock:
            return dict(self._newest)

    def summary(self, frames: int) -> dict[str, Any]:
        """JSON-ready: each of `FIGURES` as smallest, mean and largest or None, and energy per frame where power is measured.

        Energy is all that the counted rails gave in this time, idle power included.
        """
        with self._lock:
            figures = {name: values.to_dict() for name, values in self._ranges.items()}
            joules = self._joules if figures["power_w"] else None
            return {
                "seconds": self._seconds,
                "board": self._board.model if self._board else None,
                "mode": self._mode,
                "gpu_mhz_allowed": self._board.gpu_mhz if self._board else None,
                **figures,
                "temperature_sensor": self._hottest[1] if self._hottest else None,
                "rails_w": {name: watts.to_dict() for name, watts in self._rails.items()},
                "power_is_of": list(self._counted),
                "joules": joules,
                "joules_per_frame": joules / frames if joules is not None and frames else None,
                "throttled": bool(self._reasons) if self._throttling_is_known else None,
                "throttling": list(self._reasons),
            }


@contextmanager
def open_telemetry(root: Path = ROOT, *, interval: float = INTERVAL) -> Iterator[Telemetry]:
    """Telemetry of the machine whose file system ``root`` is, running until the block ends.

    A Jetson's rails, clocks and loads come from its files, and from ``tegrastats`` where no file has them, or Thor's input; on a
    PC psutil has the load. Nothing needs root, and nothing that is missing is an error: its values are None, and ``notes``
    say what to install.
    """
    board, notes = detect(root), []
    with ExitStack() as stack:
        sources: list[TelemetrySource] = [stack.enter_context(closing(KernelFiles(root)))]
        program = root / TEGRASTATS
        if board is not None and _asks_tegrastats(board, sources[0]().rails) and program.is_file():
            try:
                sources.append(stack.enter_context(closing(TegrastatsProcess(program, interval))))
            except OSError as error:
                notes.append(f"telemetry: {program} does not start: {error.strerror}; no power is recorded")
        if root == ROOT:  # psutil knows no other
            try:
                sources.append(Psutil())
            except ModuleNotFoundError:
                notes.append(NO_PSUTIL)

        def read() -> Sample:
            first, *others = (source() for source in sources)
            for other in others:
                first = first.filled(other)
            return first

        telemetry = Telemetry(read, board, notes=tuple(notes), interval=interval)
        telemetry.start()
        try:
            yield telemetry
        finally:
            telemetry.stop()


def _asks_tegrastats(board: Board, rails: Mapping[str, float]) -> bool:
    return not rails or (board.compute_capability in INPUT_IN_TEGRASTATS and input_lacks(rails))


def lines(summary: Mapping[str, Any]) -> list[str]:
    """A `Telemetry.summary` for people: power and energy, then what else is known."""
    found = []
    if power := summary["power_w"]:
        each = summary["joules_per_frame"]
        energy = f"   {summary['joules']:.1f} J" + (f", {each:.3g} J per frame" if each is not None else "")
        whose = " + ".join(summary["power_is_of"])
        found.append(f"power             mean {power['mean']:.2f}   max {power['max']:.2f} W of {whose}{energy}")
    allowed = summary["gpu_mhz_allowed"]
    facts = [
        summary["mode"] and f"mode {summary['mode']}",
        _mean(summary["gpu_mhz"], "GPU {:.0f} MHz" + (f" of {allowed:.0f}" if allowed else "")),
        _mean(summary["gpu_load"], "GPU {:.0f} %"),
        _mean(summary["cpu_mhz"], "CPU {:.0f} MHz"),
        _mean(summary["cpu_load"], "CPU {:.0f} %"),
        summary["memory_mb"] and f"memory {summary['memory_mb']['max']:.0f} MB",
        summary["temperature_c"] and f"{summary['temperature_c']['max']:.0f} °C ({summary['temperature_sensor']})",
    ]
    known = [fact for fact in facts if fact]
    found += [f"machine           {', '.join(known)}"] if known else []
    if summary["throttled"] is not None:
        found.append(f"throttled         {', '.join(summary['throttling']) or 'no'}")
    return found


def _mean(values: Mapping[str, float] | None, form: str) -> str | None:
    return form.format(values["mean"]) if values else None
