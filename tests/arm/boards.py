"""Boards whose files lie over the root of the Arm computer, as their kernels show them: qemu opens those before the root's."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.arm.machine import BOARDS
from tests.device.boards import write
from tests.device.test_telemetry import orin_nano

DOT_PRODUCTS = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


def cpuinfo(*parts: str, features: str = DOT_PRODUCTS, tail: str = "") -> str:
    """A ``/proc/cpuinfo`` of Arm's own cores, a part number each: the kernel gives no name of them."""
    core = "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: {}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    rest = "CPU variant\t: 0x4\nCPU part\t: {}\nCPU revision\t: 1\n\n"
    return "".join(core.format(at, features) + rest.format(part) for at, part in enumerate(parts)) + tail


PI_5 = cpuinfo(*("0xd0b",) * 4, tail="Revision\t: c04170\nSerial\t\t: 0000\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n")


PI_3 = cpuinfo(*("0xd03",) * 4, features="fp asimd evtstrm crc32 cpuid", tail="Model\t\t: Raspberry Pi 3 Model B Rev 1.2\n")
SERVER = cpuinfo("0xd40", "0xd40", features=f"{DOT_PRODUCTS} jscvt fcma sha512 sve asimdfhm uscat ilrcpc flagm i8mm bf16 dgh rng")


def lay_out(root: Path) -> None:
    """Write the boards ``pi3``, ``pi5``, ``orin`` and a ``server`` of Neoverse-V1 below ``root``."""
    shutil.rmtree(root / BOARDS, ignore_errors=True)
    for name, told in {"pi3": PI_3, "pi5": PI_5, "server": SERVER}.items():
        write(root / BOARDS / name / "proc/cpuinfo", told)
    write(root / BOARDS / "pi5/proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    write(root / BOARDS / "pi5/proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    orin = orin_nano(root / BOARDS / "orin")
    write(orin / "proc/cpuinfo", cpuinfo(*("0xd42",) * 6))
