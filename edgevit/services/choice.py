"""Which keeper a service has: the one that it was put into, or the best of this machine."""

from __future__ import annotations

import getpass
from contextlib import suppress

from edgevit.errors import ConfigError
from edgevit.files.bounded import read_bounded
from edgevit.files.writing import write_whole
from edgevit.services.keeper import Keeper
from edgevit.services.place import Place
from edgevit.services.supervised import Supervised
from edgevit.services.systemd import BOOTED, NO_SUDO, Systemd, has_user_manager, may_be_root, may_linger

KEPT = "kept-by"
"""In a service's folder: the kind of its keeper."""


def keeper_of(place: Place, password: str | None = None) -> Keeper | None:
    """What keeps the service now; None if it was never put into service."""
    with suppress(OSError):
        kind = read_bounded(place.root / KEPT, 64).decode("ascii", "replace").strip()
        if kind in ("user", "system"):
            return Systemd(place, "user" if kind == "user" else "system", password)
        if kind == Supervised.kind:
            return Supervised(place)
    return None


def choose(place: Place, manager: str, password: str | None = None) -> tuple[Keeper, list[str]]:
    """What is to keep it, and what the user should know of that.

    Raises ConfigError for a system's service where there is no systemd, or no way to become root.
    """
    if manager == "system":
        if not BOOTED.is_dir():
            msg = "there is no systemd. Leave --system out: edgevit's own supervisor keeps the service then"
            raise ConfigError(msg)
        if not may_be_root(password):
            raise ConfigError(NO_SUDO)
        return Systemd(place, "system", password), []
    if not has_user_manager():
        return Supervised(place), [f"no systemd answers for {getpass.getuser()} there"]
    if not may_linger():
        user = getpass.getuser()
        note = f"{user} may not linger, so a unit would end with the session; there: sudo loginctl enable-linger {user}"
        return Supervised(place), [note]
    return Systemd(place, "user"), []


def remember(place: Place, keeper: Keeper) -> None:
    """Note what keeps the service. Raises StorageError."""
    write_whole(place.root / KEPT, keeper.kind)
