"""Finds the data files that ship with the package: recipes in ``calibration``, boards in ``targets``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgevit.errors import ConfigError, did_you_mean
from edgevit.paths import is_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).parent


def shipped_dir(kind: str) -> Path:
    """Folder ``kind`` in the installed wheel, else in the checkout (editable installs)."""
    packaged = _PACKAGE / "_data" / kind
    return packaged if packaged.is_dir() else _PACKAGE.parent / kind


def shipped_names(kind: str) -> tuple[str, ...]:
    """Names of the TOML files in ``kind``, sorted: what the command line accepts."""
    return tuple(sorted(path.stem for path in shipped_dir(kind).glob("*.toml")))


def find_toml(kind: str, name: str) -> Path:
    """The file of a shipped ``name``, or ``name`` itself if it is a path to a TOML file.

    Raises ConfigError with the nearest known name.
    """
    if name in shipped_names(kind):
        return shipped_dir(kind) / f"{name}.toml"
    path = Path(name)
    if path.suffix == ".toml" and is_file(path, ConfigError):
        return path
    reason = "no such file" if path.suffix == ".toml" else did_you_mean(name, shipped_names(kind))
    msg = f"{name}: not in {kind}/ and not a TOML file: {reason}"
    raise ConfigError(msg)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises ConfigError naming file, line and cause."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        msg = f"{path}: not a readable TOML file: {error}"
        raise ConfigError(msg) from error


def check_keys(path: Path, table: str, found: dict[str, Any], known: set[str]) -> None:
    """Raise ConfigError for a key that nothing reads, with the nearest known one."""
    for key in found:
        if key not in known:
            msg = f"{path}: unknown key {table + '.' if table else ''}{key}. {did_you_mean(key, known)}"
            raise ConfigError(msg)
