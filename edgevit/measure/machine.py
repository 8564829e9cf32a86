"""What the machine was doing while it was measured: clock, governor, load."""

from __future__ import annotations

import os
from pathlib import Path

CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
CPUINFO = Path("/proc/cpuinfo")


def clock() -> str:
    """The processor's governor and clock, as far as the system tells them: ``governor powersave, 800-3600 MHz``."""
    governor, low, high = (_text(CPUFREQ / name) for name in ("scaling_governor", "scaling_min_freq", "scaling_max_freq"))
    if governor and low.isdecimal() and high.isdecimal():
        return f"governor {governor}, {int(low) // 1000}-{int(high) // 1000} MHz"
    found = [line.partition(":")[2].strip() for line in _text(CPUINFO).splitlines() if line.startswith("cpu MHz")]
    return f"{float(found[0]):.0f} MHz, governor not told" if found else "not told"


def load() -> float:
    """Processes that wanted to run, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
