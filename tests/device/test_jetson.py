"""Recognising a board from its files, laid out below a folder as on the board, and the JetPacks that will not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.device.jetson import Board, check_jetpack, detect, here, jetpack_of
from edgevit.errors import ConfigError
from edgevit.target import load_target
from tests.device.boards import NANO, NX, ORIN, R32, R36, R38, R39, THOR, board_of, modules, write

# --- what a board is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compatible", "mib", "target"),
    [
        (ORIN, 15656, "jetson-orin-nx-16gb"),
        (modules("p3768-0000+p3767-0001-super", "p3767-0001"), 7620, "jetson-orin-nx-8gb"),
        (modules("p3768-0000+p3767-0003", "p3767-0003"), 7486, "jetson-orin-nano-8gb"),
        (modules("p3768-0000+p3767-0005-super", "p3767-0005"), 7486, "jetson-orin-nano-8gb"),
        (modules("p3768-0000+p3767-0004", "p3767-0004"), 3440, "jetson-orin-nano-4gb"),
        (modules("p3737-0000+p3701-0004", "p3701-0004"), 30536, "jetson-agx-orin-32gb"),
        (modules("p3737-0000+p3701-0005", "p3701-0005"), 62817, "jetson-agx-orin-64gb"),
        (modules("p3737-0000+p3701-0000", "p3701-0000"), 30536, "jetson-agx-orin-32gb-devkit"),
        (modules("p3740-0002+p3701-0008", "p3701-0008"), 58900, "jetson-agx-orin-industrial"),
        (modules("p3740-0002+p3701-0002", "p3701-0002"), 62817, "jetson-igx-orin"),
        (modules("p4071-0000+p3834-0000", "p3834-0000", chip="tegra264"), 62700, "jetson-thor-t4000"),
        (modules("p4071-0000+p3834-0008", "p3834-0008", chip="tegra264"), 125772, "jetson-thor-t5000"),
    ],
)
def test_module(compatible: tuple[str, ...], mib: int, target: str, tmp_path: Path) -> None:
    """The part number decides, and the memory agrees; without /proc/meminfo the part number is enough."""
    found = detect(board_of(tmp_path, compatible=compatible, mib=mib))
    assert (found.target, found.memory_bytes) == (target, mib * 2**20)
    assert found.compute_capability == load_target(target).device.compute_capability
    (tmp_path / "proc/meminfo").unlink()
    found = detect(tmp_path)
    assert (found.target, found.memory_bytes) == (target, None)


@pytest.mark.parametrize(
    ("mib", "spec", "target"),
    [
        (62817, "", "jetson-agx-orin-64gb"),
        (30536, "", "jetson-agx-orin-32gb-devkit"),
        (30536, "TNSPEC 3701-500-0004-B.0-1-0-jetson-agx-orin-devkit-\n", "jetson-agx-orin-32gb"),
    ],
)
def test_one_device_tree_for_modules_of_several_sizes(mib: int, spec: str, target: str, tmp_path: Path) -> None:
    """That of P3701-0000 serves others, too: the search goes on where the memory is another module's."""
    root = board_of(tmp_path, compatible=modules("p3737-0000+p3701-0000", "p3701-0000"), mib=mib)
    write(root / "etc/nv_boot_control.conf", spec)
    assert detect(root).target == target


@pytest.mark.parametrize("mib", [7620, 30536])
def test_memory_of_another_module(mib: int, tmp_path: Path) -> None:
    """One device tree for several modules: no target is better than the wrong one."""
    found = detect(board_of(tmp_path, mib=mib))
    assert (found.target, found.compute_capability) == (None, "8.7")


@pytest.mark.parametrize("model", [NANO, NX, THOR])
def test_model(model: str, tmp_path: Path) -> None:
    """The device tree ends its texts with NUL."""
    assert detect(board_of(tmp_path, model=model)).model == model


@pytest.mark.parametrize(
    ("chip", "capability"),
    [("tegra210", "5.3"), ("tegra186", "6.2"), ("tegra194", "7.2"), ("tegra234", "8.7"), ("tegra264", "11.0")],
)
def test_chip(chip: str, capability: str, tmp_path: Path) -> None:
    found = detect(board_of(tmp_path, compatible=modules("p9999-0000", chip=chip)))
    assert (found.target, found.compute_capability) == (None, capability)


