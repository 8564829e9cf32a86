"""What the doctor finds on five boards that are laid out as files, and on this PC."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import ENGINE, MODEL, Bundle, FileEntry, open_bundle
from edgevit.device.apt import SimulatedInstall
from edgevit.device.doctor import LEVELS, Finding, examine
from edgevit.device.jetson import detect
from edgevit.device.modules import MODULES, Module, Python, probe, python_here
from tests.device.boards import NANO, R32, R36, R38, R39, THOR, board_of, modules, video_node, write

DIST = "/usr/lib/python3.10/dist-packages"
WITH_GSTREAMER = "    GUI:                           GTK3\n    GStreamer:                   YES (1.20.3)\n"
WITHOUT = "    GUI:                           NONE\n    GStreamer:                   NO\n"
MISSING = Module(missing="No module named it")
CONF = "".join(f"< POWER_MODEL ID={key} NAME={name} >\n" for key, name in enumerate(("15W", "25W", "MAXN_SUPER")))

GOOD = Python(
    version="3.10.12",
    executable="/home/me/venv/bin/python",
    environment="/home/me/venv",
    modules={
        "tensorrt": Module(version="10.3.0", file=f"{DIST}/tensorrt/__init__.py"),
        "pycuda": Module(version="2026.1", file="/home/me/venv/lib/python3.10/site-packages/pycuda/__init__.py"),
        "cv2": Module(version="4.8.0", file=f"{DIST}/cv2/__init__.py", build=WITH_GSTREAMER),
        "openvino": MISSING,
        "onnxruntime": MISSING,
    },
    path="/usr/local/cuda/bin:/usr/bin",
    include="/usr/include/python3.10",
)
LATER = R39.replace("REVISION: 2.1", "REVISION: 2.2")
"""An L4T that is in no table."""
ENVIRONMENT = "/home/me/venv/lib/python3.10/site-packages"


def with_module(name: str, module: Module, python: Python = GOOD) -> Python:
    return replace(python, modules={**python.modules, name: module})


def orin_nano(root: Path, *, release: str = R36, **meminfo: int) -> Path:
    """An Orin Nano 8GB in its 25W mode with a USB camera; memory in MiB."""
    board_of(root, model=NANO, compatible=modules("p3768-0000+p3767-0005-super", "p3767-0005"), release=release)
    memory = {"MemTotal": 7486, "MemAvailable": 5000, "SwapTotal": 3743, "SwapFree": 3743} | meminfo
    write(root / "proc/meminfo", "".join(f"{name}: {mib * 1024} kB\n" for name, mib in memory.items()))
    write(root / "etc/nvpmodel.conf", CONF)
    write(root / "var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n")
    write(root / "sys/class/devfreq/17000000.gpu/min_freq", "306000000\n")
    write(root / "sys/class/devfreq/17000000.gpu/max_freq", "918000000\n")
    write(root / "dev/video0", "")
    write(root / "sys/class/video4linux/video0/name", "HD Webcam\n")
    write(root / "tmp/argus_socket", "")
    for compiler in ("usr/local/cuda/bin/nvcc", "usr/bin/g++", "usr/include/python3.10/Python.h"):
        write(root / compiler, "")
    return root


def swaps(root: Path, *places: tuple[str, int, int]) -> None:
    """What swapping goes to: path, MiB, MiB used."""
    lines = [f"{path} partition {mib * 1024} {used * 1024} 5" for path, mib, used in places]
    write(root / "proc/swaps", "\n".join(["Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority", *lines, ""]))


def of(findings: tuple[Finding, ...], topic: str) -> list[Finding]:
    return [finding for finding in findings if finding.topic == topic]


def only(findings: tuple[Finding, ...], topic: str) -> Finding:
    (finding,) = of(findings, topic)
    return finding


def levels(findings: tuple[Finding, ...]) -> dict[str, str]:
    """The worst level by topic."""
    worst: dict[str, str] = {}
    for finding in findings:
        worst[finding.topic] = max(worst.get(finding.topic, "ok"), finding.level, key=LEVELS.index)
    return worst


# --- five boards and this PC -----------------------------------------------------------------------------------------


def test_orin_nano_in_good_health(tmp_path: Path) -> None:
    """Nothing to fix; what could be faster is a note."""
    found = examine(GOOD, orin_nano(tmp_path))
    assert levels(found) == {
        "board": "ok", "JetPack": "ok", "Python": "ok", "TensorRT": "ok", "pycuda": "ok", "OpenCV": "ok",
        "power mode": "note", "clocks": "note", "memory": "ok", "camera": "ok",
    }  # fmt: skip
    assert only(found, "board").text == f"{NANO}, jetson-orin-nano-8gb"
    assert only(found, "JetPack").text == "JetPack 6.2.1, L4T 36.4.4"
    assert only(found, "power mode").text == "25W, GPU up to 918 MHz"
    assert only(found, "power mode").fix.endswith("15W is 0, MAXN_SUPER is 2")
    assert "sudo jetson_clocks" in only(found, "clocks").fix
    assert only(found, "camera").text == "/dev/video0: HD Webcam"


def test_orin_nano_without_its_super_modes(tmp_path: Path) -> None:
    """JetPack 7.2.1 over old firmware: stuck at 624.75 MHz, and the configuration says why."""
    root = orin_nano(tmp_path, release=R39)
    write(root / "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n")
    write(root / "var/lib/nvpmodel/status", "pmode:0000\n")
    write(root / "etc/nv_boot_control.conf", "TNSPEC 3767-301-0005-M.1-1-1-jetson-orin-nano-devkit-\n")
    write(root / "sys/class/devfreq/17000000.gpu/max_freq", "624750000\n")
    python = with_module("tensorrt", Module(version="10.16.2.10", file="/usr/lib/python3.12/dist-packages/tensorrt/__init__.py"))
    found = examine(replace(python, version="3.12.3"), root)
    mode, lacking = of(found, "power mode")
    assert mode.text == "15W, GPU up to 624.75 MHz"
    assert lacking.level == "warning"
    assert "faster modes (25W, MAXN_SUPER)" in lacking.text
    assert lacking.text.endswith("3767-301-0005-M.1-1-1-jetson-orin-nano-devkit")
    assert only(found, "JetPack").text == "JetPack 7.2.1, L4T 39.2.1"


def test_agx_orin(tmp_path: Path) -> None:
    """Known from dpkg alone where an image lacks nv_tegra_release; the JetPack's package is named."""
    root = board_of(tmp_path, compatible=modules("p3737-0000+p3701-0005", "p3701-0005"), release="", mib=62817)
    status = (
        "Package: nvidia-l4t-core\nStatus: install ok installed\nVersion: 36.4.3-20250107174145\n\n"
        "Package: nvidia-jetpack\nStatus: install ok installed\nArchitecture: arm64\nVersion: 6.2.1+b38\n\n"
        "Package: python3-libnvinfer\nStatus: deinstall ok config-files\nVersion: 8.6.2\n"
    )
    write(root / "var/lib/dpkg/status", status)
    found = examine(with_module("tensorrt", MISSING), root)
    assert only(found, "JetPack").text == "JetPack 6.2 (package 6.2.1+b38), L4T 36.4.3"
    # A removed package that left its configuration behind is not installed.
    assert only(found, "TensorRT").fix == "apt install python3-libnvinfer"


