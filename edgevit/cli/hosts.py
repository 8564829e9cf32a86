"""The options that say which hosts, and how to reach them; shared by ``deploy`` and ``fleet``."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgevit.errors import ConfigError

if TYPE_CHECKING:
    from edgevit.deploy.destination import Destination

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--hosts",
        "hosts_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Hosts, in a list of one a line, an ssh config, or an inventory of Ansible's (INI or YAML).",
    ),
    click.option("--group", help="Of the inventory; all of its hosts by default."),
    click.option("--port", type=click.IntRange(1, 65535), help="Of ssh; what your ssh config says by default."),
    click.option(
        "--dir", "folder", default="edgevit", show_default=True, help="Folder on the host, below the home folder there."
    ),
    click.option(
        "--ssh", default="ssh", show_default=True, metavar="COMMAND", help="With options of your own, as rsync -e takes it."
    ),
)

WITHIN = click.option(
    "--within", type=click.FloatRange(0), default=120.0, show_default=True, metavar="SECONDS", help="Until it must be healthy."
)
AT_A_TIME = click.option(
    "--at-a-time", type=click.IntRange(1), default=16, show_default=True, metavar="HOSTS", help="So many hosts side by side."
)


def hosts_options(command: Command) -> Command:
    """Add the options that `hosts_of` reads."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def hosts_of(values: dict[str, Any], work: Path) -> tuple[list[Destination], str]:
    """The hosts that were named and those of the file, each once, and ssh's command; ``work`` takes a configuration for ssh.

    Raises ConfigError if there is none.
    """
    from edgevit.deploy.destination import Destination
    from edgevit.deploy.hosts import read_hosts

    named = [Destination(address=name, port=values["port"], folder=values["folder"]) for name in values["hosts"]]
    ssh: str = values["ssh"]
    if values["hosts_file"] is not None:
        found = read_hosts(values["hosts_file"], group=values["group"], port=values["port"], folder=values["folder"])
        named += found.destinations
        config = found.config_path
        if found.config is not None:
            config = work / "ssh_config"
            config.write_text(found.config, encoding="utf-8")
        # A configuration that was named with --ssh is the user's own choice.
        if config is not None and "-F" not in shlex.split(ssh):
            ssh = f"{ssh} -F {shlex.quote(str(config))}"
    elif values["group"] is not None:
        msg = "--group is of an inventory: name it with --hosts FILE"
        raise ConfigError(msg)
    if not named:
        msg = "no host is named. Write user@host, or --hosts FILE"
        raise ConfigError(msg)
    return list(dict.fromkeys(named)), ssh


def password_of_sudo() -> Callable[[], str | None]:
    """Asks for it, on the terminal, at the first call, whatever thread that is; None where there is no terminal."""
    asking, told = threading.Lock(), list[str | None]()

    def password() -> str | None:
        with asking:
            if not told:
                told.append(
                    click.prompt("sudo's password on the hosts", hide_input=True, err=True) if sys.stdin.isatty() else None
                )
            return told[0]

    return password
