"""A program that is run for every event."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from edgevit.errors import ConfigError, EdgevitError
from edgevit.runtime.decide import Decision
from edgevit.runtime.sinks.base import Delivery, Note
from edgevit.runtime.sinks.record import record
from edgevit.runtime.sinks.worker import Worker

TIMEOUT_SECONDS = 30.0
"""A program that runs longer is killed, with all that it started."""
STDERR = 2
KEPT = frozenset({"EDGEVIT_CACHE", "EDGEVIT_REQUIRE_SIGNATURE"})
"""Of edgevit's own variables, those that a program which runs edgevit in its turn should share. All others may hold secrets."""
SUPERVISOR = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"})
"""What systemd tells its service, and nobody else."""


class Command:
    """Runs a program for every event, one at a time, without a shell.

    The program gets the event in its environment and nothing of it in its arguments, so that no label is ever taken for code:
    ``EDGEVIT_LABEL``, ``EDGEVIT_CONFIDENCE`` (0 to 1), ``EDGEVIT_TIME`` (ISO 8601), ``EDGEVIT_FRAME``, ``EDGEVIT_NAME``,
    ``EDGEVIT_CAMERA`` (where sources have names), ``EDGEVIT_EVENT`` (``off`` for a label of a multi-label model that is gone,
    else ``on``) and ``EDGEVIT_JSON`` with all of it. Beside that it has this process's environment, see `inherited`. What it
    prints goes to standard error.
    """

    def __init__(self, command: str, *, note: Note, timeout: float = TIMEOUT_SECONDS) -> None:
        """Find the program. Raises ConfigError if there is none."""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            msg = f"--on-label {command!r}: {error}. Close every quote"
            raise ConfigError(msg) from error
        if not self._words or shutil.which(self._words[0]) is None:
            program = self._words[0] if self._words else ""
            msg = f"--on-label: no program {program!r} here that may be run. There is no shell: for pipes write sh -c '...'"
            raise ConfigError(msg)
        self.delivery = Delivery(name="on-label")
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._worker: Worker[dict[str, Any]] = Worker(self.delivery, self._run, note=note)

    def send(self, decision: Decision) -> None:
        """Queue one event."""
        self._worker.put(record(decision))

    def close(self) -> None:
        """Let the program finish, for seconds; then kill it."""
        self._worker.close()
        if self._process is not None:
            _kill(self._process)

    def _run(self, event: dict[str, Any]) -> None:
        variables = {**inherited(), **environment(event)}
        with subprocess.Popen(
            self._words, env=variables, stdin=subprocess.DEVNULL, stdout=STDERR, start_new_session=True
        ) as self._process:
            try:
                code = self._process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                _kill(self._process)
                msg = f"{self._words[0]} ran for more than {self._timeout:g} s and was killed"
                raise EdgevitError(msg) from None
        self._process = None
        if code:
            msg = f"{self._words[0]} ended with code {code}"
            raise EdgevitError(msg)


def inherited(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a program gets of this process's environment: not edgevit's own, where addresses with passwords are, nor systemd's."""
    own = {name for name in variables if name.startswith("EDGEVIT_")} - KEPT
    return {name: value for name, value in variables.items() if name not in own | SUPERVISOR}


def environment(event: dict[str, Any]) -> dict[str, str]:
    """The variables of an event."""
    values = {
        "EDGEVIT_LABEL": event["label"],
        "EDGEVIT_CONFIDENCE": f"{event['confidence']:.6f}",
        "EDGEVIT_TIME": event["time"],
        "EDGEVIT_FRAME": str(event["frame"]),
        "EDGEVIT_NAME": event["name"],
        "EDGEVIT_EVENT": event.get("event", "on"),
        **({"EDGEVIT_CAMERA": event["camera"]} if "camera" in event else {}),
        "EDGEVIT_JSON": json.dumps(event),
    }
    # An environment holds no zero byte and nothing that UTF-8 does not.
    return {key: value.replace("\0", "").encode("utf-8", "replace").decode() for key, value in values.items()}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that was started in a session of its own, and its children."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