@pytest.mark.parametrize(("sku", "mib", "target"), [("0008", 125772, "jetson-thor-t5000"), ("0000", 62700, "jetson-thor-t4000")])
def test_thor(sku: str, mib: int, target: str, tmp_path: Path) -> None:
    """Its device tree may name the carrier only; the bootloader's configuration has the module."""
    root = board_of(tmp_path, model=THOR, compatible=("nvidia,p4071-0000", "nvidia,tegra264"), release=R38, mib=mib)
    assert detect(root).target is None
    write(root / "etc/nv_boot_control.conf", f"TNSPEC 3834-400-{sku}-A.0-1-1-jetson-agx-thor-devkit-\nTEGRA_CHIPID 0x26\n")
    found = examine(with_module("tensorrt", Module(version="10.13.3", file=f"{DIST}/tensorrt/__init__.py")), root)
    assert only(found, "board").text == f"{THOR}, {target}"
    assert only(found, "Python").level == "problem"
    assert "/usr/bin/python3.12 -m venv --system-site-packages" in only(found, "Python").fix


def test_nano_of_old(tmp_path: Path) -> None:
    """JetPack 4 will never do, and the fix says so."""
    found = examine(
        GOOD, board_of(tmp_path, model="NVIDIA Jetson Nano", compatible=modules("p3448-0000", chip="tegra210"), release=R32)
    )
    assert only(found, "board").level == "warning"
    assert only(found, "JetPack").level == "problem"
    assert only(found, "JetPack").fix.endswith("There is none for this board: use a Jetson Orin or Thor.")


