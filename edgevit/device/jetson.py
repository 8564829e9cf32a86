"""Which Jetson this is, read from files; no command is run and nothing is changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgevit.device.dpkg import installed_packages
from edgevit.device.files import first_number, text
from edgevit.device.memory import meminfo
from edgevit.errors import ConfigError
from edgevit.shipped import shipped_names
from edgevit.target import FAMILY, Device, JetPack, Target, jetpacks, l4t_range, load_target, version_of

PACKAGE = re.compile(r"(\d+)\.(\d+)\.(\d+)-")
"""The version of nvidia-l4t-core, such as 36.4.3-20250107174145."""
TNSPEC = re.compile(r"^TNSPEC (\d{4})-\w+-(\d{4})-", re.MULTILINE)
"""Part number and variant of the module in nv_boot_control.conf."""
RELEASE = re.compile(r"R(\d+) \(release\), REVISION: (\d+)(?:\.(\d+))?")
CHIPS = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}
ROOT = Path("/")
GPU_CLOCKS = (
    "sys/class/devfreq/17000000.gpu",  # Orin, JetPack 6 on
    "sys/devices/platform/17000000.gpu/devfreq_dev",
    "sys/devices/17000000.ga10b/devfreq/17000000.ga10b",  # Orin, JetPack 5
    "sys/class/devfreq/gpu-gpc-0",  # Thor
    "sys/class/devfreq/gpu-nvd-0",
)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A Jetson as its files describe it. None is what no file tells."""

    model: str
    """What the carrier board calls itself."""
    target: str | None
    """The target of its module; None if edgevit knows none, or if the memory is not that module's."""
    compute_capability: str | None
    l4t: tuple[int, int, int] | None
    memory_bytes: int | None
    gpu_mhz: float | None = None
    """The highest clock that the GPU may take in the present power mode: what to report with a latency."""
    mode_id: int | None = None
    """The present power mode, as nvpmodel counts."""
    mode: str | None = None
    """Its name in the board's own nvpmodel.conf."""

    @property
    def jetpack(self) -> JetPack | None:
        """The JetPack that its L4T belongs to; None if the table has none."""
        return None if self.l4t is None else jetpack_of(self.l4t)


def detect(root: Path = ROOT) -> Board | None:
    """The Jetson whose file system ``root`` is, or None: the device tree names no Tegra."""
    compatible = text(root / "proc/device-tree/compatible").split("\0")
    chip = next((CHIPS[name] for entry in compatible if (name := entry.removeprefix("nvidia,")) in CHIPS), None)
    if chip is None:
        return None
    memory, mode = meminfo(root).get("MemTotal"), _mode_id(root)
    return Board(
        model=text(root / "proc/device-tree/model").strip("\0\n ") or "Jetson",
        target=_target([*compatible, *_of_boot_control(root)], memory),
        compute_capability=chip,
        l4t=_l4t(root),
        memory_bytes=memory,
        gpu_mhz=_gpu_mhz(root),
        mode_id=mode,
        mode=None if mode is None else power_modes(root).get(mode),
    )


def power_modes(root: Path = ROOT) -> dict[int, str]:
    """Name by id of the modes in the board's own nvpmodel.conf: both differ from install to install."""
    conf = text(root / "etc/nvpmodel.conf")
    return {int(key): name for key, name in re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", conf, re.MULTILINE)}


def jetpack_of(l4t: tuple[int, int, int]) -> JetPack | None:
    """The JetPack with this L4T."""
    for jetpack in jetpacks():
        first, last = l4t_range(jetpack.l4t)
        if first <= l4t <= last:
            return jetpack
    return None


def check_jetpack(board: Board) -> None:
    """Raise ConfigError if the board's TensorRT cannot compile edgevit's graphs, naming the JetPack to install.

    An L4T that is in no table is judged by its number: newer than the first that will do is taken to do.
    """
    minimum = load_target(board.target or FAMILY).minimum["tensorrt"]
    first = next(item for item in jetpacks() if version_of(item.tensorrt) >= version_of(minimum))
    if board.l4t is None or board.l4t >= l4t_range(first.l4t)[0]:
        return
    has = f"older than JetPack {first.version}"
    if found := board.jetpack:
        has = f"JetPack {found.version} with TensorRT {found.tensorrt} and Python {found.python}"
    step = "There is none for this board: use a Jetson Orin or Thor."
    if board.compute_capability in _capabilities():
        step = f"Install JetPack {first.version} or newer; 6.2 on has the Super modes of Orin Nano and NX."
    msg = (
        f"{board.model}: L4T {'.'.join(map(str, board.l4t))} is {has}. edgevit needs TensorRT {minimum} or newer, for "
        f"strongly typed graphs with LayerNormalization, and Python 3.10 or newer. {step}"
    )
    raise ConfigError(msg)


def here(target: Target, root: Path = ROOT) -> Target:
    """``target``, narrowed to this board if it is a family that the board belongs to.

    Raises ConfigError for a board with a JetPack that is too old for the target's engine, where that is JetPack's.
    """
    board = detect(root)
    if board is None or target.engine() not in load_target(FAMILY).engines.values():
        return target
    check_jetpack(board)
    return load_target(board.target) if board.target in target.boards else target


def _target(compatible: list[str], memory: int | None) -> str | None:
    for name in shipped_names("targets"):
        device = load_target(name).device
        # Module and memory together: one part number, and one device tree, stand for modules of several sizes.
        if device and _fits(device, memory) and any(module in entry for module in device.modules for entry in compatible):
            return name
    return None


def _fits(device: Device, memory: int | None) -> bool:
    """Whether the system sees the module's memory; firmware keeps up to a fifth (Orin Nano 8GB shows 7.3 GiB).

    One device tree serves several modules on some installs, and then only the memory tells them apart.
    """
    return memory is None or 0.75 < memory / (device.memory_gb * 2**30) <= 1


def _capabilities() -> set[str]:
    devices = (load_target(name).device for name in load_target(FAMILY).boards)
    return {device.compute_capability for device in devices if device}


def _l4t(root: Path) -> tuple[int, int, int] | None:
    if release := RELEASE.search(text(root / "etc/nv_tegra_release")):
        return int(release[1]), int(release[2]), int(release[3] or 0)
    package = PACKAGE.match(
        installed_packages(root).get("nvidia-l4t-core", "")
    )  # images that are made by other means lack the file
    return (int(package[1]), int(package[2]), int(package[3])) if package else None


def _of_boot_control(root: Path) -> list[str]:
    """The module as the bootloader knows it, where the device tree names the carrier only."""
    found = TNSPEC.search(text(root / "etc/nv_boot_control.conf"))
    return [f"nvidia,p{found[1]}-{found[2]}"] if found else []


def _gpu_mhz(root: Path) -> float | None:
    hertz = first_number(root / folder / "max_freq" for folder in GPU_CLOCKS)
    return None if hertz is None else hertz / 1e6


def _mode_id(root: Path) -> int | None:
    found = re.search(r"pmode:(\d+)", text(root / "var/lib/nvpmodel/status"))
    return int(found[1]) if found else None
