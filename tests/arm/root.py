"""The root of an Arm computer, made in stages that a later run does not repeat: Debian, wheels, a virtual environment."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.deploy.wheel import make_wheel
from tests.arm.machine import Arm
from tests.arm.wheels import download, needed

SUITE = "bookworm"
PYTHON = "3.11"
"""Debian 12's."""
PACKAGES = (
    "ca-certificates", "libgl1", "libglib2.0-0", "openssh-server", "python3.11", "python3.11-venv", "python3-venv", "rsync",
)  # fmt: skip
EXTRAS = (None, "cpu", "preview", "sign", "telemetry")
TESTED = ("pytest>=8.2", "hypothesis>=6.100")
"""What the project's own tests need there."""
# No package's own script is run, which takes minutes under emulation: what they would have made that is needed.
ACCOUNTS = {
    "passwd": "root:x:0:0::/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/bin/false\nboard:x:1000:1000::/home/board:/bin/bash\n",
    "group": "root:x:0:\nvideo:x:44:board\nboard:x:1000:\nnogroup:x:65534:\n",
    "shadow": "root:*:19000:0:99999:7:::\nboard:*:19000:0:99999:7:::\n",
    "hosts": "127.0.0.1 localhost\n",
}


def make_root(folder: Path, arm: Arm) -> None:
    """Make the root of ``arm`` below ``folder``, as far as it is not there. Skips where a network or an index is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    _debian(folder, arm.root)
    wheels = _wheels(folder)
    _installed(arm, wheels)


def _debian(folder: Path, root: Path) -> None:
    """An arm64 Debian, unpacked: nothing of it has run."""
    key = " ".join((SUITE, *PACKAGES, *ACCOUNTS.values()))
    if _is(root, "debian", key):
        return
    part = folder / "root.part"
    for old in (part, root):
        shutil.rmtree(old, ignore_errors=True)
    command = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, part]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        pytest.skip(f"debootstrap found no Debian: {_last(done)}")
    for package in sorted((part / "var/cache/apt/archives").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, part], check=True)
        package.unlink()
    for name, text in ACCOUNTS.items():
        (part / "etc" / name).write_text(text)
    (part / "usr/bin/awk").symlink_to("mawk")
    shutil.rmtree(part / "dev")  # of real devices; they are mounted when it runs
    for name in ("dev", "boards", "run/sshd", "home/board"):
        (part / name).mkdir(parents=True, exist_ok=True)
    shutil.chown(part / "home/board", 1000, 1000)
    part.rename(root)
    _write(root, "debian", key)


def _wheels(folder: Path) -> Path:
    """This edgevit's wheel, and those of what it needs there, in a folder."""
    wanted = [line for extra in EXTRAS for line in needed(extra, PYTHON)]
    wheels, key = folder / "wheels", " ".join((*wanted, *TESTED))
    if not _is(wheels, "wheels", key):
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        done = download(wheels, [*wanted, *TESTED], PYTHON)
        if done.returncode:
            probe = download(wheels, ["click"], PYTHON)
            if probe.returncode:
                pytest.skip(f"no package index: {_last(probe)}")
            pytest.fail(f"not to be had as wheels for aarch64: {done.stderr}")
        _write(wheels, "wheels", key)
    for old in wheels.glob("edgevit-*.whl"):
        old.unlink()
    make_wheel(wheels)
    return wheels


def _installed(arm: Arm, wheels: Path) -> None:
    """A virtual environment with all of it, made by the Arm computer's own Python and pip."""
    names = sorted(path.name for path in wheels.glob("*.whl") if not path.name.startswith("edgevit-"))
    (own,) = wheels.glob("edgevit-*.whl")
    key, digest = " ".join(names), hashlib.sha256(own.read_bytes()).hexdigest()
    there = arm.root / "wheels"
    pip = ["/venv/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index", "--find-links=/wheels"]
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(wheels, there)
    if not _is(arm.root, "venv", key):
        shutil.rmtree(arm.root / "venv", ignore_errors=True)
        _do(arm, "/usr/bin/python3", "-m", "venv", "/venv")
        extras = ",".join(extra for extra in EXTRAS if extra)
        _do(arm, *pip, f"edgevit[{extras}]", *TESTED)
        _write(arm.root, "venv", key)
        _write(arm.root, "edgevit", digest)
    elif not _is(arm.root, "edgevit", digest):
        _do(arm, *pip, "--no-deps", "--force-reinstall", "edgevit")
        _write(arm.root, "edgevit", digest)


def _do(arm: Arm, *command: str) -> None:
    done = arm.run(*command, seconds=900)
    assert done.code == 0, done.stdout + done.stderr


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _is(folder: Path, stage: str, key: str) -> bool:
    mark = folder / f".{stage}"
    return mark.exists() and mark.read_text() == _digest(key)


def _write(folder: Path, stage: str, key: str) -> None:
    (folder / f".{stage}").write_text(_digest(key))


def _digest(key: str) -> str:
    return hashlib.sha256(f"{sys.version_info[:2]} {key}".encode()).hexdigest()