def test_this_pc() -> None:
    """As it is: every finding has a level and a topic, and the engine that the tests run on is found."""
    python = python_here()
    assert set(python.modules) == {name.partition(".")[0] for name in MODULES}
    found = examine(python)
    assert only(found, "board").text.startswith("no Jetson")
    assert only(found, "Python").text.startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}.")
    assert only(found, "engine").level == "ok"
    assert {finding.level for finding in found} <= set(LEVELS)
    assert not [finding for finding in found if finding.level in ("warning", "problem") and not finding.fix]


def test_empty_root(tmp_path: Path) -> None:
    """No files at all: a PC in a container, and no error."""
    assert {finding.topic for finding in examine(GOOD, tmp_path)} >= {"board", "Python", "OpenCV", "camera"}


def test_l4t_that_nothing_tells(tmp_path: Path) -> None:
    assert only(examine(GOOD, board_of(tmp_path, release="")), "JetPack").level == "warning"


# --- software --------------------------------------------------------------------------------------------------------


def test_environment_that_hides_the_system(tmp_path: Path) -> None:
    """TensorRT is installed and cannot be seen: the environment is the fault, not the package."""
    root = orin_nano(tmp_path)
    write(
        root / "var/lib/dpkg/status", "Package: python3-libnvinfer\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n"
    )
    found = examine(replace(with_module("tensorrt", MISSING), sees_system=False), root)
    assert "does not see the system's packages" in only(found, "Python").text
    assert "python3-libnvinfer 10.3.0.30-1+cuda12.5 is installed" in only(found, "TensorRT").text
    for topic in ("Python", "TensorRT"):
        assert "python3 -m venv --system-site-packages" in only(found, topic).fix


@pytest.mark.parametrize(
    ("module", "level", "words"),
    [
        (Module(version="10.7.0", file=f"{ENVIRONMENT}/tensorrt/__init__.py", owner="tensorrt-cu12"), "warning", "a wheel"),
        (
            Module(version="10.7.0", file=f"{ENVIRONMENT}/tensorrt/__init__.py"),
            "note",
            "neither of the system's packages nor of pip",
        ),
        (
            Module(version="10.14.1", file="/usr/local/lib/python3.12/dist-packages/tensorrt/__init__.py", owner="tensorrt"),
            "note",
            "neither of the system's packages nor of pip here",
        ),
        (Module(version="8.6.2", file=f"{DIST}/tensorrt/__init__.py"), "problem", "8.6.2"),
        (Module(error="libnvdla_compiler.so: cannot open shared object file"), "problem", "libnvdla_compiler.so"),
        (Module(error="loading it ends with SIGSEGV"), "problem", "SIGSEGV"),
    ],
)
def test_tensorrt(module: Module, level: str, words: str, tmp_path: Path) -> None:
    found = only(examine(with_module("tensorrt", module), orin_nano(tmp_path)), "TensorRT")
    assert found.level == level
    assert words in found.text
    assert found.fix
    # Only what pip of this environment brought can be taken off by it.
    owner = module.owner if (module.file or "").startswith(ENVIRONMENT) else None
    assert ("pip uninstall" in found.fix) == (owner is not None)
    assert owner is None or f"pip uninstall {owner}" in found.fix


