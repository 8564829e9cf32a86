"""Files that never end, wait for ever or are made to flood: refused by every reader, in no time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.deploy import talking
from edgevit.deploy.talking import FloodError, communicate
from edgevit.errors import ConfigError
from edgevit.files.bounded import open_regular, read_bounded
from edgevit.shipped import read_toml
from tests.fuzz.limits import limited
from tests.support import Outcome


def test_a_file_within_bounds(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_bounded(tmp_path / "f", 5) == b"12345"
    with pytest.raises(OSError, match="longer than 4 bytes"):
        read_bounded(tmp_path / "f", 4)


def test_a_link(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    (tmp_path / "link").symlink_to("f")
    assert read_bounded(tmp_path / "link", 1) == b"1"
    with pytest.raises(OSError, match="it is a link"):
        open_regular(tmp_path / "link", follow=False)


READERS: dict[str, Callable[[Path, Path, Path], list[object]]] = {
    "bundle": lambda file, _model, _bundle: ["inspect", file],
    "checkpoint": lambda file, _model, _bundle: ["build", file, "--dry-run"],
    "labels": lambda file, model, _bundle: ["build", model, "--dry-run", "--labels", file],
    "recipe": lambda file, model, _bundle: ["build", model, "--dry-run", "--recipe", file],
    "target": lambda file, model, _bundle: ["build", model, "--dry-run", "--target", file],
    "data": lambda file, model, _bundle: ["build", model, "--dry-run", "--data", file],
    "public key": lambda file, _model, bundle: ["inspect", bundle, "--require-signature", file],
    "private key": lambda file, _model, bundle: ["sign", bundle, "--key", file],
    "picture": lambda file, _model, bundle: ["attention", bundle, file],
    "source": lambda file, _model, bundle: ["run", bundle, file, "--headless"],
}
NAMES = {"recipe": "x.toml", "target": "x.toml", "data": "x.npz", "picture": "x.png", "labels": "x.txt", "checkpoint": "x.pt"}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "video"])
def test_what_is_no_file_is_refused_at_once(
    reader: str, kind: str, edgevit: Callable[..., Outcome], checkpoint_path: Path, bundle_path: Path, tmp_path: Path
) -> None:
    if reader in ("public key", "private key"):
        pytest.importorskip("cryptography")
    path = tmp_path / ("x.mp4" if kind == "video" else NAMES.get(reader, "x"))
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        subprocess.run(
            [sys.executable, "-c", f"import socket; socket.socket(socket.AF_UNIX).bind({path.name!r})"], cwd=tmp_path, check=True
        )
    else:
        os.mkfifo(path)
    with limited(10):
        outcome = edgevit(*READERS[reader](path, checkpoint_path, bundle_path))
    assert outcome.code in (2, 3, 4, 5, 7)
    assert sum(line.startswith(("edgevit:", "Error:")) for line in outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [".".join("a" * 50_000) + " = 1", "[" + ".".join("a" * 50_000) + "]", "a = " + "[" * 50_000, "a = " + "9" * 5000,
     "a = " + '{"b" = ' * 20_000, '"a" . ' * 10_000 + "b = 1", "#" * (2**18 + 1)],
    ids=["key", "table", "list", "number", "inline", "quoted", "long"],
)  # fmt: skip
def test_toml_that_is_made_to_take_all(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with limited(5, 2**28), pytest.raises(ConfigError, match="not a readable TOML file") as caught:
        read_toml(tmp_path / "x.toml")
    assert "\n" not in str(caught.value)


def started(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_conversation() -> None:
    """More in and out than a pipe holds, so that neither side waits for the other."""
    text = "ä" * 300_000
    with started("import sys; t = sys.stdin.read(); print(t); print(len(t), file=sys.stderr)") as process:
        assert communicate(process, text, 30) == (text + "\n", "300000\n")
    assert process.returncode == 0


def test_one_that_does_not_listen() -> None:
    with started("import sys; sys.stdin.close(); print('no')") as process:
        assert communicate(process, "a" * 10**6, 30) == ("no\n", "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_one_that_never_stops(stream: str) -> None:
    """An endless answer costs what is kept of it, and no more."""
    with (
        started(f"import sys\nwhile True: sys.{stream}.write('a' * 65536)") as process,
        limited(30, 2**28),
        pytest.raises(FloodError),
    ):
        communicate(process, "", None)
    assert process.returncode is not None
    assert talking.MOST_BYTES == 16 * 2**20


def test_one_that_says_nothing() -> None:
    with started("import time; time.sleep(60)") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            communicate(process, "", 0.3)
        process.kill()
