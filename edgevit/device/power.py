"""Power by rail, from the monitors that a Jetson has on its board.

Sources: the kernel's Documentation/hwmon/ina3221.rst and ina238.rst for JetPack 5 on; NVIDIA's Jetson Linux Developer Guide,
"Power Monitor", for the drivers of JetPack 4; NVIDIA's forum, topic 366461, for Thor: its INA238 measures VIN.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevit.device.files import number, text

HWMON = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
INPUT_HWMON = "sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*"
"""Thor measures its input with a monitor of its own, which has one channel."""
IIO = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"  # JetPack 4
CHANNELS = (1, 2, 3)  # what comes above them is a sum of shunt voltages
INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that feed all others; AGX Orin and AGX Xavier measure none of the kind."""
UNCONNECTED = ("", "NC")

Rail = tuple[Path, ...]
"""Files to multiply: millivolts and milliamperes, or one of milliwatts."""


def find_rails(root: Path) -> dict[str, Rail]:
    """The rails of the board whose file system is ``root``, by name. Their folders differ from boot to boot."""
    found: dict[str, Rail] = {}
    for folder in sorted(root.glob(HWMON)):
        for channel in CHANNELS:
            files = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
            _add(found, text(folder / f"in{channel}_label"), files)
    for folder in sorted(root.glob(INPUT_HWMON)):
        label = text(folder / "label").strip() or "VIN"  # the driver gives none; a device tree may
        _add(found, label, (folder / "in1_input", folder / "curr1_input"))
    for folder in sorted(root.glob(IIO)):
        for channel in range(len(CHANNELS)):
            _add(found, text(folder / f"rail_name_{channel}"), (folder / f"in_power{channel}_input",))
    return found


def read_rails(rails: Mapping[str, Rail]) -> dict[str, float]:
    """Watts by rail, now; a rail that cannot be read is left out."""
    watts = {}
    for name, files in rails.items():
        values = [number(path) for path in files]
        if None not in values:
            factors = [value for value in values if value is not None]
            # mV x mA are microwatts
            watts[name] = factors[0] * factors[1] / 1e6 if len(factors) == 2 else factors[0] / 1e3
    return watts


def counted(rails: Mapping[str, float]) -> tuple[str, ...]:
    """The rails that make up the whole: the board's input where it is measured, else all, which is less than the input."""
    return next(((name,) for name in INPUTS if name in rails), tuple(rails))


def input_lacks(rails: Mapping[str, float]) -> bool:
    """Whether none of them is the board's input."""
    return not any(name in rails for name in INPUTS)


def total(rails: Mapping[str, float]) -> float | None:
    """Watts of the whole board, as far as `counted` rails tell; None without any."""
    return sum(rails[name] for name in counted(rails)) if rails else None


def _add(found: dict[str, Rail], label: str, files: Rail) -> None:
    name = label.strip()
    if name not in UNCONNECTED and all(path.exists() for path in files):
        found[name] = files
