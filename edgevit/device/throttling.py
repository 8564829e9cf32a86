"""Why a machine is slower than its setting: heat, current or voltage, as far as its files tell.

Sources: the kernel's Documentation/driver-api/thermal/sysfs-api.rst for cooling devices and
Documentation/admin-guide/thermal/intel_powerclamp.rst; the Raspberry Pi documentation of ``vcgencmd get_throttled`` for its
bits; NVIDIA's Jetson Linux Developer Guide for the names that end in ``-throttle-alert``.
"""

from __future__ import annotations

from pathlib import Path

from edgevit.device.files import number, text

COOLING = ("throttle", "cpufreq", "devfreq", "processor", "powerclamp")
"""Parts of the names of cooling devices that slow something down; the others are fans and alarms."""
COUNTERS = {
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count": "CPU heat",
    "sys/class/hwmon/hwmon*/oc*_event_cnt": "over-current",
}
"""Event counters: what counts is that they rise."""
RASPBERRY_PI = "sys/devices/platform/soc*/soc*firmware/get_throttled"
BITS = ("under-voltage", "clock capped", "throttled", "soft temperature limit")
"""From bit 0 up, of the present state; what has been since the start is in bits from 16 on."""


class Throttling:
    """Asks what slows the machine whose file system ``root`` is."""

    def __init__(self, root: Path) -> None:
        devices = {path: text(path / "type").strip() for path in sorted(root.glob("sys/class/thermal/cooling_device*"))}
        self._devices = [
            (name, path / "cur_state") for path, name in devices.items() if any(part in name.lower() for part in COOLING)
        ]
        self._pi = sorted(root.glob(RASPBERRY_PI))
        self._counters = [(name, path) for pattern, name in COUNTERS.items() for path in sorted(root.glob(pattern))]
        self._counted = {path: number(path) for _, path in self._counters}

    def __call__(self) -> tuple[str, ...] | None:
        """The reasons now, or since the last call; None if this machine has nothing that tells."""
        if not (self._devices or self._pi or self._counters):
            return None
        reasons = [name for name, path in self._devices if (number(path) or 0) > 0]
        for name, path in self._counters:
            before, self._counted[path] = self._counted[path], number(path)
            if before is not None and (self._counted[path] or 0) > before:
                reasons.append(name)
        reasons += [bit for path in self._pi for at, bit in enumerate(BITS) if _hexadecimal(path) >> at & 1]
        return tuple(dict.fromkeys(reasons))


def _hexadecimal(path: Path) -> int:
    try:
        return int(text(path), 16)
    except ValueError:
        return 0
