"""What a machine's own files, its psutil and its tegrastats say at one moment."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgevit.device import tegrastats
from edgevit.device.files import first_number, number, text
from edgevit.device.jetson import GPU_CLOCKS
from edgevit.device.memory import meminfo
from edgevit.device.power import INPUTS, find_rails, input_lacks, read_rails
from edgevit.device.throttling import Throttling

GPU_LOADS = (  # in thousandths
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
    "sys/class/devfreq/17000000.gpu/device/load",
    "sys/devices/17000000.ga10b/load",
)
COLDEST_C = -40  # a sensor below that is off: a Jetson's reads -256
FIXED = ("PMIC", "PMIC-Die")  # 100 degrees at all times: the sensor only knows "too hot"
SOON = 0.1  # seconds; a CPU load over less is noise: the kernel counts in hundredths


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One moment. None or empty is what nothing here tells."""

    cpu_load: float | None = None
    """Percent of all cores."""
    cpu_mhz: float | None = None
    """Mean over the cores."""
    gpu_load: float | None = None
    """Percent."""
    gpu_mhz: float | None = None
    memory_mb: float | None = None
    """In use, in MB of 2^20 bytes; on a Jetson the GPU's is part of it."""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Degrees Celsius by sensor."""
    rails: Mapping[str, float] = field(default_factory=dict)
    """Watts by rail."""
    throttling: tuple[str, ...] | None = None
    """Why the machine is slower than its setting now; None if nothing tells."""

    def filled(self, other: Sample) -> Sample:
        """This sample with ``other``'s values where it has none, and with its rail of the board's input where it lacks that."""
        lacking = [item.name for item in fields(self) if getattr(self, item.name) in (None, {})]
        filled = replace(self, **{name: getattr(other, name) for name in lacking})
        if input_lacks(filled.rails):
            inputs = {name: watts for name, watts in other.rails.items() if name in INPUTS}
            filled = replace(filled, rails={**filled.rails, **inputs})
        return filled


class KernelFiles:
    """Files below ``root``: a Jetson's rails and clocks, every Linux's temperatures and memory. Found once, read each time."""

    def __init__(self, root: Path) -> None:
        self._rails = find_rails(root)
        self._throttling = Throttling(root)
        zones = sorted(root.glob("sys/class/thermal/thermal_zone*"))
        self._zones = {text(zone / "type").strip(): zone / "temp" for zone in zones}
        self._cpus = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._gpu_clocks = [root / folder / "cur_freq" for folder in GPU_CLOCKS]
        self._gpu_loads = [root / path for path in GPU_LOADS]
        self._root = root

    def __call__(self) -> Sample:
        """Read them."""
        kilohertz = [found for path in self._cpus if (found := number(path)) is not None]
        load, hertz = first_number(self._gpu_loads), first_number(self._gpu_clocks)
        degrees = ((name, number(path)) for name, path in self._zones.items())
        return Sample(
            cpu_mhz=sum(kilohertz) / len(kilohertz) / 1e3 if kilohertz else None,
            gpu_load=None if load is None else load / 10,
            gpu_mhz=None if hertz is None else hertz / 1e6,
            memory_mb=self._memory(),
            temperatures=_plausible({name: value / 1e3 for name, value in degrees if value is not None}),
            rails=read_rails(self._rails),
            throttling=self._throttling(),
        )

    def _memory(self) -> float | None:
        found = meminfo(self._root)
        if not {"MemTotal", "MemAvailable"} <= found.keys():
            return None
        return (found["MemTotal"] - found["MemAvailable"]) / 2**20

    def close(self) -> None:
        """Nothing is kept open."""


class Psutil:
    """What psutil knows of this machine. Raises ModuleNotFoundError without it."""

    def __init__(self) -> None:
        import psutil

        self._psutil: Any = psutil
        self._times = self._now()

    def __call__(self) -> Sample:
        """Ask it."""
        clock, memory = self._ask("cpu_freq"), self._ask("virtual_memory")
        return Sample(
            cpu_load=self._load(),
            cpu_mhz=clock.current if clock and clock.current else None,
            memory_mb=memory.used / 2**20 if memory else None,
            temperatures=_plausible(dict(self._temperatures())),
        )

    def _load(self) -> float | None:
        """Since the last call. psutil's own percentage is counted anew by every thread, and samples come from two."""
        (then, all_then, idle_then), (now, all_now, idle_now) = self._times, self._now()
        if now - then < SOON or all_now <= all_then:
            return None
        self._times = now, all_now, idle_now
        return 100 * (1 - (idle_now - idle_then) / (all_now - all_then))

    def _now(self) -> tuple[float, float, float]:
        """The moment, and the CPU seconds since the start: all, and idle ones. User time has the guests' in it already."""
        times = self._psutil.cpu_times()._asdict()
        guests = times.get("guest", 0.0) + times.get("guest_nice", 0.0)
        return time.monotonic(), sum(times.values()) - guests, times["idle"] + times.get("iowait", 0.0)

    def _ask(self, function: str) -> Any:
        """What psutil answers; None where this system, kernel or container does not let it."""
        try:
            return getattr(self._psutil, function)()
        except (AttributeError, NotImplementedError, OSError, RuntimeError, ValueError, self._psutil.Error):
            return None

    def _temperatures(self) -> Iterator[tuple[str, float]]:
        for chip, sensors in (self._ask("sensors_temperatures") or {}).items():
            for sensor in sensors:
                yield f"{chip} {sensor.label}".strip(), sensor.current

    def close(self) -> None:
        """Nothing is kept open."""


class TegrastatsProcess:
    """The newest line of a ``tegrastats`` that runs beside: some installs show rails there and in no file."""

    def __init__(self, program: Path, interval: float) -> None:
        command = [str(program), "--interval", str(round(1000 * interval))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace")
        self._sample = Sample()
        self._thread = threading.Thread(target=self._read, name="edgevit tegrastats", daemon=True)
        self._thread.start()

    def __call__(self) -> Sample:
        """The newest line's values; none before the first line."""
        return self._sample

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n") and (found := tegrastats.parse(line)):
                self._sample = of_tegrastats(found)
        self._sample = Sample()  # it ended: what it said last is no longer so

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def of_tegrastats(line: tegrastats.Tegrastats) -> Sample:
    """A line's values as a sample."""
    loads = [load for load in line.cpu_load if load is not None]
    clocks = [clock for clock in line.cpu_mhz if clock is not None]
    return Sample(
        cpu_load=sum(loads) / len(line.cpu_load) if loads else None,
        cpu_mhz=sum(clocks) / len(clocks) if clocks else None,
        gpu_load=line.gpu_load,
        gpu_mhz=line.gpu_mhz,
        memory_mb=line.ram_used,
        temperatures=_plausible(line.temperatures),
        rails=line.rails,
    )


def _plausible(temperatures: Mapping[str, float]) -> dict[str, float]:
    return {name: degrees for name, degrees in temperatures.items() if degrees > COLDEST_C and name not in FIXED}
