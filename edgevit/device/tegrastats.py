"""One line of NVIDIA's ``tegrastats`` as values; every form from JetPack 4 to 7.

Fields come and go between JetPacks, so each is looked for by itself and is None where the line lacks it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OFF_C = -256.0
"""What a sensor that is switched off reads."""
RAM = re.compile(r"\bRAM (\d+)/(\d+)([kM])B \(lfb (\d+)x(\d+)([kM])B\)")
SWAP = re.compile(r"\bSWAP (\d+)/(\d+)([kM])B")
CPU = re.compile(r"\bCPU \[([^]]*)\]")
CORE = re.compile(r"(\d+)%@(\d+)")
EMC = re.compile(r"\bEMC_FREQ (\d+)%(?:@(\d+))?")
GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+)\]?)?")
TEMPERATURE = re.compile(r"(\w+)@(-?\d+(?:\.\d+)?)C\b")
# Milliwatts now, then their mean, then, since JetPack 7, their maximum. JetPack 4 writes no unit.
RAIL = re.compile(r"(\w+) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+(?:mW)?)?(?=\s|$)")
ENGINE = re.compile(r"\b([A-Z][A-Z0-9]*)(?:_FREQ)? (?:(off)|@?(\d+))(?=\s|$)")
NO_RAILS = ("NC", "RAM", "SWAP", "IRAM")  # inputs that are not connected; memory, where a line is cut before its unit


@dataclass(frozen=True, kw_only=True)
class Tegrastats:
    """One line. Memory in MB of 2^20 bytes, load in percent, clocks in MHz, power in watts, temperatures in degrees Celsius."""

    ram_used: float
    ram_total: float
    largest_free: float
    """The size of the largest free blocks; a GPU allocation may fail although more is free in pieces."""
    swap_used: float | None
    swap_total: float | None
    cpu_load: tuple[float | None, ...]
    """By core; None for one that is off."""
    cpu_mhz: tuple[float | None, ...]
    gpu_load: float | None
    """None on Thor, whose tegrastats has none."""
    gpu_mhz: float | None
    """Of the fastest graphics cluster; None where it takes root to see it."""
    memory_load: float | None
    memory_mhz: float | None
    engines: dict[str, float | None]
    """The clock of each codec and accelerator; None for one that is off."""
    temperatures: dict[str, float]
    """By sensor; those that are off are left out."""
    rails: dict[str, float]
    """By name; unconnected inputs are left out. Empty where it takes root to see them."""


def parse(line: str) -> Tegrastats | None:
    """The values of one line; None for a line that is not tegrastats', such as an error or a torn one."""
    ram = RAM.search(line)
    if ram is None:
        return None
    swap, cpu, emc, gpu = (pattern.search(line) for pattern in (SWAP, CPU, EMC, GPU))
    cores = [CORE.fullmatch(core.strip()) for core in cpu[1].split(",")] if cpu else []
    clocks = [float(clock) for clock in gpu[2].split(",") if clock] if gpu and gpu[2] else []
    return Tegrastats(
        ram_used=_mb(ram[1], ram[3]),
        ram_total=_mb(ram[2], ram[3]),
        largest_free=_mb(ram[5], ram[6]),
        swap_used=_mb(swap[1], swap[3]) if swap else None,
        swap_total=_mb(swap[2], swap[3]) if swap else None,
        cpu_load=tuple(float(core[1]) if core else None for core in cores),
        cpu_mhz=tuple(float(core[2]) if core else None for core in cores),
        gpu_load=_float(gpu and gpu[1]),
        gpu_mhz=max(clocks, default=None),
        memory_load=_float(emc and emc[1]),
        memory_mhz=_float(emc and emc[2]),
        engines={name: _float(clock) for name, _, clock in ENGINE.findall(line)},
        temperatures={name: float(degrees) for name, degrees in TEMPERATURE.findall(line) if float(degrees) != OFF_C},
        rails={name: int(now) / 1000 for name, now in RAIL.findall(line) if name not in NO_RAILS},
    )


def _mb(amount: str, unit: str) -> float:
    return float(amount) / 1024 if unit == "k" else float(amount)


def _float(value: str | None) -> float | None:
    return float(value) if value else None
