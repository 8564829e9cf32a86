"""Names, versions and machines that every system for updates takes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import ENGINE, Bundle, FileEntry, open_bundle
from edgevit.errors import BundleError, ConfigError
from edgevit.packaging.application import argus_may_deadlock, check_name, check_version, check_whole, default_name, machine_of
from edgevit.packaging.dpkg import ARCHITECTURES
from edgevit.target import load_target
from tests.support import built

POLICY = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # names of packages: Debian Policy 5.6.1
REFERENCE = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")  # a part of an image's name: distribution/reference
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@pytest.mark.parametrize("name", ["cells", "solar-cells", "a1", "x", "a" * 40])
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert POLICY.fullmatch(f"edgevit-{name}")
    assert REFERENCE.fullmatch(f"edgevit-{name}")


@pytest.mark.parametrize(
    "name",
    ["", "Cells", "solar cells", "-cells", "cells-", "a--b", "größe", "../evil", "a/b", "a\nb", "a;b", "1a", "a" * 41, "runtime",
     "runtime-cpu", "$(id)", "a.b", "a_b"],
)  # fmt: skip
def test_other_names(name: str) -> None:
    with pytest.raises(ConfigError, match="For example: --name solar-cells"):
        check_name(name)


@pytest.mark.parametrize("version", ["1", "1.0", "2026.11.29", "1.0rc1", "0"])
def test_versions(version: str) -> None:
    """dpkg itself takes them, too."""
    assert check_version(version) == version
    assert TAG.fullmatch(version)
    assert subprocess.run(["dpkg", "--compare-versions", version, "ge", "0~~"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("version", ["", "v1", "1-2", "1:2", "1 0", "1~rc", "1+x", "1/2", "１", "1\n", "1" * 41])
def test_other_versions(version: str) -> None:
    with pytest.raises(ConfigError, match=r"For example: 1\.0\.3"):
        check_version(version)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("Solar_Cells.edgevit", "solar-cells"), ("cells.edgevit.zip", "cells"), ("/opt/a b/", "a-b"), ("größe 7.edgevit", "gr-e-7"),
     ("太陽.edgevit", "")],
)  # fmt: skip
def test_default_name(path: str, expected: str) -> None:
    assert default_name(Path(path)) == expected


def with_target(bundle: Bundle, name: str, **changes: object) -> Bundle:
    target = load_target(name)
    return Bundle(
        bundle.path, replace(bundle.manifest, target=target.to_dict(), engine=target.engine("x86_64"), **changes), "0" * 64
    )


@pytest.mark.parametrize(
    ("target", "machine", "architecture"),
    [("cpu", "", "all"), ("raspberry-pi-5", "aarch64", "arm64"), ("jetson-orin-nano-8gb", "aarch64", "arm64"),
     ("intel-n100", "x86_64", "amd64")],
)  # fmt: skip
def test_machine(target: str, machine: str, architecture: str, fp32_bundle_path: Path) -> None:
    found = machine_of(with_target(open_bundle(fp32_bundle_path), target))
    assert (found, ARCHITECTURES[found]) == (machine, architecture)


def test_engine_that_is_yet_to_be_compiled(fp32_bundle_path: Path) -> None:
    """A package compiles nothing; with the engine that a board made it is whole."""
    bundle = with_target(open_bundle(fp32_bundle_path), "jetson-orin-nano-8gb")
    with pytest.raises(BundleError, match=r"not compiled yet.*edgevit deploy"):
        check_whole(bundle)
    compiled = with_target(bundle, "jetson-orin-nano-8gb", files={ENGINE: FileEntry(sha256="0" * 64, bytes=1)})
    with pytest.raises(BundleError, match=r"engine\.plan is missing"):
        check_whole(compiled)


def test_damaged_bundle(checkpoint_path: Path, tmp_path: Path) -> None:
    path = built(checkpoint_path, tmp_path, precision="fp32")
    (path / "samples.npz").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"samples\.npz is not the file that was built"):
        check_whole(open_bundle(path))


@pytest.mark.parametrize(
    ("builder", "expected"), [("tensorrt 10.3.0", True), ("tensorrt 10.13.3", False), ("tensorrt 10.30.1", False), (None, False)]
)
def test_camera_service_that_deadlocks(builder: str | None, expected: bool, fp32_bundle_path: Path) -> None:
    """Known by the TensorRT that the engine was compiled with: JetPack's own; see `edgevit.device.service.argus_deadlocks`."""
    compiled = {"engine": {"builder": builder}} if builder else None
    bundle = with_target(open_bundle(fp32_bundle_path), "jetson-orin-nano-8gb", compiled=compiled)
    assert argus_may_deadlock(bundle) is expected
