"""Snapshots and commands, on real files and real processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgevit.errors import ConfigError, StorageError
from edgevit.runtime.sinks import worker
from edgevit.runtime.sinks.command import Command
from edgevit.runtime.sinks.condition import Gate, parse_condition
from edgevit.runtime.sinks.events import Events
from edgevit.runtime.sinks.snapshot import Snapshots, file_name
from tests.runtime.fakes import Notes, decision, eventually, frame


def python(code: str, *arguments: str) -> str:
    """A command line that runs some Python."""
    return shlex.join([sys.executable, "-S", "-c", code, *arguments])


# --- snapshots -------------------------------------------------------------------------------------------------------


def test_snapshot_is_the_frame_as_it_came(tmp_path: Path) -> None:
    with closing(Snapshots(tmp_path / "new" / "folder", limit=10, note=Notes())) as sink:
        sink.send(decision("a/b: ü", 0.93, frame=frame(level=77, captured=time.perf_counter())))
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-a_b_ü-0\.93\.jpg", path.name)
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (12, 16, 3)
    assert np.abs(image.astype(int) - 77).max() <= 1
    assert sink.delivery.sent == 1


@pytest.mark.parametrize("label", ["", "..", "../../etc/passwd", "a\0b", "x" * 1000, "\n", "日本", "-rf"])
def test_no_label_leaves_the_folder(label: str) -> None:
    name = file_name(decision(label))
    assert "/" not in name
    assert "\0" not in name
    assert name[0].isdigit()
    assert len(name.encode()) < 255


def test_folder_takes_no_more_than_its_limit_counting_earlier_runs(tmp_path: Path) -> None:
    (tmp_path / "old.jpg").touch()
    notes = Notes()
    with closing(Snapshots(tmp_path, limit=3, note=notes)) as sink:
        for i in range(4):
            sink.send(decision("a", frame=frame(captured=float(i))))
    assert len(list(tmp_path.iterdir())) == 3
    assert (sink.delivery.sent, sink.delivery.failed) == (2, 2)
    assert notes == [
        f"snapshots: {tmp_path} holds 3 pictures, the limit; move some away, or raise --snapshot-limit. The run goes on"
    ]


def test_nearly_full_disk_takes_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the number of free bytes is made up."""
    monkeypatch.setattr("shutil.disk_usage", lambda _path: namedtuple("usage", "free")(10**6))
    with closing(Snapshots(tmp_path, limit=3, note=Notes())) as sink:
        sink.send(decision("a"))
    assert not list(tmp_path.iterdir())
    assert "the disk is full: 1 MiB free" in sink.delivery.line()


