"""Files of hosts as people have them: a plain list, a configuration of OpenSSH's, an inventory of Ansible's.

Ansible's own program reads its inventories. What they say of a host (address, user, port, key) goes into a configuration for ssh,
in which the host keeps its name; all else is as the user's own configuration has it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from edgevit.deploy.destination import FOLDER, Destination
from edgevit.errors import ConfigError, MissingPackageError
from edgevit.files.bounded import read_bounded
from edgevit.files.fromjson import conform, json_value

LIMIT = 4 * 2**20
MOST = 4096
"""Hosts of a file."""
USERS = Path("~/.ssh/config")
_SECTION = re.compile(r"^\[[^\]\n]+\]\s*(?:[#;].*)?$", re.MULTILINE)
_HOST = re.compile(r"^\s*Host(?:\s+|\s*=\s*)(.*)$", re.IGNORECASE)
_PLAIN = re.compile(r"(?P<address>(?:[^@\s]+@)?(?:\[[0-9A-Fa-f:.]+\]|[^@:\s\[\]]+))(?::(?P<port>\d{1,5}))?", re.ASCII)
"""An address and perhaps a port; IPv6 in brackets."""
_WORD = re.compile(r"[A-Za-z0-9_.:%-]+", re.ASCII)
VARIABLES = {
    "HostName": ("ansible_host", "ansible_ssh_host"),
    "User": ("ansible_user", "ansible_ssh_user"),
    "Port": ("ansible_port", "ansible_ssh_port"),
    "IdentityFile": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
}
"""A setting of ssh's -> Ansible's names for it."""


INSTALL = "pip install 'edgevit[fleet]'"
READ_S = 120


class Group(TypedDict, total=False):
    """As ``ansible-inventory --list`` prints one."""

    hosts: list[str]
    children: list[str]


class _Meta(TypedDict, total=False):
    hostvars: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """What a file names."""

    destinations: tuple[Destination, ...]
    config: str | None = None
    """Text of a configuration for ssh that knows them; None if the user's own does."""
    config_path: Path | None = None
    """Such a configuration that is there already."""


def read_hosts(path: Path, *, group: str | None = None, port: int | None = None, folder: str = FOLDER) -> Hosts:
    """The hosts in the file at ``path``, whatever kind it is; ``group`` of an inventory, ``port`` where it says nothing.

    Raises ConfigError for a file that names none, for a name that cannot be a host's, and for a group in what has none;
    MissingPackageError for an inventory without ansible-core.
    """
    text = _text(path)
    kind = kind_of(path, text)
    if kind != "ansible" and group is not None:
        msg = f"--group {group}: {path} is no inventory of Ansible's, and has no groups. Leave it out."
        raise ConfigError(msg)
    if kind == "ansible":
        found = _inventory(path, group, port, folder)
    elif kind == "openssh":
        found = _openssh(path, text, port, folder)
    else:
        found = Hosts(destinations=tuple(_plain(path, text, port, folder)))
    if not found.destinations:
        where = f" in group {group!r}" if group else ""
        msg = f"--hosts {path}: no host{where} there. Write one user@host a line, or name another file."
        raise ConfigError(msg)
    if len(found.destinations) > MOST:
        msg = f"--hosts {path}: {len(found.destinations)} hosts, and at most {MOST} are taken. Split it."
        raise ConfigError(msg)
    return found


def kind_of(path: Path, text: str) -> Literal["plain", "openssh", "ansible"]:
    """What a file of hosts is, by its name and by how its lines begin."""
    if path.suffix.lower() in (".yml", ".yaml", ".ini") or _SECTION.search(text) or "ansible_" in text:
        return "ansible"
    return "openssh" if any(_HOST.match(line) for line in text.splitlines()) else "plain"


def _text(path: Path) -> str:
    try:
        return read_bounded(path, LIMIT).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"--hosts {path}: cannot be read: {reason}. Name a list of hosts, an ssh config or an Ansible inventory."
        raise ConfigError(msg) from error


