"""Services that systemd keeps: in a user's own manager, which needs no root, or in the machine's.

A user's manager outlives the user's last session only if that user may linger, which logind notes as a file.
"""

from __future__ import annotations

import getpass
import grp
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgevit.bundle import open_bundle
from edgevit.device.jetson import detect
from edgevit.device.service import Service, argus_deadlocks, csi_stack, unit
from edgevit.engines import runs_on
from edgevit.errors import ConfigError, StateError
from edgevit.files.own_kinds import UNIT
from edgevit.files.writing import write_whole
from edgevit.services.keeper import STATE, STATES, Status, command
from edgevit.services.place import Place
from edgevit.services.wanted import Wanted

BOOTED = Path("/run/systemd/system")
"""As sd_booted(3) has it."""
LINGER = Path("/var/lib/systemd/linger")
UNITS = Path("/etc/systemd/system")
ANSWERS_S = 90
"""Longer than a unit takes to stop."""
NO_SUDO = "a system's service takes root, and sudo there wants a password. A terminal is asked for it; or leave --system out"


class Systemd:
    """A unit, of a user's manager or of the machine's."""

    def __init__(self, place: Place, manager: Literal["user", "system"], password: str | None = None) -> None:
        self._place, self._password = place, password
        self.kind: str = manager
        self.what = "a systemd user unit" if manager == "user" else "a systemd unit"
        self.state = runtime(manager) / STATES / place.name / STATE

    def install(self, wanted: Wanted) -> list[str]:
        """Write the unit and enable it."""
        text = unit(self._service(wanted))
        if self.kind == "user":
            path = Path.home() / ".config/systemd/user" / self._unit
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text, kind=UNIT)
        else:
            draft = self._place.root / self._unit
            write_whole(draft, text, kind=UNIT)
            self._root("install", "-m", "644", str(draft), str(UNITS / self._unit))
        self._manage("daemon-reload")
        self._manage("enable", "--quiet", self._unit)
        return []

    def start(self) -> None:
        """What failed before is forgotten."""
        self._manage("reset-failed", self._unit, check=False)
        self._manage("start", "--no-block", self._unit)

    def stop(self) -> None:
        """systemd sends SIGINT and waits."""
        self._manage("stop", self._unit)

    def status(self) -> Status:
        """As ``systemctl show`` tells."""
        names = "ActiveState,SubState,NRestarts,Result,ExecMainStatus"
        told = self._ask("show", self._unit, f"--property={names}")
        found = dict(line.partition("=")[::2] for line in told.splitlines())
        restarts = found.get("NRestarts", "")
        count = int(restarts) if restarts.isdecimal() else None
        active = found.get("ActiveState", "")
        if active == "failed":
            return Status(
                condition="failed", restarts=count, why=f"{found.get('Result')}, exit code {found.get('ExecMainStatus')}"
            )
        if active == "active":
            return Status(condition="running", restarts=count)
        return Status(condition="starting" if active in ("activating", "reloading") else "stopped", restarts=count)

    def logs(self, lines: int) -> list[str]:
        """Of the journal, which this user may not be allowed to read."""
        done = subprocess.run(
            ["journalctl", *self._journal(lines), "--output=cat"], capture_output=True, text=True, errors="replace", check=False,
            timeout=60,
        )  # fmt: skip
        if "insufficient permissions" in done.stderr:
            return [
                f"(the journal is closed to {getpass.getuser()}; there: sudo usermod -aG systemd-journal {getpass.getuser()})"
            ]
        return done.stdout.splitlines()[-lines:]

    def following(self, lines: int) -> list[str]:
        """``journalctl --follow``."""
        return ["journalctl", *self._journal(lines), "--output=short-iso", "--follow"]

    def remove(self) -> None:
        """Not enabled any more, and its file gone."""
        self._manage("disable", "--quiet", self._unit, check=False)
        if self.kind == "user":
            (Path.home() / ".config/systemd/user" / self._unit).unlink(missing_ok=True)
        else:
            self._root("rm", "-f", str(UNITS / self._unit))
        self._manage("daemon-reload")

    @property
    def _unit(self) -> str:
        return f"{self._place.name}.service"

    def _journal(self, lines: int) -> list[str]:
        # By its fields, not in a user's own journal: where journals are not kept on disk there is one for all.
        chosen = f"--user-unit={self._unit}" if self.kind == "user" else f"--unit={self._unit}"
        return [chosen, f"--lines={lines}", "--no-pager", "--quiet"]

    def _service(self, wanted: Wanted) -> Service:
        release = self._place.current
        if release is None:
            msg = f"{self._place.root}: nothing is in service there. Deploy a bundle first."
            raise StateError(msg)
        board, csi = detect(), csi_stack(wanted.source, detect())
        known = {group.gr_name for group in grp.getgrall()}
        return Service(
            name=self._place.name,
            command=command(self._place, "run"),
            bundle=self._place.root,
            user=getpass.getuser(),
            groups=tuple(name for name in ("video", "render") if name in known),
            on_gpu=runs_on(open_bundle(release.bundle, None).manifest.engine, "gpu") or board is not None,
            csi=csi,
            restarts_argus=csi == "argus" and argus_deadlocks(board),
            writable=tuple(map(Path, wanted.writable)),
            manager="user" if self.kind == "user" else "system",
            watchdog_s=wanted.watchdog_s,
        )

    def _manage(self, *arguments: str, check: bool = True) -> None:
        if self.kind == "system":
            self._root("systemctl", *arguments, check=check)
            return
        done = _run(["systemctl", "--user", *arguments])
        if done.returncode and check:
            raise StateError(_refused(self.what, done))

    def _ask(self, *arguments: str) -> str:
        return _run(["systemctl", *(["--user"] if self.kind == "user" else []), *arguments]).stdout

    def _root(self, *words: str, check: bool = True) -> None:
        done = as_root(words, self._password)
        if done.returncode and check:
            raise ConfigError(NO_SUDO) if "password" in done.stderr else StateError(_refused(self.what, done))


