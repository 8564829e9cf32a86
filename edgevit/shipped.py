"""Finds the data files that ship with the package: recipes in ``calibration``, boards in ``targets``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from edgevit.errors import ConfigError, did_you_mean
from edgevit.files.bounded import read_bounded
from edgevit.files.paths import is_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).parent
_MOST_BYTES = 2**18
"""Of a TOML file; the longest shipped one has 3 kB."""
_DEEP = re.compile(r"(?:[\w\"'-]+[ \t]*\.[ \t]*){32}")
"""A key like ``a.a.a`` of more parts than any of ours has: tomllib walks all of them anew for each, and keeps each walk."""


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
        text = read_bounded(path, _MOST_BYTES).decode()
        if _DEEP.search(text):
            msg = "its keys are nested too deeply"
            raise ValueError(msg)
        return tomllib.loads(text)
    except RecursionError:
        msg = f"{path}: not a readable TOML file: its values are nested too deeply"
        raise ConfigError(msg) from None
    except (ValueError, OSError) as error:  # also of tomllib, of UTF-8, and of numbers with thousands of digits
        msg = f"{path}: not a readable TOML file: {error}"
        raise ConfigError(msg) from error


def check_keys(path: Path, table: str, found: dict[str, Any], known: set[str]) -> None:
    """Raise ConfigError for a key that nothing reads, with the nearest known one."""
    for key in found:
        if key not in known:
            msg = f"{path}: unknown key {table + '.' if table else ''}{key}. {did_you_mean(key, known)}"
            raise ConfigError(msg)