@pytest.mark.parametrize(
    ("release", "l4t", "jetpack"),
    [
        (R39, (39, 2, 1), "7.2.1"),
        (R38, (38, 4, 0), "7.1"),
        (R36, (36, 4, 4), "6.2.1"),
        (R32, (32, 7, 1), "4.6.1 to 4.6.6"),
        (R36.replace("4.4", "4.9"), (36, 4, 9), None),
        (R36.replace("4.4", "3"), (36, 3, 0), "6.0"),
        ("nothing that is known", None, None),
        ("", None, None),
    ],
)
def test_release(release: str, l4t: tuple[int, ...] | None, jetpack: str | None, tmp_path: Path) -> None:
    found = detect(board_of(tmp_path, release=release))
    assert found.l4t == l4t
    assert (found.jetpack and found.jetpack.version) == jetpack


@pytest.mark.parametrize(
    ("l4t", "version"),
    [
        ((32, 6, 1), "4.6"),
        ((35, 1, 0), "5.0.2"),
        ((35, 3, 1), "5.1 to 5.1.6"),
        ((36, 3, 0), "6.0"),
        ((36, 4, 0), "6.1"),
        ((36, 4, 3), "6.2"),
        ((36, 4, 7), "6.2.1"),
        ((36, 5, 0), "6.2.2"),
        ((38, 2, 1), "7.0"),
        ((39, 0, 0), "7.2 EA"),
        ((39, 2, 0), "7.2"),
    ],
)
def test_jetpack_of(l4t: tuple[int, int, int], version: str) -> None:
    assert jetpack_of(l4t).version == version


@pytest.mark.parametrize("l4t", [(32, 5, 0), (35, 1, 1), (36, 2, 0), (37, 0, 0), (40, 0, 0)])
def test_jetpack_of_an_unknown_l4t(l4t: tuple[int, int, int]) -> None:
    assert jetpack_of(l4t) is None


@pytest.mark.parametrize(
    "folder",
    [
        "sys/class/devfreq/17000000.gpu",
        "sys/devices/platform/17000000.gpu/devfreq_dev",
        "sys/devices/17000000.ga10b/devfreq/17000000.ga10b",
        "sys/class/devfreq/gpu-gpc-0",
        "sys/class/devfreq/gpu-nvd-0",
    ],
)
def test_gpu_clock(folder: str, tmp_path: Path) -> None:
    """In MHz, wherever this JetPack keeps it; the Nano that is stuck at 624.75 MHz shows."""
    board_of(tmp_path)
    assert detect(tmp_path).gpu_mhz is None
    write(tmp_path / folder / "max_freq", "624750000\n")
    assert detect(tmp_path).gpu_mhz == 624.75


def test_gpu_clock_that_is_no_number(tmp_path: Path) -> None:
    board_of(tmp_path)
    write(tmp_path / "sys/class/devfreq/17000000.gpu/max_freq", "\n")
    assert detect(tmp_path).gpu_mhz is None


def test_power_mode(tmp_path: Path) -> None:
    """The id is nvpmodel's state; its name is looked up in the board's own file, since ids differ between installs."""
    board_of(tmp_path)
    found = detect(tmp_path)
    assert (found.mode_id, found.mode) == (None, None)
    write(tmp_path / "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n")
    found = detect(tmp_path)
    assert (found.mode_id, found.mode) == (2, None)
    conf = "# < POWER_MODEL ID=id_num NAME=mode_name >\n< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_FREQ 612000000\n"
    write(tmp_path / "etc/nvpmodel.conf", conf + "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=0 >\n")
    assert detect(tmp_path).mode == "MAXN_SUPER"


def test_no_jetson(tmp_path: Path) -> None:
    """A PC has no device tree, a Raspberry Pi has another."""
    assert detect(tmp_path) is None
    board_of(tmp_path, compatible=("raspberrypi,5-model-b", "brcm,bcm2712"), release="")
    assert detect(tmp_path) is None


