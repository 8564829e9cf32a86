"""A path that nobody may look at, a name that is too long, output that nobody takes: the right exit code and one line."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevit.api import load
from edgevit.bundle import open_bundle
from edgevit.cli import COMMANDS
from edgevit.errors import BundleError, CheckpointError, ConfigError, DataError, EdgevitError, SourceError, StorageError
from edgevit.files.paths import looked_at
from edgevit.images.dataset import load_images
from edgevit.model.checkpoint import load_checkpoint
from edgevit.runtime.source import open_source
from edgevit.signing import generate
from edgevit.target import load_target
from tests.support import COMMAND, ROOT, Outcome

CAPABILITIES = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
ROOTS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A file in a folder that may not be entered, by root neither as long as this lasts."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "file").touch()
    folder.chmod(0)
    library, header = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    had, has = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; and their upper halves
    if hasattr(library, "capset") and library.capget(header, had) == 0:
        has[:] = had
        has[0] &= ~ROOTS & 0xFFFFFFFF
        library.capset(header, has)
    try:
        if os.access(folder / "file", os.F_OK, effective_ids=True):
            pytest.skip("this user may enter every folder")
        yield folder / "file"
    finally:
        if hasattr(library, "capset"):
            library.capset(header, had)
        folder.chmod(0o700)


@pytest.fixture
def have(bundle_path: Path, checkpoint_path: Path, image_folder: Path) -> dict[str, Path]:
    """What the commands need besides."""
    return {"bundle": bundle_path, "model": checkpoint_path, "data": image_folder}


WAYS: dict[str, tuple[Callable[[dict[str, Path], Path], list[object]], int]] = {
    "bundle": (lambda _, bad: ["run", bad, "test://"], 5),
    "bundle to inspect": (lambda _, bad: ["inspect", bad], 5),
    "bundle to compile": (lambda _, bad: ["compile", bad], 9),
    "bundle to sign": (lambda _, bad: ["sign", bad, "--key", "k"], 5),
    "bundle to check": (lambda _, bad: ["healthcheck", bad], 5),
    "state of a run": (lambda have, bad: ["healthcheck", have["bundle"], "--no-samples", "--within", "0", "--state", bad], 12),
    "state to keep": (lambda have, bad: ["run", have["bundle"], "test://", "--headless", "--state", bad], 9),
    "bundle to deploy": (lambda _, bad: ["deploy", bad, "127.0.0.1"], 5),
    "bundle to run there": (lambda _, bad: ["deploy", bad, "127.0.0.1", "--run", "0"], 5),
    "hosts to deploy to": (lambda have, bad: ["deploy", have["bundle"], "--hosts", bad, "-o", "d"], 2),
    "hosts of a fleet": (lambda _, bad: ["fleet", "status", "--hosts", bad], 2),
    "bundle of a package": (lambda _, bad: ["package", bad, "0", "--as", "container", "--version", "1", "-o", "p"], 5),
    "packages": (lambda have, bad: ["package", have["bundle"], "0", "--as", "container", "--version", "1", "-o", bad], 9),
    "wheels of a package": (
        lambda have, bad: ["package", have["bundle"], "0", "--as", "deb", "--version", "1", "-o", "p", "--wheelhouse", bad], 2,
    ),
    "bundle of a service": (lambda _, bad: ["service", bad, "0", "-o", "u.service"], 5),
    "model": (lambda have, bad: ["build", bad, "--data", have["data"], "--no-cache", "-o", "b"], 3),
    "model to compare": (lambda have, bad: ["compare", bad, "--data", have["data"], "--no-cache"], 3),
    "model to sweep": (lambda have, bad: ["sweep", bad, "--data", have["data"], "--workers", 1, "--no-cache", "-o", "s"], 3),
    "folder of a sweep": (lambda have, bad: ["sweep", have["model"], "--data", have["data"], "--no-cache", "-o", bad], 9),
    "grid": (lambda have, bad: ["sweep", have["model"], "--data", have["data"], "--grid", f"{bad}.toml", "-o", "s"], 2),
    "bundle to profile": (lambda _, bad: ["profile", bad], 5),
    "bundle of the doctor": (lambda _, bad: ["doctor", bad], 5),
    "model to prune": (lambda have, bad: ["prune", bad, "--data", have["data"], "--prune", "0.2", "-o", "p.safetensors"], 3),
    "model to look into": (lambda have, bad: ["attention", bad, next(have["data"].rglob("*.png")), "-o", "a.png"], 3),
    "images": (lambda have, bad: ["build", have["model"], "--data", bad, "--no-cache", "-o", "b"], 4),
    "images to compare on": (lambda have, bad: ["compare", have["bundle"], "--data", bad, "--no-cache"], 4),
    "source of snapshots": (lambda _, bad: ["collect", bad, "-o", "c"], 7),
    "folder of snapshots": (lambda _, bad: ["collect", "test://32x32?frames=3", "-o", bad], 9),
    "bundle that is unsure": (lambda _, bad: ["collect", "test://32x32?frames=3", "-o", "c", "--uncertain", bad], 5),
    "photos": (lambda have, bad: ["train", bad, "--backbone", have["model"], "--no-cache", "-o", "m"], 4),
    "added class": (lambda have, bad: ["train", have["data"], "--backbone", have["model"], f"--add-class=x={bad}", "-o", "m"], 4),
    "backbone": (lambda have, bad: ["train", have["data"], "--backbone", bad, "--no-cache", "-o", "m"], 3),
    "new model": (lambda have, bad: ["train", have["data"], "--backbone", have["model"], "--no-cache", "-o", bad], 9),
    "bundle of other classes": (lambda _, bad: ["classes", bad, "--set", "e.npz", "-o", "c"], 5),
    "model of embeddings": (lambda _, bad: ["embed", bad, "--classes", "a,b", "-o", "e.npz"], 3),
    "embeddings": (lambda have, bad: ["build", have["model"], "--text-embeddings", bad, "--data", have["data"], "-o", "b"], 2),
    "new embeddings": (lambda have, bad: ["embed", have["model"], "--classes", "a,b", "-o", f"{bad}.npz"], 9),
    "features": (lambda have, bad: ["run", have["bundle"], "test://", "--headless", "--features", f"{bad}.npz"], 9),
    "image": (lambda have, bad: ["attention", have["bundle"], bad, "--no-cache", "-o", "a.png"], 4),
    "source": (lambda have, bad: ["run", have["bundle"], bad, "--headless"], 7),
    "source of a service": (lambda have, bad: ["service", have["bundle"], bad, "-o", "u.service"], 7),
    "recipe": (lambda have, bad: ["build", have["model"], "--recipe", f"{bad}.toml", "--data", have["data"], "-o", "b"], 2),
    "target": (lambda have, bad: ["build", have["model"], "--target", f"{bad}.toml", "--data", have["data"], "-o", "b"], 2),
    "labels": (lambda have, bad: ["build", have["model"], "--labels", bad, "--data", have["data"], "-o", "b"], 2),
    "public key": (lambda have, bad: ["run", have["bundle"], "test://", "--require-signature", bad], 2),
    "private key": (lambda have, bad: ["sign", have["bundle"], "--key", bad], 2),
    "new key": (lambda _, bad: ["keygen", bad], 9),
    "new bundle": (lambda have, bad: ["build", have["model"], "--data", have["data"], "--no-cache", "-o", bad], 9),
    "new checkpoint": (lambda have, bad: ["prune", have["model"], "--data", have["data"], "-o", f"{bad}.safetensors"], 9),
    "video": (lambda have, bad: ["run", have["bundle"], "test://", "--headless", "--save", f"{bad}.avi"], 9),
    "results": (lambda have, bad: ["run", have["bundle"], "test://", "--headless", "--jsonl", bad], 9),
    "table": (lambda have, bad: ["run", have["bundle"], "test://", "--headless", "--csv", bad], 9),
    "snapshots": (lambda have, bad: ["run", have["bundle"], "test://", "--headless", "--snapshot", bad], 9),
    "report": (lambda have, bad: ["compare", have["bundle"], "--data", have["data"], "--html", bad], 9),
    "attention maps": (lambda have, bad: ["attention", have["bundle"], next(have["data"].rglob("*.png")), "-o", f"{bad}.png"], 9),
    "unit": (lambda have, bad: ["service", have["bundle"], "0", "-o", bad], 9),
    "deployed": (lambda have, bad: ["deploy", have["bundle"], "127.0.0.1", "-o", bad], 9),
}  # fmt: skip


def test_every_command_is_tried() -> None:
    tried = {way({"data": ROOT / "docs", "model": ROOT, "bundle": ROOT}, ROOT)[0] for name, (way, _) in WAYS.items()
             if "image" not in name and "look" not in name and "attention" not in name}  # fmt: skip
    assert tried | {"attention"} == set(COMMANDS) - {"targets", "demo", "completion"}


def check(way: str, why: str, bad: Path, have: dict[str, Path], edgevit: Callable[..., Outcome]) -> None:
    build, code = WAYS[way]
    outcome = edgevit(*build(have, bad))
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("edgevit: ")]
    assert outcome.code == code, outcome.stderr
    if way in ("labels", "embeddings"):  # click's own line
        assert outcome.stderr.startswith(f"edgevit: --{'labels' if way == 'labels' else 'text-embeddings'}: ")
        return
    assert len(lines) == 1, outcome.stderr
    assert outcome.stderr.endswith(f"{lines[0]}\n")
    assert why in lines[0]
    assert "--debug" not in lines[0]


@pytest.mark.parametrize("way", WAYS)
def test_a_path_that_nobody_may_look_at(
    way: str,
    closed: Path,
    have: dict[str, Path],
    edgevit: Callable[..., Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    check(way, "Permission denied", closed, have, edgevit)


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_is_too_long(
    way: str, have: dict[str, Path], edgevit: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(way, "File name too long", tmp_path / ("n" * 260), have, edgevit)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [("targets",), ("targets", "--json"), ("--help",), ("run", "--help"), ("--version",)])
def test_output_that_nobody_takes(arguments: tuple[str, ...]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", COMMAND, *arguments]
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert done.stderr == (
        "edgevit: standard output: cannot write: No space left on device. Check the path, its permissions and the room there.\n"
    )


@pytest.mark.parametrize(("call", "error"), [
    (open_bundle, BundleError),
    (load, BundleError),
    (load_checkpoint, CheckpointError),
    (load_images, DataError),
    (open_source, SourceError),
    (lambda path: load_target(f"{path}.toml"), ConfigError),
    (lambda path: generate(Path(path)), StorageError),
], ids=["bundle", "load", "checkpoint", "images", "source", "target", "key"])  # fmt: skip
@pytest.mark.parametrize("path", ["a\0b", "n" * 5000], ids=["NUL", "long"])
def test_the_library_raises_its_own(call: Callable[[str], object], error: type[EdgevitError], path: str) -> None:
    pytest.importorskip("cryptography")
    with pytest.raises(error):
        call(path)


@pytest.mark.parametrize("option", ["--data", "--calibration", "--html"])
def test_a_nul_character_is_no_internal_error(edgevit: Callable[..., Any], option: str, bundle_path: Path) -> None:
    """No shell can pass one; a program that calls this one in its own process can."""
    outcome = edgevit("compare", bundle_path, "--data", "x", option, "a\0b")
    assert outcome.code == 2
    assert "NUL" in outcome.stderr


def test_links_in_a_circle(
    edgevit: Callable[..., Outcome], have: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for way, (build, code) in WAYS.items():
        if code != 9 and way not in ("recipe", "target", "labels", "source of a service"):
            outcome = edgevit(*build(have, loop))
            assert outcome.code == code, f"{way}: {outcome.stderr}"


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "no", tmp_path / "file" / "below", tmp_path / "loop"):
        assert looked_at(path, ConfigError) is None


def test_no_memory_is_told_apart_from_what_doctor_finds(
    edgevit: Callable[..., Outcome], bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 1 means that doctor found problems."""

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("edgevit.commands.inspect.open_bundle", full)
    outcome = edgevit("inspect", bundle_path)
    assert outcome.code == StorageError.exit_code
    assert outcome.stderr.startswith("edgevit: not enough memory.")
