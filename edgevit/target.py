"""A target: the device a bundle is for, and the engine that runs it there. One TOML file each."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

from edgevit.errors import ConfigError
from edgevit.shipped import check_keys, find_toml, read_toml


@dataclass(frozen=True, kw_only=True)
class Target:
    """One device. ``engines`` maps a machine type (``x86_64``, ``default``) to an engine's name."""

    name: str
    description: str
    precisions: tuple[str, ...]
    engines: dict[str, str]

    def engine(self, machine: str | None = None) -> str:
        """Name of the engine for a machine type, as ``platform.machine()`` names it; None is this one."""
        return self.engines.get(machine or platform.machine(), self.engines["default"])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def load_target(name: str) -> Target:
    """Load a shipped target by name, or a target file by path. Raises ConfigError."""
    path = find_toml("targets", name)
    data = read_toml(path)
    check_keys(path, "", data, {"description", "precisions", "engine"})
    try:
        engines = {str(machine): str(engine) for machine, engine in data["engine"].items()}
        engines["default"]
        return Target(name=path.stem, description=data["description"], precisions=tuple(data["precisions"]), engines=engines)
    except (KeyError, AttributeError, TypeError) as error:
        msg = f"{path}: missing or malformed key: {error}. See targets/README.md for the keys."
        raise ConfigError(msg) from error
