"""What a processor is called: figures are reported with it, and what an engine was found to compute is remembered for it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgevit.device.processor import ARM, IMPLEMENTERS, processor
from tests.arm.boards import PI_5, cpuinfo
from tests.device.boards import write

ROCK_5B = cpuinfo(*("0xd05",) * 4, *("0xd0b",) * 4, tail="Serial\t\t: 0000\n")
XAVIER = cpuinfo("0x004").replace("0x41", "0x4e").replace("BogoMIPS", "model name\t: ARMv8 Processor rev 0 (v8l)\nBogoMIPS")
PI_3 = cpuinfo("0xd03", features="fp asimd evtstrm crc32 cpuid", tail="Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 3 Model B\n")


def named(root: Path, told: str) -> str:
    write(root / "proc/cpuinfo", told)
    return processor(root)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (PI_5, "Cortex-A76"),
        (PI_3, "Cortex-A53"),  # BCM2835 is what Raspberry Pi OS said of every board until Linux 6.6
        (ROCK_5B, "Cortex-A55 + Cortex-A76"),
        (XAVIER, "Carmel"),
        (cpuinfo("0xfff"), "ARM part 0xfff"),
        (cpuinfo("0x0a1").replace("0x41", "0x43"), "implementer 0x43 part 0x0a1"),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) N100\n", "Intel(R) N100"),
        ("Hardware\t: BCM2835\n", "BCM2835"),
    ],
)
def test_name(tmp_path: Path, told: str, name: str) -> None:
    assert named(tmp_path, told) == name


@pytest.mark.parametrize("told", ["", "CPU implementer\t: 0x41\n", "CPU implementer\t: ?\nCPU part\t: 0xd0b\n", "\0\xff" * 99])
def test_nothing_is_told(tmp_path: Path, told: str) -> None:
    """Then what Python knows, which is never empty."""
    assert named(tmp_path, told) == (platform.processor() or platform.machine())


def test_no_two_processors_are_one() -> None:
    """Else what one computed right would be believed of the other."""
    names = [name for _, parts in IMPLEMENTERS.values() for name in parts.values()]
    assert len(names) == len(set(names))


@pytest.mark.skipif(shutil.which("lscpu") is None, reason="lscpu is not installed: apt install util-linux")
@pytest.mark.parametrize("part", [0xD03, 0xD08, 0xD0B, 0xD0C, 0xD42, 0xD49])
def test_as_lscpu_says(tmp_path: Path, part: int) -> None:
    """The names are those of util-linux, which has a table of its own."""
    write(tmp_path / "proc/cpuinfo", cpuinfo(f"{part:#05x}"))
    write(tmp_path / "sys/devices/system/cpu/possible", "0\n")
    command = ["lscpu", "--sysroot", tmp_path]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}).stdout
    found = re.search(r"^ *Model name: +(.*)$", said, re.MULTILINE)
    if found is None:
        pytest.skip("this lscpu knows no Arm")
    assert found[1] == ARM[part]