def _plain(path: Path, text: str, port: int | None, folder: str) -> list[Destination]:
    found: dict[Destination, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        match = _PLAIN.fullmatch(words[0])
        if len(words) > 1 or match is None or int(match["port"] or 1) not in range(1, 65536):
            msg = f"--hosts {path}: line {number} is no host: {line.strip()[:80]!r}. Write user@host or user@host:port."
            raise ConfigError(msg)
        found[_destination(path, match["address"], int(match["port"]) if match["port"] else port, folder)] = None
    return list(found)


def _openssh(path: Path, text: str, port: int | None, folder: str) -> Hosts:
    """Every name of a ``Host`` line that is no pattern. What it includes is ssh's affair, and not looked into."""
    names: dict[str, None] = {}
    for line in text.splitlines():
        if (match := _HOST.match(line)) is not None:
            try:
                words = shlex.split(match[1], comments=True)
            except ValueError:
                words = match[1].split()
            names |= dict.fromkeys(word for word in words if not set(word) & set("*?!"))
    own = path.resolve() == USERS.expanduser().resolve()
    return Hosts(
        destinations=tuple(_destination(path, name, port, folder) for name in names), config_path=None if own else path.absolute()
    )


def _inventory(path: Path, group: str | None, port: int | None, folder: str) -> Hosts:
    groups, variables = _listed(path)
    if group is not None and group not in groups:
        known = ", ".join(sorted(groups)[:20])
        msg = f"--group {group}: {path} has no such group. It has: {known}."
        raise ConfigError(msg)
    names = _members(groups, group or "all")
    config = "".join(_block(path, name, variables.get(name, {}), port) for name in names)
    return Hosts(
        destinations=tuple(_destination(path, name, None, folder) for name in names),
        config=config + "Match all\n  Include ~/.ssh/config\n",
    )


def _listed(path: Path) -> tuple[dict[str, Group], dict[str, dict[str, Any]]]:
    """Groups, and the variables of hosts, those of their groups among them, as Ansible has them."""
    program = inventory_program()
    if program is None:
        msg = f"--hosts {path}: an inventory takes ansible-inventory, which is not installed. Install it with: {INSTALL}"
        raise MissingPackageError(msg)
    # In a process of its own: Ansible changes Python itself, which others in this one do not survive.
    with tempfile.TemporaryDirectory(prefix="edgevit-") as work:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_LOCAL_TEMP": work, "ANSIBLE_NOCOLOR": "1"}
        command = [program, "-i", str(path.absolute()), "--list"]
        done = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=READ_S)
    try:
        if done.returncode:
            raise ValueError(_complaint(done.stderr.decode("utf-8", "replace")))
        found = conform(json_value(done.stdout), dict[str, Any], "")
        meta = conform(found.pop("_meta", {}), _Meta, "_meta")
        groups = {name: conform(value, Group, name) for name, value in found.items()}
    except ValueError as error:
        msg = f"--hosts {path}: Ansible cannot read it: {error}"
        raise ConfigError(msg) from error
    if "[WARNING]:  * Failed to parse" in (said := done.stderr.decode("utf-8", "replace")) or "Unable to parse" in said:
        msg = f"--hosts {path}: Ansible cannot read it: {_complaint(said)}"
        raise ConfigError(msg)
    return groups, meta.get("hostvars", {})


def inventory_program() -> str | None:
    """``ansible-inventory``: of this Python's environment, else on the path; None if there is none."""
    return shutil.which("ansible-inventory", path=str(Path(sys.executable).parent)) or shutil.which("ansible-inventory")


def _members(groups: dict[str, Group], name: str) -> list[str]:
    """The hosts of a group and of those in it, each once, in order."""
    found: dict[str, None] = {}
    seen, left = {name}, [name]
    while left:
        group = groups.get(left.pop(0), Group())
        found |= dict.fromkeys(group.get("hosts", []))
        fresh = [child for child in group.get("children", []) if child not in seen]
        seen |= set(fresh)
        left += fresh
    return list(found)


def _complaint(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if "parse" in line or "ERROR" in line] or lines or ["it does not say why"]
    return told[0][:300]


def _block(path: Path, name: str, values: dict[str, Any], port: int | None) -> str:
    lines = [f"Host {name}"]
    for setting, names in VARIABLES.items():
        value = next((str(values[each]) for each in names if values.get(each) is not None), "")
        if not value and setting == "Port" and port is not None:
            value = str(port)
        if not value:
            continue
        if setting == "IdentityFile":
            if '"' in value or not value.isprintable() or "{{" in value:
                raise ConfigError(_unusable(path, name, setting, value))
            value = f'"{value}"'
        elif not _WORD.fullmatch(value) or value.startswith("-"):
            raise ConfigError(_unusable(path, name, setting, value))
        lines.append(f"  {setting} {value}")
    return "\n".join(lines) + "\n"


def _unusable(path: Path, name: str, setting: str, value: str) -> str:
    return f"--hosts {path}: {name}: {value[:60]!r} cannot be its {setting}. Write it out there: templates are not filled in."


def _destination(path: Path, address: str, port: int | None, folder: str) -> Destination:
    try:
        return Destination(address=address, port=port, folder=folder)
    except ConfigError as error:
        msg = f"--hosts {path}: {error}"
        raise ConfigError(msg) from error
