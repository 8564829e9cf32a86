"""Making the test bed: once for all who want it, and nothing else is touched. pip and cc are played."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.tensorrt import testbed


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that pip was asked to fill."""
    asked: list[Path] = []

    def run(command: list[str], **_: object) -> None:
        if "pip" in command:
            folder = Path(command[command.index("--target") + 1])
            (folder / testbed.RTX).mkdir(parents=True)
            for stem in ("libtensorrt_rtx", "libtensorrt_onnxparser_rtx"):
                (folder / testbed.RTX / f"{stem}.so.1.7.1").touch()
            asked.append(folder)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_made_once(tmp_path: Path, installs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert testbed.make(tmp_path / "bed") == testbed.make(tmp_path / "bed") == tmp_path / "bed"
    assert len(installs) == 1
    monkeypatch.setattr(testbed, "PACKAGES", (*testbed.PACKAGES, "another==1"))
    testbed.make(tmp_path / "bed")
    assert len(installs) == 2
    assert not [path for path in tmp_path.iterdir() if path.name not in ("bed", ".bed.lock")]


def test_two_at_once_make_one(tmp_path: Path, installs: list[Path]) -> None:
    threads = [threading.Thread(target=testbed.make, args=(tmp_path / "bed",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(installs) == 1
    assert (tmp_path / "bed" / "complete").is_file()


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="no index")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(subprocess.CalledProcessError):
        testbed.make(tmp_path / "bed")
    assert [path.name for path in tmp_path.iterdir()] == [".bed.lock"]


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path, installs: list[Path]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="has something else in it"):
        testbed.make(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert installs == []


@pytest.mark.parametrize(
    ("name", "value", "reason"), [("platform", "darwin", "x86-64 Linux"), ("version_info", (3, 9), "CPython")]
)
def test_why_not(monkeypatch: pytest.MonkeyPatch, name: str, value: object, reason: str) -> None:
    monkeypatch.setattr(sys, name, value)
    assert reason in (testbed.unsupported() or "")