def as_root(words: Sequence[str], password: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command as root: as whoever is it already, or through sudo, which reads ``password`` on its standard input."""
    if os.geteuid() == 0:
        return _run(words)
    if password is None:
        return _run(["sudo", "-n", "--", *words])
    return _run(["sudo", "-S", "-p", "", "--", *words], f"{password}\n")


def may_be_root(password: str | None) -> bool:
    """Whether `as_root` works."""
    try:
        return as_root(["true"], password).returncode == 0
    except StateError:
        return False


def has_user_manager() -> bool:
    """Whether systemd runs here, and this user has a manager of its own that answers."""
    if not BOOTED.is_dir():
        return False
    try:
        return _run(["systemctl", "--user", "show-environment"]).returncode == 0
    except StateError:
        return False


def may_linger() -> bool:
    """Have this user's manager outlive the last session, if that is allowed; whether it does."""
    mark = LINGER / getpass.getuser()
    for words in (["loginctl", "enable-linger"], ["sudo", "-n", "loginctl", "enable-linger", getpass.getuser()]):
        if mark.exists():
            return True
        try:
            _run(words)
        except StateError:
            continue
    return mark.exists()


def runtime(manager: str) -> Path:
    """What ``%t`` is in a unit."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") if manager == "user" else Path("/run")


def _run(words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    # A session over ssh may have no folder of logind's in its environment, though there is one.
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime("user")), "LC_ALL": "C"}
    try:
        return subprocess.run(
            list(words),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=ANSWERS_S,
            env=environment,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        msg = f"{words[0]} is not there, or does not answer: {error}. See what systemd does there: systemctl status."
        raise StateError(msg) from error


def _refused(what: str, done: subprocess.CompletedProcess[str]) -> str:
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return f"{what}: {said[-1] if said else f'exit code {done.returncode}'}. See there: systemctl status."
