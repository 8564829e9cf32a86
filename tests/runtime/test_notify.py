"""The service manager hears of the first label, of those that follow, and of the end: over a real socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgevit.runtime.notify import Notifier, open_notifier
from tests.runtime.fakes import prediction, result
from tests.support import COMMAND, python

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd is Linux's")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket where systemd's would be."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0.05)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    """Everything that was said until now."""
    messages = []
    try:
        while True:
            messages.append(manager.recv(4096).decode())
    except TimeoutError:
        return messages


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_ready_at_the_first_label(manager: socket.socket) -> None:
    """Not when the process starts: a camera that gives nothing is not up."""
    notifier = Notifier(manager.getsockname(), None)
    assert heard(manager) == []
    for _ in range(3):
        assert notifier(result()) is True
    notifier.close()
    notifier.close()
    assert heard(manager) == ["READY=1\nSTATUS=first label: dark", "STOPPING=1"]


def test_heartbeat(manager: socket.socket) -> None:
    """With results, at half the interval at the most; a silence of results is a silence here."""
    clock = Clock()
    notifier = Notifier(manager.getsockname(), 10.0, clock)
    beats = {}
    for clock.seconds in (0, 1, 4.9, 5, 5.1, 9.9, 10, 60):
        notifier(result())
        beats[clock.seconds] = [message for message in heard(manager) if message == "WATCHDOG=1"]
    assert [seconds for seconds, beat in beats.items() if beat] == [0, 5, 10, 60]
    notifier.close()


def test_abstract_address() -> None:
    """Linux's sockets without a file."""
    name = f"edgevit-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(0.2)
        notifier = open_notifier({"NOTIFY_SOCKET": f"@{name}"})
        assert notifier is not None
        notifier(result())
        notifier.close()
        assert heard(listening)[-1] == "STOPPING=1"


def test_manager_that_does_not_read(manager: socket.socket) -> None:
    """Its queue is full after some messages, and classifying goes on without a pause."""
    notifier = Notifier(manager.getsockname(), 1e-9)
    start = time.monotonic()
    for _ in range(5000):
        notifier(result())
    assert time.monotonic() - start < 5
    notifier.close()


def test_manager_that_is_gone(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "nobody"), 1.0)
    assert notifier(result()) is True
    notifier.close()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}, {"WATCHDOG_USEC": "1"}])
def test_without_a_manager(environment: dict[str, str]) -> None:
    assert open_notifier(environment) is None


@pytest.mark.parametrize(
    ("environment", "beats"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 1),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 1),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),  # it watches another process
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({}, 0),
    ],
)
def test_watchdog_of_the_environment(environment: dict[str, str], beats: int, manager: socket.socket) -> None:
    notifier = open_notifier({"NOTIFY_SOCKET": manager.getsockname(), **environment})
    assert notifier is not None
    notifier(result())
    notifier.close()
    assert heard(manager).count("WATCHDOG=1") == beats


def test_run_as_a_service(bundle_path: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command: ready, then alive every tenth of a second, then stopping."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with python(COMMAND, "run", bundle_path, "test://64x48@50?frames=50", "--headless", "--no-telemetry") as process:
        messages = []
        while process.poll() is None:  # its queue holds ten messages only
            messages += heard(manager)
    assert process.returncode == 0
    messages += heard(manager)
    assert messages[0].startswith("READY=1\nSTATUS=first label: ")
    assert messages[-1] == "STOPPING=1"
    assert 5 <= len(messages[1:-1]) <= 11  # of a second's frames
    assert set(messages[1:-1]) == {"WATCHDOG=1"}


@pytest.mark.parametrize(
    ("label", "status"),
    [
        ("x\nMAINPID=1\nSTOPPING=1", "x"),
        ("x\rSTOPPING=1", "x"),
        ("x\u2028STOPPING=1\x85FDSTORE=1", "x"),
        ("\x1b[2Jx\x00y", "\\x1b[2Jx\\x00y"),
        ("\nSTOPPING=1", ""),
        ("", ""),
        ("\ud800", "\\ud800"),
        ("x" * 10**6, "x" * 100),
    ],
)
def test_label_is_one_field_and_no_more(manager: socket.socket, label: str, status: str) -> None:
    """A bundle must not tell the manager that its service is stopping, nor keep it from hearing that it is up."""
    notifier = Notifier(manager.getsockname(), None)
    notifier(result(predictions=(prediction(label),)))
    assert heard(manager) == [f"READY=1\nSTATUS=first label: {status}"]
    notifier.close()