@pytest.mark.parametrize(
    ("module", "release", "version", "level", "words"),
    [
        ("p3767-0005", R39, "10.16.2.10", "ok", ""),
        ("p3767-0005", R39, "10.13.3.9", "problem", "no kernels for Orin"),  # isaac-ros-cli issue 22: the same board and versions
        ("p3767-0005", R36, "10.7.0", "ok", ""),  # NVIDIA's own upgrade of JetPack 6
        ("p3767-0005", R39, "11.4.1", "warning", "from JetPack 7.2.2 on"),
        ("p3701-0005", R36, "11.0.0", "warning", "from JetPack 7.2.2 on"),
        ("p3767-0005", LATER, "11.4.1", "warning", "on AGX Orin and Thor alone"),
        ("p3701-0005", LATER, "11.4.1", "ok", ""),
        ("p3701-0005", LATER, "10.16.2", "ok", ""),
        ("p3834-0008", R38, "10.13.3", "ok", ""),
        ("p3834-0008", LATER, "11.4.1", "ok", ""),
        ("p3834-0008", R38, "11.4.1", "warning", "from JetPack 7.2.2 on"),
        ("p3767-0005", LATER, None, "ok", ""),
    ],
)
def test_tensorrt_that_is_not_for_the_board(
    module: str, release: str, version: str | None, level: str, words: str, tmp_path: Path
) -> None:
    """What NVIDIA says of it, and of an L4T that is in no table nothing but that."""
    chip, mib = ("tegra264", 125772) if module == "p3834-0008" else ("tegra234", 7486 if module == "p3767-0005" else 62817)
    root = board_of(tmp_path, compatible=modules(module, chip=chip), release=release, mib=mib)
    version_of_python = "3.10.12" if release == R36 else "3.12.3"
    tensorrt = Module(version=version, file="/usr/lib/python3/dist-packages/tensorrt/__init__.py")
    python = replace(with_module("tensorrt", tensorrt), version=version_of_python)
    found = only(examine(python, root), "TensorRT")
    assert (found.level, words in found.text) == (level, True)
    assert (found.fix == "") == (level == "ok")
    if level != "ok" and release == R39:
        assert "JetPack 7.2.1's own is 10.16.2" in found.fix


def test_a_jetpack_that_is_in_no_table(tmp_path: Path) -> None:
    """Its number is read, its name is unknown, and what apt calls it is told."""
    root = board_of(tmp_path, compatible=modules("p3701-0005"), release=LATER, mib=62817)
    write(root / "var/lib/dpkg/status", "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 7.2.2-b12\n")
    found = only(examine(replace(GOOD, version="3.12.3"), root), "JetPack")
    assert (found.level, found.text) == ("ok", "JetPack unknown (package 7.2.2-b12), L4T 39.2.2")


def test_pycuda(tmp_path: Path) -> None:
    """The fix depends on what is there: nvcc on the path, nvcc off the path, no nvcc."""
    root, python = orin_nano(tmp_path), with_module("pycuda", MISSING)
    assert only(examine(python, root), "pycuda").fix == "pip install 'edgevit[jetson]'"
    off = only(examine(replace(python, path="/usr/bin"), root), "pycuda").fix
    assert off.startswith("export PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include; pip install")
    (root / "usr/local/cuda/bin/nvcc").unlink()
    assert "needs nvcc: sudo apt install nvidia-cuda-dev; then pip install" in only(examine(python, root), "pycuda").fix


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (["usr/bin/g++"], "needs g++: sudo apt install build-essential; then"),
        (["usr/include/python3.10/Python.h"], "needs Python.h: sudo apt install python3-dev; then"),
        (
            ["usr/bin/g++", "usr/include/python3.10/Python.h"],
            "needs g++, Python.h: sudo apt install build-essential python3-dev; then",
        ),
    ],
)
def test_what_pycuda_is_compiled_with(gone: list[str], words: str, tmp_path: Path) -> None:
    """Minutes of compiling end in pip's "not a problem with pip" otherwise."""
    root = orin_nano(tmp_path)
    for path in gone:
        (root / path).unlink()
    assert words in only(examine(with_module("pycuda", MISSING), root), "pycuda").fix


