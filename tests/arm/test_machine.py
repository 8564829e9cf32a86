"""What the other tests here stand on: it is an Arm computer, and nothing of it is left outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.arm.machine import Arm

pytestmark = pytest.mark.slow

ABOUT = """
import platform, sys
from importlib.metadata import distributions
print(platform.machine(), sys.byteorder, sys.version_info[:2], *sorted(each.name.lower() for each in distributions()))
"""


def test_it_is_arm(arm: Arm) -> None:
    """Engines as the extra ``cpu`` brings them: no OpenVINO."""
    machine, order, *rest = arm.python(ABOUT).stdout.split()
    assert (machine, order) == ("aarch64", "little")
    assert {"edgevit", "onnxruntime", "opencv-python"} <= set(rest)
    assert not [name for name in rest if name in ("openvino", "torch", "onnx")]


def test_nothing_is_left(arm: Arm) -> None:
    """Neither mounts nor programs, though a program was killed that had others."""
    known = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists()
    process = arm.start("sh", "-c", "sleep 1234567 & echo there; sleep 1234567")
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.kill()
    process.communicate(timeout=20)
    assert str(arm.root) not in Path("/proc/mounts").read_text()
    assert Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists() == known
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if b"sleep\x001234567" in command]
