"""Where to deploy to: a host as ssh names it, and a folder there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevit.errors import ConfigError

FOLDER = "edgevit"
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?)")

_WITH_PORT = re.compile(r"([^:\[\]]+|[^\[\]]*\[[^\[\]]+\]):(\d{1,5})")
"""HOST:PORT, and [IPv6]:PORT; an IPv6 address alone has more than one colon."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """One machine. Raises ConfigError for what ssh, or a shell on the way, might take for something else."""

    address: str
    """``user@host``, ``host`` or a name of the user's ssh config."""
    port: int | None = None
    """None is what the user's ssh config says."""
    folder: str = FOLDER
    """On the host; relative to the home folder there. All that is deployed lies in it."""

    def __post_init__(self) -> None:
        if match := _WITH_PORT.fullmatch(self.address):
            msg = f"{self.address!r} is no destination of ssh: the port is an option. Write {match[1]} --port {match[2]}"
            raise ConfigError(msg)
        if not _ADDRESS.fullmatch(self.address):
            msg = f"{self.address!r} is no destination: write user@host, or a name of your ssh config; --port for another port."
            raise ConfigError(msg)
        if not self.folder or self.folder.startswith(("-", "~")) or not self.folder.isprintable():
            msg = f"--dir {self.folder!r}: name a folder on the host, relative to the home folder there, or from /."
            raise ConfigError(msg)

    @property
    def ssh(self) -> str:
        """As ssh takes it: no brackets around IPv6."""
        return self.address.replace("[", "").replace("]", "")

    @property
    def rsync(self) -> str:
        """As rsync takes it: brackets around IPv6."""
        user, at, host = self.ssh.rpartition("@")
        return f"{user}{at}[{host}]" if ":" in host else self.ssh

    @property
    def name(self) -> str:
        """What its folder of results is called."""
        port = f"-{self.port}" if self.port else ""
        return re.sub(r"[^A-Za-z0-9._@-]", "_", self.ssh) + port