def test_wheel_of_opencv_on_a_jetson(tmp_path: Path) -> None:
    """It has no GStreamer and hides the board's own."""
    wheel = Module(version="4.12.0", file=f"{ENVIRONMENT}/cv2/__init__.py", build=WITHOUT, owner="opencv-contrib-python")
    root = orin_nano(tmp_path)
    gstreamer, windows = of(examine(with_module("cv2", wheel), root), "OpenCV")
    assert (gstreamer.level, windows.level) == ("warning", "note")
    assert gstreamer.fix.endswith("need it: pip uninstall opencv-contrib-python; apt install python3-opencv")
    write(root / "var/lib/dpkg/status", "Package: libopencv-python\nStatus: install ok installed\nVersion: 4.8.0-1\n")
    gstreamer, _ = of(examine(with_module("cv2", wheel), root), "OpenCV")
    assert gstreamer.fix.endswith("need it: pip uninstall opencv-contrib-python")


REMOVES = SimulatedInstall(removes=("libopencv", "nvidia-opencv"))
UNKNOWN = SimulatedInstall(error="Unable to locate package")


@pytest.mark.parametrize(
    ("answers", "fix"),
    [
        ({"python3-opencv": SimulatedInstall()}, "apt install python3-opencv"),
        ({"python3-opencv": REMOVES, "libopencv-python": SimulatedInstall()}, "apt install libopencv-python"),
        ({"python3-opencv": REMOVES, "libopencv-python": UNKNOWN},
         "apt install python3-opencv (apt install says: python3-opencv would remove libopencv, nvidia-opencv; "
         "libopencv-python cannot be: Unable to locate package)"),
        ({"python3-opencv": None}, "apt install python3-opencv"),
    ],
)  # fmt: skip
def test_opencv_that_can_be_installed(answers: dict, fix: str, tmp_path: Path) -> None:
    """Beside what is there: Ubuntu's and NVIDIA's exclude each other, and apt would remove one for the other."""
    found = examine(with_module("cv2", MISSING), orin_nano(tmp_path), simulate=answers.get)
    assert only(found, "OpenCV").fix == fix


def test_wheel_of_opencv_on_a_pc(tmp_path: Path) -> None:
    """There it is enough for USB cameras and files."""
    wheel = Module(version="4.12.0", file="/x/site-packages/cv2/__init__.py", build=WITHOUT.replace("NONE", "QT5"))
    assert only(examine(with_module("cv2", wheel), tmp_path), "OpenCV").level == "note"


@pytest.mark.parametrize("module", [MISSING, Module(error="libGL.so.1: cannot open shared object file")])
def test_no_opencv(module: Module, tmp_path: Path) -> None:
    found = only(examine(with_module("cv2", module), orin_nano(tmp_path)), "OpenCV")
    assert found.level == "problem"
    assert "apt install python3-opencv" in found.fix


@pytest.mark.parametrize("error", ["numpy.core.multiarray failed to import", "_ARRAY_API not found"])
def test_opencv_of_another_numpy(error: str, tmp_path: Path) -> None:
    """What pip's newest NumPy does to the OpenCV of Ubuntu 22.04 and 24.04, and so of JetPack 6 and 7."""
    found = only(examine(with_module("cv2", Module(error=error)), orin_nano(tmp_path)), "OpenCV")
    assert (found.level, found.fix) == ("problem", "pip install 'numpy<2'")


# --- room ------------------------------------------------------------------------------------------------------------


