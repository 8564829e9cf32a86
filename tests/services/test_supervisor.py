"""The supervisor with real processes: started anew, watched, ended, its log bounded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.services import supervisor as module
from edgevit.services.supervisor import Log, Supervisor
from tests.support import ROOT

READY = """
import os, socket, sys, time
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(text, os.environ["NOTIFY_SOCKET"])
"""


class Kept:
    """A supervisor on a thread, and what it told."""

    def __init__(self, folder: Path, command: list[str], watchdog_s: float = 30.0) -> None:
        self.told: list[tuple[str, int]] = []
        self.log = folder / "log"
        self._supervisor = Supervisor(
            command, dict(os.environ), Log(self.log), socket_path=folder / "notify", watchdog_s=watchdog_s,
            tell=lambda condition, restarts: self.told.append((condition, restarts)), first_s=0.05,
        )  # fmt: skip
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.code = self._supervisor.run()

    def stop(self) -> None:
        self._supervisor.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def until(self, right: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not right():
            assert time.monotonic() < end, (self.told, self.log.read_text() if self.log.exists() else "")
            time.sleep(0.02)


def python(script: str) -> list[str]:
    return [sys.executable, "-c", READY + script]


def test_it_starts_anew_what_fails(tmp_path: Path) -> None:
    kept = Kept(tmp_path, ["sh", "-c", "echo said; exit 6"])
    kept.until(lambda: ("starting", 2) in kept.told)
    kept.stop()
    assert kept.code == 0
    assert kept.told[-1][0] == "stopped"
    text = kept.log.read_text()
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} said$", text, re.MULTILINE)
    assert "ended with exit code 6; starts again in 0.05 s" in text
    assert "starts again in 0.1 s" in text  # twice as long each time


@pytest.mark.parametrize(("code", "told"), [(0, "stopped"), (130, "stopped"), (5, "failed: exit code 5")])
def test_it_ends_with_what_no_restart_changes(code: int, told: str, tmp_path: Path) -> None:
    kept = Kept(tmp_path, ["sh", "-c", f"exit {code}"])
    kept.thread.join(30)
    assert kept.told[-1] == (told, 0)
    assert kept.code == (5 if code == 5 else 0)


def test_the_run_says_that_it_is_up(tmp_path: Path) -> None:
    kept = Kept(tmp_path, python('assert os.environ["WATCHDOG_USEC"] == "7000000"\ntell(b"READY=1")\ntime.sleep(60)'), 7.0)
    kept.until(lambda: ("running", 0) in kept.told)
    kept.stop()
    assert (kept.told[-1], kept.code) == (("stopped", 0), 0)


def test_a_run_that_falls_silent_is_started_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path, python('tell(b"READY=1")\ntime.sleep(60)'), watchdog_s=0.3)
    kept.until(lambda: ("running", 1) in kept.told)
    kept.stop()
    assert "no label for 0.3 s: it is ended" in kept.log.read_text()


def test_the_run_ends_as_by_ctrl_c(tmp_path: Path) -> None:
    script = 'tell(b"READY=1")\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print("the summary")'
    kept = Kept(tmp_path, python(f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{script}"))
    kept.until(lambda: ("running", 0) in kept.told)
    kept.stop()
    assert "the summary" in kept.log.read_text()


def test_one_that_does_not_end_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOPPING_S", 0.3)
    kept = Kept(tmp_path, ["sh", "-c", "trap '' INT; sleep 4711 & echo child $!; while :; do sleep 0.05; done"])
    kept.until(lambda: kept.log.exists() and "child" in kept.log.read_text())
    kept.stop()
    text = kept.log.read_text()
    assert "does not end within 0.3 s: it is killed" in text
    child = int(re.findall(r"child (\d+)", text)[0])
    end = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", most=2000)
    for number in range(200):
        log.write(f"line {number}".encode() + b" \r\n")
    log.write(b"\xff\xfe")
    sizes = [path.stat().st_size for path in (tmp_path / "log", tmp_path / "log.1")]
    assert max(sizes) < 2100
    assert b"line 199\n" in (tmp_path / "log").read_bytes() + (tmp_path / "log.1").read_bytes()
    Log(tmp_path / "none" / "log").write(b"lost, and nothing breaks")


def test_there_are_not_two_runs_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """The kernel ends its run."""
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from edgevit.services.supervisor import end_with_supervisor
end_with_supervisor()
print("child", os.getpid(), flush=True); tell(b"READY=1"); time.sleep(60)
"""
    parent = f"""
import os, sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from edgevit.services.supervisor import Log, Supervisor
folder = Path({str(tmp_path)!r})
command = [sys.executable, "-c", {READY + script!r}]
Supervisor(command, dict(os.environ), Log(folder / "log"), socket_path=folder / "notify", watchdog_s=30).run()
"""
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        end = time.monotonic() + 30
        while not (tmp_path / "log").exists() or "child" not in (tmp_path / "log").read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        child = int((tmp_path / "log").read_text().split()[-1])
        process.send_signal(signal.SIGKILL)
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < end + 10
        time.sleep(0.05)
