"""The files of a board, laid out below a folder as on the board."""

from __future__ import annotations

from pathlib import Path

NANO = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
NX = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
THOR = "NVIDIA Jetson AGX Thor Developer Kit"
ORIN = ("nvidia,p3768-0000+p3767-0000-super", "nvidia,p3767-0000", "nvidia,tegra234")
R32 = "# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t186ref, EABI: aarch64, DATE: Sat Feb 19 17:07:00 UTC 2022"
R36 = "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: Mon Jun 16 16:07:13 UTC 2025"
R38 = "# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic, EABI: aarch64, DATE: Wed Dec 31 20:20:20 UTC 2025"
R39 = "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64, DATE: Fri Aug  7 05:54:22 AM UTC 2026"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def board_of(root: Path, *, model: str = NX, compatible: tuple[str, ...] = ORIN, release: str = R36, mib: int = 0) -> Path:
    """The files of a board; without ``mib``, /proc/meminfo is missing."""
    write(root / "proc/device-tree/model", model + "\0")
    write(root / "proc/device-tree/compatible", "".join(f"{entry}\0" for entry in compatible))
    if release:
        write(root / "etc/nv_tegra_release", release + "\n")
    if mib:
        write(root / "proc/meminfo", f"MemTotal:       {mib * 1024} kB\nMemFree:        100 kB\n")
    return root


def modules(*entries: str, chip: str = "tegra234") -> tuple[str, ...]:
    return (*(f"nvidia,{entry}" for entry in entries), f"nvidia,{chip}")


def video_node(root: Path, number: int, name: str, driver: str) -> Path:
    """``/dev/videoN`` with its folder in sysfs; without ``driver`` that folder names none."""
    write(root / f"dev/video{number}", "")
    node = root / f"sys/class/video4linux/video{number}"
    write(node / "name", name + "\n")
    if driver:
        (node / "device").mkdir()
        (node / "device/driver").symlink_to(f"../../../bus/platform/drivers/{driver}")
    return node
