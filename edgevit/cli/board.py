"""What `edgevit deploy` and `edgevit fleet` ask of a board, there: ``python -m edgevit.cli.board VERB``. Not for typing.

Requests come on standard input and answers go to standard output, one JSON value each: nothing secret is in a list of processes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli import Commands
from edgevit.cli import main as edgevit
from edgevit.printable import json_text

if TYPE_CHECKING:
    from edgevit.services.place import Place

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
NAME = click.argument("name")


class Verbs(Commands):
    """Commands of this module, with errors as everywhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those below."""
        return sorted(self.commands)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """One of them."""
        return self.commands.get(name)


@click.group(cls=Verbs)
def board() -> None:
    """Keep services on this machine, for a deployment."""


@board.command()
def put() -> None:
    """Put a release into service; an `edgevit.services.wanted.Order` comes on standard input."""
    from edgevit.errors import ConfigError
    from edgevit.services import putting
    from edgevit.services.wanted import LIMIT, parse_order

    _outlive()
    try:
        order = parse_order(sys.stdin.read(LIMIT + 1))
    except ValueError as error:
        msg = f"an order that cannot be read: {error}. Deploy with the edgevit that is installed there"
        raise ConfigError(msg) from error
    _answer(putting.put(order).to_dict())


@board.command()
@FOLDER
@NAME
@click.option("--within", type=float, default=120.0)
@click.option("--password", is_flag=True, help="For sudo, a line on standard input.")
def restart(folder: Path, name: str, within: float, password: bool) -> None:
    """Start the run anew."""
    from edgevit.services import putting

    _outlive()
    _answer(putting.restart(_place(folder, name), within=within, password=_password(password)).to_dict())


@board.command()
@FOLDER
@NAME
@click.option("--within", type=float, default=120.0)
@click.option("--password", is_flag=True, help="For sudo, a line on standard input.")
def rollback(folder: Path, name: str, within: float, password: bool) -> None:
    """Put the bundle before into service again."""
    from edgevit.services import putting

    _outlive()
    _answer(putting.roll_back(_place(folder, name), within=within, password=_password(password)).to_dict())


@board.command()
@FOLDER
@click.argument("name", required=False)
def status(folder: Path, name: str | None) -> None:
    """Tell how one service is, or all are."""
    from edgevit.services.place import places
    from edgevit.services.telling import MOST, told_json, told_of

    chosen = [_place(folder, name)] if name else places(folder.absolute())
    click.echo(told_json([told_of(place) for place in chosen[:MOST]]))


@board.command()
@FOLDER
@NAME
@click.option("--lines", type=click.IntRange(1), default=50)
@click.option("--follow", is_flag=True)
def logs(folder: Path, name: str, lines: int, follow: bool) -> None:
    """Print what the run said last, and with --follow what it says from now on."""
    from edgevit.errors import StateError
    from edgevit.services.choice import keeper_of

    keeper = keeper_of(_place(folder, name))
    if keeper is None:
        msg = f"{name}: nothing is in service. Deploy a bundle with --run."
        raise StateError(msg)
    if follow:
        command = keeper.following(lines)
        os.execvp(command[0], command)
    for line in keeper.logs(lines):
        click.echo(line)


@board.command(name="may-be-root")
def may_be_root() -> None:
    """Say whether sudo works without a password."""
    from edgevit.services.systemd import may_be_root as allowed

    click.echo("yes" if allowed(None) else "no")


@board.command()
@FOLDER
@NAME
def run(folder: Path, name: str) -> None:
    """Be the run of the release in service: what a unit or the supervisor starts."""
    from edgevit.errors import ConfigError
    from edgevit.services.supervisor import end_with_supervisor

    end_with_supervisor()
    release = _place(folder, name).current
    if release is None:
        msg = f"{name}: nothing is in service. Deploy a bundle with --run"
        raise ConfigError(msg)
    wanted = release.wanted()
    edgevit(args=["run", str(release.bundle), wanted.source, "--headless", *wanted.options], prog_name="edgevit")


@board.command()
@FOLDER
@NAME
def supervise(folder: Path, name: str) -> None:
    """Be the supervisor of a service."""
    from edgevit.services.supervised import Supervised

    place = _place(folder, name)
    release = place.current
    sys.exit(Supervised(place).supervise(release.wanted().watchdog_s if release else 30))


def _place(folder: Path, name: str) -> Place:
    from edgevit.services.place import Place

    return Place(folder=folder.absolute(), name=name)


def _password(asked: bool) -> str | None:
    return sys.stdin.readline(4096).rstrip("\n") if asked else None


def _outlive() -> None:
    """What was begun is brought to its end, rollback included, when the link breaks."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _answer(document: dict[str, Any]) -> None:
    click.echo(json_text(document))


if __name__ == "__main__":
    board(prog_name="edgevit")