# --- JetPacks that will not do ---------------------------------------------------------------------------------------


def a_board(l4t: tuple[int, int, int] | None, **changes: object) -> Board:
    board = Board(model=NX, target="jetson-orin-nx-16gb", compute_capability="8.7", l4t=l4t, memory_bytes=None)
    return replace(board, **changes)


@pytest.mark.parametrize("l4t", [None, (36, 4, 0), (36, 4, 3), (36, 4, 9), (37, 0, 0), (39, 2, 1), (40, 0, 0)])
def test_new_enough(l4t: tuple[int, int, int] | None) -> None:
    """Newer than the table knows will do; what no file tells is left to the engine."""
    check_jetpack(a_board(l4t))


@pytest.mark.parametrize(
    ("l4t", "has"),
    [
        ((36, 3, 0), "L4T 36.3.0 is JetPack 6.0 with TensorRT 8.6.2 and Python 3.10."),
        ((36, 2, 0), "L4T 36.2.0 is older than JetPack 6.1."),
        ((35, 4, 1), "L4T 35.4.1 is JetPack 5.1 to 5.1.6 with TensorRT 8.5.2 and Python 3.8."),
        ((35, 1, 0), "L4T 35.1.0 is JetPack 5.0.2 with TensorRT 8.4.1 and Python 3.8."),
    ],
)
def test_too_old(l4t: tuple[int, int, int], has: str) -> None:
    """What it has, what is needed and why, and what to install: one line."""
    with pytest.raises(ConfigError) as caught:
        check_jetpack(a_board(l4t))
    message = str(caught.value)
    assert message.startswith(f"{NX}: {has} edgevit needs TensorRT 10.3 or newer, for strongly typed graphs")
    assert "Install JetPack 6.1 or newer; 6.2 on has the Super modes" in message
    assert "\n" not in message


def test_too_old_for_ever() -> None:
    """Xavier and older have no JetPack with a TensorRT that will do, so none is named to install."""
    with pytest.raises(ConfigError) as caught:
        check_jetpack(a_board((32, 7, 1), target=None, compute_capability="7.2"))
    message = str(caught.value)
    assert "is JetPack 4.6.1 to 4.6.6 with TensorRT 8.2.1 and Python 3.6" in message
    assert message.endswith("There is none for this board: use a Jetson Orin or Thor.")
    assert "Install" not in message


def test_the_targets_minimum_counts() -> None:
    """Thor needs a newer TensorRT than Orin: its file says so, and nothing else does."""
    check_jetpack(a_board((36, 5, 0)))
    thor = a_board((36, 5, 0), target="jetson-thor-t5000", compute_capability="11.0")
    with pytest.raises(ConfigError, match=r"TensorRT 10\.13 or newer.*Install JetPack 7\.0"):
        check_jetpack(thor)


# --- a family becomes this board -------------------------------------------------------------------------------------


def test_here(tmp_path: Path) -> None:
    family, cpu, other = load_target("jetson"), load_target("cpu"), load_target("jetson-thor-t4000")
    assert here(family, tmp_path) == family
    board_of(tmp_path, mib=15656)
    assert here(family, tmp_path) == load_target("jetson-orin-nx-16gb")
    assert here(other, tmp_path) == other
    assert here(cpu, tmp_path) == cpu


def test_here_with_an_unknown_module(tmp_path: Path) -> None:
    board_of(tmp_path, compatible=modules("p9999-0000"))
    assert here(load_target("jetson"), tmp_path) == load_target("jetson")


@pytest.mark.parametrize("name", ["jetson", "jetson-orin-nx-16gb"])
def test_here_with_an_old_jetpack(name: str, tmp_path: Path) -> None:
    """Refused for what TensorRT compiles; a CPU target runs on any JetPack."""
    board_of(tmp_path, release=R36.replace("4.4", "3.0"))
    with pytest.raises(ConfigError, match=r"JetPack 6\.0"):
        here(load_target(name), tmp_path)
    assert here(load_target("cpu"), tmp_path).name == "cpu"
