"""What an Arm board installs: the project's requirements as they hold there, and pip asked for that board's wheels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLD = ("manylinux2014_aarch64",)
JETPACK_6 = tuple(f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)) + OLD
"""Ubuntu 22.04 has glibc 2.35, and Debian 12 one more."""
JETPACK_7 = tuple(f"manylinux_2_{minor}_aarch64" for minor in range(39, 16, -1)) + OLD
"""Ubuntu 24.04 has glibc 2.39."""


def needed(extra: str | None, python: str) -> list[str]:
    """The requirements that hold on an Arm board; pip would ask this machine about the conditions."""
    requirements = pytest.importorskip("packaging.requirements")
    board = {"python_version": python, "platform_machine": "aarch64", "sys_platform": "linux"}
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    parsed = [requirements.Requirement(line) for line in listed]
    return [f"{each.name}{each.specifier}" for each in parsed if each.marker is None or each.marker.evaluate(board)]


def download(
    folder: Path, wanted: Sequence[str], python: str, platforms: Sequence[str] = JETPACK_6
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Ask pip for wheels of ``wanted`` and of all that they need, for CPython ``python`` (``3.11``) on Arm, into ``folder``."""
    options = [item for platform in platforms for item in ("--platform", platform)]
    version = ["--python-version", python.replace(".", ""), "--implementation", "cp", "--only-binary=:all:"]
    return subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", *options, *version, "-d", folder, *wanted],
        capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
