"""Pages of the commands, made of click's own objects: what `--help` prints, as tables.

mkdocs-click is not used: with click 8.3 and later its tables have `Sentinel.UNSET` for what has no default, and never a metavar.
"""

from __future__ import annotations

from html import escape
from importlib import import_module
from inspect import cleandoc

import click

NAME = "edgevit"


def commands() -> dict[str, click.Command]:
    """All of them by name, in the order of `edgevit --help`."""
    from edgevit.cli import COMMANDS

    return {name: getattr(import_module(f"edgevit.cli.{name}"), name) for name in COMMANDS}


def page_of(name: str, command: click.Command) -> str:
    """What one command takes and does; a group's own commands below it."""
    context = click.Context(command, info_name=f"{NAME} {name}")
    own = command.commands if isinstance(command, click.Group) else {}
    below = [page_of(f"{name} {each}", inner).replace("# ", "## ", 1) for each, inner in own.items()]
    usage = " ".join((f"{NAME} {name}", *command.collect_usage_pieces(context)))
    given = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    records = [record for option in given if (record := option.get_help_record(context))]
    options = [f"| {_code(names)} | {_cell(text)} |" for names, text in records]
    head = (f"# {NAME} {name}", "", _prose(command.help or ""), "", "```text", usage, "```", "", "| option | |", "|---|---|")
    return "\n".join((*head, *options, "", *below))


def list_of(everything: dict[str, click.Command], codes: str) -> str:
    """The page of all commands, and what holds for each of them."""
    rows = [f"| [`{NAME} {name}`]({name}.md) | {_cell(_sentence(command))} |" for name, command in everything.items()]
    head = ("# Commands", "", f"Made of the commands themselves; `{NAME} COMMAND --help` prints the same.", "")
    tail = ("", codes, "", "What each exit code means: [Troubleshooting](../../troubleshooting.md).", "")
    return "\n".join((*head, "| command | does |", "|---|---|", *rows, *tail))


def exit_codes() -> str:
    """What the group's help says of them."""
    from edgevit.cli import main

    return " ".join((main.help or "").partition("\b")[2].split())


def _sentence(command: click.Command) -> str:
    return " ".join(cleandoc(command.help or "").split("\n\n")[0].split())


def _prose(help_text: str) -> str:
    """Paragraphs; what click is told to leave as it is, as code."""
    parts = cleandoc(help_text).split("\n\n")
    return "\n\n".join(
        f"```text\n{part.removeprefix(chr(8)).strip(chr(10))}\n```" if part.startswith("\b") else _safe(part) for part in parts
    )


def _safe(text: str) -> str:
    return escape(text, quote=False).replace("*", r"\*").replace("_", r"\_")


def _cell(text: str) -> str:
    return _safe(text).replace("|", "&#124;")


def _code(names: str) -> str:
    return f"<code>{escape(names, quote=False).replace('|', '&#124;')}</code>"