def a_bundle(folder: Path, *, model_mib: int, builder_mib: float | None = None, engine: bool = False) -> Bundle:
    """A bundle of TensorRT's that is only as large as its manifest says."""
    from edgevit.bundle import Manifest
    from edgevit.preprocess import Preprocessing

    entry = FileEntry(sha256=hashlib.sha256(b"").hexdigest(), bytes=model_mib * 2**20)
    manifest = Manifest(
        name="b", family="timm", model={}, preprocessing=Preprocessing(size=(8, 8), resize=(8, 8)), labels=(), precision="int8",
        blocks=(), recipe={}, target={}, engine="tensorrt", compiled={"plan": {"builder_mib": builder_mib}},
        files={MODEL: entry, **({ENGINE: entry} if engine else {})},
    )  # fmt: skip
    return Bundle(folder / "b.edgevit", manifest)


@pytest.mark.parametrize(
    ("free", "swap", "bundle", "level", "words"),
    [
        (5000, 0, {"model_mib": 100, "builder_mib": 2000}, "ok", "2768 MiB (measured by a stand-in"),
        (5000, 3743, {"model_mib": 100, "builder_mib": 2000}, "ok", "about 2768 MiB"),
        (5000, 3743, {"model_mib": 100, "builder_mib": 2000, "engine": True}, "ok", "measured here"),
        (2000, 300, {"model_mib": 100}, "ok", "about 1724 MiB (estimated"),
        (1000, 300, {"model_mib": 100}, "warning", "about 1724 MiB (estimated"),
        (1000, 3743, {"model_mib": 100}, "ok", "about 1724 MiB"),
    ],
)
def test_memory_for_a_bundle(free: int, swap: int, bundle: dict, level: str, words: str, tmp_path: Path) -> None:
    root = orin_nano(tmp_path / "root", MemAvailable=free, SwapTotal=swap, SwapFree=swap)
    found = only(examine(GOOD, root, a_bundle(tmp_path, **bundle)), "memory")
    assert found.level == level
    assert words in found.text
    assert level == "ok" or "mkswap" in found.fix


def test_zram_is_no_memory(tmp_path: Path) -> None:
    """A JetPack's swap is memory itself, compressed; a file on a disk counts."""
    root = orin_nano(tmp_path / "root", MemAvailable=1000)
    bundle = a_bundle(tmp_path, model_mib=100)
    swaps(root, *((f"/dev/zram{core}", 624, 0) for core in range(6)))
    found = only(examine(GOOD, root, bundle), "memory")
    assert found.level == "warning"
    assert "0 MiB of swap (and 3744 of zram, which is the same memory)" in found.text
    assert "add swap: sudo systemctl disable nvzramconfig, " in found.fix
    assert "sudo tee -a /etc/fstab" in found.fix
    swaps(root, ("/dev/zram0", 1743, 0), ("/swapfile", 2048, 48))
    found = only(examine(GOOD, root, bundle), "memory")
    assert (found.level, "2000 MiB of swap (and 1743 of zram" in found.text) == ("ok", True)


def test_small_board_without_swap(tmp_path: Path) -> None:
    """Without a bundle nobody knows what it will take; with one that fits there is nothing to warn of."""
    root = orin_nano(tmp_path / "root", SwapTotal=0, SwapFree=0)
    assert only(examine(GOOD, root), "memory").level == "warning"
    assert only(examine(GOOD, root, a_bundle(tmp_path, model_mib=10)), "memory").level == "ok"


@pytest.mark.parametrize(("free", "level"), [(301, "ok"), (299, "warning")])
def test_disk_for_a_bundle(free: int, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is written beside the old one, with an engine."""
    usage = namedtuple("usage", "total used free")(2**40, 2**40, free * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert only(examine(GOOD, tmp_path, a_bundle(tmp_path, model_mib=100)), "storage").level == level


def test_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their numbers; one that this user may not open is a problem, none is a note."""
    root = orin_nano(tmp_path)
    write(root / "dev/video10", "")
    write(root / "dev/video2", "")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "video2" not in str(path) and access(path, mode))
    found = of(examine(GOOD, root), "camera")
    assert [(finding.text.partition(":")[0], finding.level) for finding in found] == [
        ("/dev/video0", "ok"), ("/dev/video2", "problem"), ("/dev/video10", "ok")
    ]  # fmt: skip
    assert "usermod -aG video" in found[1].fix
    for node in root.glob("dev/video*"):
        node.unlink()
    assert only(examine(GOOD, root), "camera").level == "note"
    (root / "tmp/argus_socket").unlink()
    assert "nvargus-daemon" in of(examine(GOOD, root), "camera")[1].fix


