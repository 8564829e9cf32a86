"""``edgevit fleet``: the services of many boards: how they are, what they say, start anew, go back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgevit.cli.command import Group
from edgevit.cli.hosts import AT_A_TIME, WITHIN, hosts_of, hosts_options, password_of_sudo
from edgevit.cli.options import json_option
from edgevit.cli.say import say
from edgevit.errors import StateError

if TYPE_CHECKING:
    from edgevit.deploy.fleet import BoardDone, BoardTold
    from edgevit.services.telling import Told

Changing = TypeVar("Changing", bound=Callable[..., Any])
HOSTS = click.argument("hosts", metavar="[USER@]HOST...", nargs=-1)
NAME = click.option("--name", default="edgevit", show_default=True, help="Of the service.")


def changing(command: Changing) -> Changing:
    """Add the options of what changes services: which boards, how many at a time, and how long they may take."""
    for option in reversed((HOSTS, hosts_options, NAME, WITHIN, AT_A_TIME, json_option)):
        command = option(command)
    return command


@click.group(cls=Group)
def fleet() -> None:
    """Look after services that deploy --run has put onto boards.

    Hosts are named as for deploy: USER@HOST..., or --hosts FILE. Exit code 11 if a board is not reached or refuses,
    12 if a service is not healthy.
    """


@fleet.command()
@HOSTS
@hosts_options
@click.option("--name", help="Of one service; all by default.")
@json_option
def status(**values: Any) -> None:
    """Print a table of the services: bundle, rate, latency, drops, heat, errors."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as work:
        told = _fleet(values, Path(work)).status(values["name"])
    if values["as_json"]:
        _print_json(told)
    else:
        _print_table(told)
    _exit([board.error for board in told], all(each.healthy for board in told for each in board.services))


@fleet.command()
@HOSTS
@hosts_options
@NAME
@click.option("-n", "--lines", type=click.IntRange(1), default=50, show_default=True, help="Of each board.")
@click.option("--follow", is_flag=True, help="Go on printing, until Ctrl-C.")
def logs(**values: Any) -> None:
    """Print what the runs said last."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as work:
        boards = _fleet(values, Path(work))
        if values["follow"]:
            boards.follow(values["name"], values["lines"], lambda host, line: say(f"{host.address}  {line}"))
            return
        errors = []
        for host, found in boards.logs(values["name"], values["lines"]):
            if isinstance(found, list):
                say(*(f"{host.address}  {line}" for line in found or ["(it has said nothing)"]))
            else:
                say(f"edgevit: {found}", err=True)
                errors.append(found)
    _exit(errors, True)


@fleet.command()
@changing
def restart(**values: Any) -> None:
    """End the runs, start them anew and wait until they are healthy."""
    _change(values, lambda boards, **how: boards.restart(values["name"], **how))


@fleet.command()
@changing
def rollback(**values: Any) -> None:
    """Put the bundles before these into service again."""
    _change(values, lambda boards, **how: boards.roll_back(values["name"], **how))


def _fleet(values: dict[str, Any], work: Path) -> Any:
    from edgevit.deploy.fleet import Fleet
    from edgevit.deploy.several import AT_ONCE

    hosts, ssh = hosts_of(values, work)
    return Fleet(hosts, ssh, at_a_time=values.get("at_a_time", AT_ONCE))


def _change(values: dict[str, Any], change: Callable[..., list[BoardDone]]) -> None:
    from edgevit.cli.console import print_json, table

    with tempfile.TemporaryDirectory(prefix="edgevit-") as work:
        done = change(_fleet(values, Path(work)), within=values["within"], password=password_of_sudo())
    if values["as_json"]:
        print_json([
            {"host": board.host.address, "error": str(board.error) if board.error else None}
            | (board.put.to_dict() if board.put else {})
            for board in done
        ])  # fmt: skip
    else:
        rows = [
            (board.host.address, board.put.outcome, _figure(board.put.state.fps if board.put.state else None))
            if board.put
            else (board.host.address, "-", "-")
            for board in done
        ]
        table("Services", ("board", "outcome", "fps"), rows, left=2)
        _print_errors(done)
    _exit([board.error for board in done], True)


def _print_errors(boards: Sequence[BoardTold] | Sequence[BoardDone]) -> None:
    for board in boards:
        if board.error is not None:
            say(f"edgevit: {board.error}", err=True)


def _exit(errors: list[Any], healthy: bool) -> None:
    failed = [error for error in errors if error is not None]
    if failed:
        raise click.exceptions.Exit(failed[0].exit_code)
    if not healthy:
        raise click.exceptions.Exit(StateError.exit_code)


def _print_json(told: list[BoardTold]) -> None:
    from dataclasses import asdict

    from edgevit.cli.console import print_json

    print_json([
        {
            "host": board.host.address,
            "error": str(board.error) if board.error else None,
            "services": [asdict(each) | {"healthy": each.healthy} for each in board.services],
        }
        for board in told
    ])  # fmt: skip


COLUMNS = (
    "board", "service", "is", "bundle", "edgevit", "fps", "p50/p99 ms", "dropped", "°C", "unknown", "restarts", "last error",
)  # fmt: skip


def _print_table(told: list[BoardTold]) -> None:
    from edgevit.cli.console import table

    rows = []
    for board in told:
        if board.error is not None:
            rows.append((board.host.address, "-", "not reached", *["-"] * 8, "see below"))
        elif not board.services:
            rows.append((board.host.address, "-", "nothing", *["-"] * 8, ""))
        rows += [_row(board.host.address, each) for each in board.services]
    table("Fleet", COLUMNS, rows, left=5)
    _print_errors(told)


def _row(address: str, each: Told) -> tuple[str, ...]:
    state, bundle = each.state, f"{each.bundle} {each.digest[:8]}".strip()
    if state is None:
        return (address, each.name, each.condition, bundle, *["-"] * 6, _count(each.restarts), each.problem)
    condition = each.condition if each.healthy or each.condition != "running" else "no labels" if each.fresh else "hangs"
    latency = f"{state.latency_ms.p50:.1f}/{state.latency_ms.p99:.1f}" if state.latency_ms else "-"
    heat = state.telemetry.get("temperature_c")
    unknown = f"{100 * state.unknown_share:.1f} %" if state.unknown_share is not None else "-"
    return (
        address, each.name, condition, bundle, state.version, _figure(state.fps), latency, str(state.dropped),
        f"{heat:.0f}" if isinstance(heat, float | int) else "-", unknown, _count(each.restarts),
        each.problem or state.last_error or "",
    )  # fmt: skip


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
