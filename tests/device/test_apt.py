"""What apt would do: asked of the real one where it is, and read from what it says elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgevit.device import apt
from edgevit.device.apt import SimulatedInstall, simulate_install

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="this system has no apt")
CONFLICT = """NOTE: This is only a simulation!
The following packages will be REMOVED:
  libopencv libopencv-python nvidia-opencv
The following NEW packages will be installed:
  python3-opencv
Remv libopencv-python [4.8.0-1-g6371ee1]
Remv libopencv [4.8.0-1-g6371ee1]
Inst python3-opencv (4.5.4+dfsg-9ubuntu4 Ubuntu:22.04/jammy [arm64])
Conf python3-opencv (4.5.4+dfsg-9ubuntu4 Ubuntu:22.04/jammy [arm64])
"""


@needs_apt
def test_real_apt() -> None:
    """A package that is there takes nothing away; one that nobody has is an error in apt's words."""
    assert simulate_install("apt") == SimulatedInstall()
    nobody = simulate_install("a-package-that-nobody-has")
    assert nobody is not None
    assert nobody.error == "Unable to locate package a-package-that-nobody-has"
    assert not nobody.harmless


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program = folder / "apt-get"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_packages_that_would_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, f"[ \"$1\" = -s ] || exit 1\ncat <<'END'\n{CONFLICT}END")
    found = simulate_install("python3-opencv")
    assert found == SimulatedInstall(removes=("libopencv-python", "libopencv"))
    assert not found.harmless


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("echo 'E: Unable to correct problems, you have held broken packages.' >&2; exit 100",
         "Unable to correct problems, you have held broken packages."),
        ("exit 3", "apt-get ends with exit code 3"),
    ],
)  # fmt: skip
def test_refusals(text: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, text)
    assert simulate_install("python3-opencv") == SimulatedInstall(error=error)


def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "SECONDS", 0.2)
    fake(tmp_path, monkeypatch, "exec sleep 30")
    assert simulate_install("python3-opencv") is None
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert simulate_install("python3-opencv") is None
