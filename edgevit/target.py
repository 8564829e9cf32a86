"""A target: the device a bundle is for, and the engine that runs it there. One TOML file each."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

from edgevit.errors import ConfigError
from edgevit.shipped import check_keys, find_toml, read_toml

PRECISIONS = ("fp32", "int8")


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
    description, precisions, engines = data.get("description"), data.get("precisions"), data.get("engine")
    for key, fits, form in (
        ("description", isinstance(description, str), "a line of text"),
        ("precisions", _is_list_of_precisions(precisions), f"a list of some of {', '.join(PRECISIONS)}"),
        ("engine", _is_table_of_engines(engines), "a table of engine names by machine type, with a default"),
    ):
        if not fits:
            found = repr(data[key]) if key in data else "missing"
            msg = f"{path}: {key} must be {form}, and is {found}. See targets/README.md."
            raise ConfigError(msg)
    return Target(name=path.stem, description=data["description"], precisions=tuple(data["precisions"]), engines=data["engine"])


def _is_list_of_precisions(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(item in PRECISIONS for item in value)


def _is_table_of_engines(value: object) -> bool:
    return isinstance(value, dict) and "default" in value and all(isinstance(name, str) for name in value.values())