def test_folder_that_is_gone_is_a_failure_not_an_end(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    sink = Snapshots(folder, limit=3, note=Notes())
    folder.rmdir()
    sink.send(decision("a"))
    sink.close()
    assert sink.delivery.failed == 1


def test_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot make this folder"):
        Snapshots(tmp_path / "file" / "folder", limit=3, note=Notes())


# --- commands --------------------------------------------------------------------------------------------------------


def test_command_reads_the_event_in_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code = "import json, os, sys; json.dump({k: v for k, v in os.environ.items() if k[:8] == 'EDGEVIT_'}, open(sys.argv[1], 'w'))"
    with closing(Command(python(code, str(out)), note=Notes())) as sink:
        sink.send(decision("crack", 0.875, frame=frame(index=7, name="v.mp4")))
    got = json.loads(out.read_text())
    assert (got["EDGEVIT_LABEL"], got["EDGEVIT_CONFIDENCE"]) == ("crack", "0.875000")
    assert (got["EDGEVIT_FRAME"], got["EDGEVIT_NAME"]) == ("7", "v.mp4")
    event = json.loads(got["EDGEVIT_JSON"])
    assert event["label"] == "crack"
    assert event["time"] == got["EDGEVIT_TIME"]
    assert sink.delivery.sent == 1


@pytest.mark.parametrize("label", ["$(touch {0})", "`touch {0}`", "; touch {0} ;", "' && touch {0} '", "a\0b", "\ud800", "日本"])
def test_no_label_is_ever_code(tmp_path: Path, label: str) -> None:
    """Not in the program's arguments, where a shell that the user wrote would read it."""
    evil, seen = tmp_path / "evil", tmp_path / "seen"
    label = label.format(evil)
    with closing(Command(f"sh -c 'printf %s \"$EDGEVIT_LABEL\" > {seen}'", note=Notes())) as sink:
        sink.send(decision(label))
    assert sink.delivery.sent == 1, sink.delivery.line()
    assert not evil.exists()
    assert seen.read_bytes() == label.replace("\0", "").encode("utf-8", "replace")


def test_there_is_no_shell(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = python("import sys; open(sys.argv[1], 'w').write(' '.join(sys.argv[2:]))", str(out))
    with closing(Command(f"{command} > '$HOME' {{label}}", note=Notes())) as sink:
        sink.send(decision("crack"))
    assert out.read_text() == "> $HOME {label}"


def test_command_that_fails_is_said_with_its_code(tmp_path: Path) -> None:
    notes = Notes()
    with closing(Command("false", note=notes)) as sink:
        sink.send(decision())
    assert notes == ["on-label: false ended with code 1. The run goes on"]
    assert sink.delivery.failed == 1


def test_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "pid"
    with closing(Command(f"sh -c 'sleep 60 & echo $! > {child}; wait'", note=Notes(), timeout=0.5)) as sink:
        sink.send(decision())
        eventually(lambda: sink.delivery.failed)
    assert "ran for more than 0.5 s and was killed" in sink.delivery.line()
    pid = int(child.read_text())
    eventually(lambda: not running(pid))


def test_hanging_command_does_not_stall_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.Worker.close, "__defaults__", (0.3,))
    child = tmp_path / "pid"
    sink = Command(f"sh -c 'echo $$ > {child}; exec sleep 60'", note=Notes())
    for _ in range(3):
        sink.send(decision())
    pid = eventually(lambda: child.exists() and child.read_text().strip())
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < 5
    eventually(lambda: not running(int(pid)))
    assert (sink.delivery.sent, sink.delivery.dropped) == (0, 3)


@pytest.mark.parametrize(
    ("command", "message"),
    [("", "no program ''"), ("no-such-program --now", "no program 'no-such-program'"), ("sh -c 'x", "quote")],
)
def test_command_that_cannot_run_is_refused_at_once(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Command(command, note=Notes())


# --- all together ----------------------------------------------------------------------------------------------------


def test_only_events_reach_the_receivers(tmp_path: Path) -> None:
    gate = Gate([parse_condition("label=crack", ("crack", "ok"))], every=0)
    with closing(Events(gate, [snapshots := Snapshots(tmp_path, limit=100, note=Notes())])) as sink:
        for i, label in enumerate(("ok", "crack", "ok", "crack")):
            assert sink(decision(label, frame=frame(captured=float(i))))
    assert snapshots.delivery.sent == 2
    assert len(list(tmp_path.glob("*-crack-*.jpg"))) == 2


def running(pid: int) -> bool:
    """Whether a process is there and not only waited for."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text() and os.kill(pid, 0) is None
    except OSError:
        return False


def test_program_inherits_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of edgevit's own variables only those that a program which runs edgevit should share, and nothing of systemd's."""
    for name in (
        "EDGEVIT_WEBHOOK",
        "EDGEVIT_MQTT",
        "EDGEVIT_SERVE_TOKEN",
        "EDGEVIT_WHAT_COMES_NEXT",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
    ):
        monkeypatch.setenv(name, "hunter2Z")
    for name in ("EDGEVIT_CACHE", "EDGEVIT_REQUIRE_SIGNATURE", "MY_OWN"):
        monkeypatch.setenv(name, "kept")
    out = tmp_path / "out.json"
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    with closing(Command(python(code, str(out)), note=Notes())) as sink:
        sink.send(decision("crack"))
    got = json.loads(out.read_text())
    assert "hunter2Z" not in json.dumps(got)
    assert {name for name, value in got.items() if value == "kept"} == {"EDGEVIT_CACHE", "EDGEVIT_REQUIRE_SIGNATURE", "MY_OWN"}
    assert got["EDGEVIT_LABEL"] == "crack"
    assert got["PATH"] == os.environ["PATH"]