def test_nodes_that_are_no_cameras(tmp_path: Path) -> None:
    """A CSI sensor's raw node is answered with csi://0; a codec and an image processor are not shown at all."""
    root = orin_nano(tmp_path)
    video_node(root, 1, "vi-output, imx219 9-0010", "tegra-camrtc-capture-vi")
    video_node(root, 2, "bcm2835-codec-decode", "bcm2835-codec")
    webcam, sensor, deadlock = of(examine(GOOD, root), "camera")
    assert (webcam.level, sensor.level, deadlock.level) == ("ok", "note", "warning")
    assert sensor.text == "/dev/video1: vi-output, imx219 9-0010, a CSI sensor"
    assert sensor.fix.startswith("use csi://0")
    assert "sudo systemctl restart nvargus-daemon" in deadlock.fix
    write(root / "etc/nv_tegra_release", R38)
    assert "deadlock" not in "".join(finding.text for finding in examine(GOOD, root))


@pytest.mark.parametrize(
    ("mine", "root_user", "level", "fix"),
    [
        ({44, 994}, False, "ok", ""),
        ({44}, False, "warning", "sudo usermod -aG render $USER, then log in again"),
        ({1000}, False, "warning", "sudo usermod -aG video,render $USER, then log in again"),
        (set(), True, None, ""),
    ],
)
def test_groups(
    mine: set[int], root_user: bool, level: str | None, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that own cameras and the decoder's node, where the system has them; root needs none."""
    root = orin_nano(tmp_path)
    write(root / "etc/group", "root:x:0:\nvideo:x:44:me\nrender:x:994:\nme:x:1000:\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root_user else 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: sorted(mine))
    assert [(finding.level, finding.fix) for finding in of(examine(GOOD, root), "groups")] == ([(level, fix)] if level else [])


def test_clocks_before_compiling(tmp_path: Path) -> None:
    """Kernels are chosen by timing them: with a bundle that is still to be compiled it is a warning."""
    root = orin_nano(tmp_path / "root")
    found = only(examine(GOOD, root, a_bundle(tmp_path, model_mib=1)), "clocks")
    assert (found.level, found.text) == ("warning", "the GPU's clock follows the load, and kernels are chosen by timing them")
    assert found.fix.startswith("before edgevit compile, ")
    assert only(examine(GOOD, root, a_bundle(tmp_path, model_mib=1, engine=True)), "clocks").level == "note"


@pytest.mark.parametrize(("built", "level"), [("8", "ok"), ("4", "problem")])
def test_engine_of_another_power_mode(built: str, level: str, tmp_path: Path) -> None:
    """A mode that switches multiprocessors off binds an engine: both ways out are named."""
    root = orin_nano(tmp_path / "root")
    write(root / "etc/nvpmodel.conf", CONF + "< POWER_MODEL ID=3 NAME=7W >\n")
    made = a_bundle(tmp_path, model_mib=1, engine=True)
    compiled = {**(made.manifest.compiled or {}), "engine": {"multiprocessors": built}}
    found = of(examine(GOOD, root, Bundle(made.path, replace(made.manifest, compiled=compiled))), "power mode")
    assert max((finding.level for finding in found), key=LEVELS.index) == ("note" if level == "ok" else level)
    if level == "problem":
        assert found[-1].text == "the bundle's engine was compiled for 4 multiprocessors, and 25W leaves 8 on"
        assert found[-1].fix == "compile it in this mode, or go back to 7W (sudo nvpmodel -m 3); the board may have to restart"


def test_nothing_is_changed(tmp_path: Path) -> None:
    root = orin_nano(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    examine(GOOD, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


# --- modules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("__version__ = '1.2'\nprint('hello from a library')", Module(version="1.2")),
        ("raise ImportError('libfoo.so.1: cannot open\\nshared object')", Module(error="shared object")),
        ("import not_there_at_all", Module(error="No module named 'not_there_at_all'")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Module(error="loading it ends with SIGSEGV")),
        ("import os; os._exit(3)", Module(error="loading it ends with exit code 3")),
        ("raise SystemExit", Module(error="SystemExit")),
        ("import time; time.sleep(60)", Module(error="loading it takes longer than 1 s")),
    ],
    ids=["good", "no library", "dependency", "crash", "exit", "SystemExit", "hangs"],
)
def test_probe(code: str, expected: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a module does when it is imported, the doctor lives and says it."""
    monkeypatch.setattr("edgevit.device.modules.SECONDS", 1.0 if "sleep" in code else 30.0)
    write(tmp_path / "patient_module.py", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert replace(probe("patient_module"), file=None) == expected


def test_owner_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution that pip's record beside it names, which differs from the module's name; none where there is no record."""
    write(tmp_path / "patient_module/__init__.py", "")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probe("patient_module").owner is None
    write(tmp_path / "other-1.dist-info/RECORD", "other_module/__init__.py,sha256=x,0\n")
    write(tmp_path / "patient_python_headless-4.12.dist-info/RECORD", "patient_module/__init__.py,sha256=x,0\n")
    found = probe("patient_module")
    assert found.owner == "patient-python-headless"
    assert not GOOD.owns(found)
    assert replace(GOOD, environment=str(tmp_path)).owns(found)
    assert not replace(GOOD, environment=str(tmp_path)).owns(replace(found, owner=None))
    assert GOOD.owns(replace(found, file="/home/me/.local/lib/python3.10/site-packages/patient_module/__init__.py"))


def test_probe_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a file of that name in the current folder."""
    write(tmp_path / "patient_module.py", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert probe("patient_module").missing == "No module named 'patient_module'"


# --- the command -----------------------------------------------------------------------------------------------------


def test_command(edgevit, bundle_path: Path) -> None:
    """On this PC: a bundle for its processor has no problem, one document with --json, lines for people."""
    outcome = edgevit("doctor", bundle_path, "--json")
    assert (outcome.code, outcome.json["problems"], outcome.stderr) == (0, 0, "")
    *_, bundle, engine = outcome.json["findings"]
    assert (bundle["topic"], bundle["level"]) == ("bundle", "ok")
    assert (engine["topic"], engine["level"]) == ("engine", "ok")
    assert "computes the int8 graph as torch does" in engine["text"]
    assert {"topic", "level", "text", "fix"} == set(bundle)
    text = edgevit("doctor").stdout
    assert "ok       board" in text
    assert text.splitlines()[-1].startswith("0 problems, ")


def test_command_with_a_damaged_bundle(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    (copy / MODEL).write_bytes(b"no")
    outcome = edgevit("doctor", copy, "--json")
    assert (outcome.code, outcome.json["problems"]) == (1, 1)
    assert "model.onnx is not the file that was built" in outcome.json["findings"][-1]["text"]


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_command_with_a_bundle_for_elsewhere(edgevit, bundle_path: Path, tmp_path: Path) -> None:
    """What lacks is named, and the way out."""
    import shutil

    copy = Path(shutil.copytree(bundle_path, tmp_path / "b.edgevit"))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / "manifest.json").write_text(json.dumps(manifest | {"engine": "tensorrt"}), encoding="utf-8")
    assert open_bundle(copy).manifest.engine == "tensorrt"
    outcome = edgevit("doctor", copy)
    assert outcome.code == 1
    assert "tensorrt cannot run here" in outcome.stdout
    assert "--engine" in outcome.stdout
