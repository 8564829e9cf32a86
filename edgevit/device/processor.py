"""The processor's name, as figures are reported with it and results remembered for it."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from edgevit.device.files import text

ROOT = Path("/")
ARM = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72", 0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD0E: "Cortex-A76AE",
    0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
    0xD47: "Cortex-A710", 0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4A: "Neoverse-E1", 0xD4B: "Cortex-A78C",
    0xD4D: "Cortex-A715", 0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
    0xD82: "Cortex-X4", 0xD83: "Neoverse-V3AE", 0xD84: "Neoverse-V3", 0xD85: "Cortex-X925", 0xD87: "Cortex-A725",
    0xD89: "Cortex-A720AE", 0xD8E: "Neoverse-N3",
}  # fmt: skip
NVIDIA = {0x000: "Denver", 0x003: "Denver-2", 0x004: "Carmel"}
IMPLEMENTERS = {0x41: ("ARM", ARM), 0x4E: ("NVIDIA", NVIDIA)}
"""Who designed a core, and the names of its part numbers, both as in the register MIDR_EL1."""
_CORE = re.compile(r"^CPU implementer\s*:\s*(0x[0-9a-f]+)$(?:\n^CPU .*)*?\n^CPU part\s*:\s*(0x[0-9a-f]+)$", re.MULTILINE)
_NAMED = re.compile(r"^(?:model name|Hardware)\s*:\s*(\S.*)$", re.MULTILINE)


def processor(root: Path = ROOT) -> str:
    """The processor's name as the operating system below ``root`` gives it.

    A Linux for 64-bit Arm gives numbers, which are looked up: ``Cortex-A76``, or ``Cortex-A55 + Cortex-A76`` where cores
    differ. What it calls "model name" or "Hardware", if anything, is of all such processors, or of many boards.
    """
    told = text(root / "proc/cpuinfo")
    if cores := dict.fromkeys(_CORE.findall(told)):
        return " + ".join(_core(int(implementer, 16), int(part, 16)) for implementer, part in cores)
    named = _NAMED.search(told)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _core(implementer: int, part: int) -> str:
    maker, names = IMPLEMENTERS.get(implementer, (f"implementer {implementer:#04x}", {}))
    return names.get(part) or f"{maker} part {part:#05x}"
