"""What keeps a service running, whatever it is: this protocol is all that the rest knows of it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from edgevit.services.place import Place
from edgevit.services.wanted import Wanted

Condition = Literal["running", "starting", "stopped", "failed"]
STATES, STATE = "edgevit", "state.json"
"""As in `edgevit.device.service`."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a service is."""

    condition: Condition
    """``failed``: it ended by itself, and is not started again."""
    restarts: int | None = None
    """How often it was started anew since it was last asked for."""
    why: str = ""
    """Of a service that failed, in a few words."""


class Keeper(Protocol):
    """Raises StateError where the manager refuses, ConfigError where it takes rights that are not there."""

    kind: str
    """``user``, ``system`` or ``supervisor``."""
    what: str
    """For people."""
    state: Path
    """The file that the run keeps up to date."""

    def install(self, wanted: Wanted) -> list[str]:
        """Have the service known, and started with the machine; what the user should know, a line each."""
        ...

    def start(self) -> None:
        """Start it, and do not wait until it is up."""
        ...

    def stop(self) -> None:
        """End it as Ctrl-C does, and wait for that."""
        ...

    def status(self) -> Status:
        """How it is now."""
        ...

    def logs(self, lines: int) -> list[str]:
        """The last ``lines`` that it said."""
        ...

    def following(self, lines: int) -> list[str]:
        """The command that prints these, and goes on printing."""
        ...

    def remove(self) -> None:
        """Forget the service; it is stopped."""
        ...


def command(place: Place, verb: str) -> tuple[str, ...]:
    """What runs ``verb`` of `edgevit.cli.board` for a service, without a secret in it. Of the installation there."""
    return (str(place.folder / "venv/bin/python"), "-m", "edgevit.cli.board", verb, str(place.folder), place.name)


def runtime_folder() -> Path | None:
    """This user's folder in memory: logind's, else one below /dev/shm that nobody else has made; None if there is none."""
    made = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    if made.is_dir() and os.access(made, os.W_OK):
        return made
    shared = Path(f"/dev/shm/edgevit-{os.getuid()}")
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        found = shared.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return shared if ours else None
