"""No command opens a connection that nobody asked for, or leaves a file outside its outputs and the cache.

Every command runs in a process of its own with an empty home and temporary folder. An audit hook in it, and in all of its Python
children, refuses whatever is not this machine. Where strace is installed, the native libraries are watched as well.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgevit.cli import COMMANDS
from tests.support import COMMAND, ROOT

# Python runs it at start-up, in children, too. An address that is looked up is as good as a connection.
GUARD = """
import ipaddress, os, sys

def _guard(event, arguments):
    if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        return
    address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = address[0] if isinstance(address, tuple) else address
    if host is None or (event in ("socket.connect", "socket.sendto") and not isinstance(address, tuple)):
        return  # this machine, or no internet socket
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host in ("localhost", "")
    if not near:
        with open(os.environ["GUARD_LOG"], "a") as log:
            log.write(f"{event} {address}\\n")
        raise OSError(f"guarded: {event} {address}")

sys.addaudithook(_guard)
"""
FAR = re.compile(
    r"(?:connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?,.*(?:inet_addr|inet_pton)\(.*?\"(?!127\.|::1\")[^\"]*\""
)
"""A line of strace's about another machine; a local name server is not one, but is found by the hook and the home folder."""


@dataclass(frozen=True)
class Place:
    """What the commands below are built from."""

    model: Path
    data: Path
    bundle: Path
    here: Path


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number: int = probe.getsockname()[1]
    return number


def wanted(name: str, place: Place) -> tuple[list[object], int]:
    """Arguments of the command ``name`` that have it do all it can without a board, and its exit code."""
    image = next((place.data / "disc").glob("*.png"))
    every: dict[str, tuple[list[object], int]] = {
        "build": (["build", place.model, "--data", place.data, "-o", "b.edgevit"], 0),
        "prune": (["prune", place.model, "--data", place.data, "--prune", "0.3", "--recover", "1", "-o", "p.safetensors"], 0),
        "compile": (["compile", "own.edgevit"], 2),
        "run": (["run", place.bundle, "test://64x64?frames=20", "--headless", "--save", "v.avi", "--jsonl", "l.jsonl",
                 "--csv", "l.csv", "--snapshot", "s", "--serve", f"127.0.0.1:{port()}", "--attention", "rollout"], 0),
        "compare": (["compare", place.bundle, "--data", place.data, "--engines", "openvino,onnxruntime", "--runs", "5",
                     "--html", "r.html", "--markdown", "r.md", "--csv", "r.csv"], 0),
        "sweep": (["sweep", place.model, "--data", place.data, "--recipes", "fast", "--runs", "5", "-o", "s"], 0),
        "inspect": (["inspect", place.bundle, "--layers"], 0),
        "attention": (["attention", place.bundle, image, "-o", "a.png"], 0),
        "profile": (["profile", place.bundle], 0),
        "collect": (["collect", "test://64x64?frames=20", "-o", "c", "--uncertain", place.bundle, "--below", "1"], 0),
        "train": (["train", place.data, "--backbone", place.model, "-o", "m"], 0),
        "classes": (["classes", place.bundle], 0),
        "embed": (["embed", place.model, "--classes", "disc,bar", "-o", "e.npz"], 3),  # it has no text tower
        "targets": (["targets"], 0),
        "doctor": (["doctor", place.bundle], 0),
        "deploy": (["deploy", place.bundle, "127.0.0.1", "--port", port(), "-o", "deployed"], 11),
        "fleet": (["fleet", "status", "127.0.0.1", "--port", port()], 11),
        "service": (["service", place.bundle, "0", "--user", "nobody", "-o", "cam.service"], 2),
        "package": (["package", place.bundle, "0", "--as", "container", "--name", "x", "--version", "1", "-o", "packages"], 0),
        "healthcheck": (["healthcheck", place.bundle], 0),
        "keygen": (["keygen", "k"], 0),
        "sign": (["sign", "own.edgevit", "--key", "mine"], 0),
        "demo": (["demo", "-o", "demo"], 0),
        "completion": (["completion", "bash"], 0),
    }  # fmt: skip
    return every[name]


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, list[str]]]:
    """Runs ``edgevit`` so; returns its exit code, what it said, and every attempt to leave."""
    for name in ("home", "tmp", "site", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(GUARD)
    hidden = {"CI", "GITHUB_ACTIONS", "EDGEVIT_CACHE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}  # OpenVINO's are silent where CI is set
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "GUARD_LOG": str(tmp_path / "guard.log")}
    environment |= {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
        if trace := shutil.which("strace"):
            calls = "trace=connect,sendto,sendmsg,sendmmsg"
            command = [trace, "-f", "--seccomp-bpf", "-qq", "-e", calls, "-o", str(tmp_path / "strace.log"), *command]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=1800, check=False, cwd=tmp_path / "here"
        )
        left = []
        for log, pattern in (("guard.log", re.compile(".*")), ("strace.log", FAR)):
            if (tmp_path / log).exists():
                left += [line for line in (tmp_path / log).read_text(errors="replace").splitlines() if pattern.search(line)]
        return done.returncode, done.stdout + done.stderr, left

    return run


def test_the_guard_sees(guarded: Callable[..., tuple[int, str, list[str]]], tmp_path: Path) -> None:
    """A command that is asked to leave, and cannot: what the test below would see of one that was not asked."""
    code, said, left = guarded("run", tmp_path / "none", "0")
    assert (code, left) == (5, []), said
    script = "import socket; socket.getaddrinfo('edgevit.invalid', 80)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "GUARD_LOG": str(tmp_path / "guard.log")}
    subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert "socket.getaddrinfo edgevit.invalid" in (tmp_path / "guard.log").read_text()
    assert FAR.search('12 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.53")}, 16) = 0')
    assert FAR.search('12 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2a00::1", &x)}, 28) = 0')
    assert not FAR.search('12 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0')


LONG = ("demo", "prune", "compare", "sweep")  # under a tracer, each takes several times as long


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in COMMANDS])
def test_nothing_leaves(
    name: str, guarded: Callable[..., tuple[int, str, list[str]]], checkpoint_path: Path, image_folder: Path, bundle_path: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """No name is looked up, nothing is sent, the home folder holds edgevit's cache at most and the temporary one nothing."""
    shutil.copytree(bundle_path, tmp_path / "here" / "own.edgevit")
    if name == "sign":
        assert guarded("keygen", "mine")[0] == 0
    arguments, code = wanted(name, Place(model=checkpoint_path, data=image_folder, bundle=bundle_path, here=tmp_path / "here"))
    found, said, left = guarded(*arguments)
    assert left == []
    assert found == code, said
    assert {path.relative_to(tmp_path / "home").as_posix() for path in (tmp_path / "home").glob("*/*")} <= {".cache/edgevit"}
    assert {path.name for path in (tmp_path / "home").iterdir()} <= {".cache"}
    # PyTorch's optimizers make an empty folder: docs/security.md.
    assert [path for path in (tmp_path / "tmp").rglob("*") if not path.name.startswith("torchinductor_")] == []
