"""Pages of the commands, made of click's own objects and of their help pages: what `--help` prints, as tables.

mkdocs-click is not used: with click 8.3 and later its tables have `Sentinel.UNSET` for what has no default, and never a metavar.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import import_module
from inspect import cleandoc

import click

NAME = "edgevit"


def commands() -> dict[str, click.Command]:
    """All of them by name, in the order of `edgevit --help`."""
    from edgevit.cli.help.jobs import COMMANDS

    return {name: getattr(import_module(f"edgevit.cli.{name}"), name) for name in COMMANDS}


def list_of() -> str:
    """The page of all commands by the job they are for, and what holds for each of them."""
    from edgevit.cli import EXIT_CODES
    from edgevit.cli.help.jobs import JOBS

    parts = ["# Commands", "", f"Made of the commands themselves; `{NAME} COMMAND --help` prints the same.", ""]
    for job, lines in JOBS.items():
        rows = [f"| [`{NAME} {name}`]({name}.md) | {_safe(line)} |" for name, line in lines.items()]
        parts += [f"## {job}", "", "| command | does |", "|---|---|", *rows, ""]
    parts += [f"{EXIT_CODES} What each means: [Troubleshooting](../../troubleshooting.md).", ""]
    return "\n".join(parts)


def page_of(name: str, command: click.Command) -> str:
    """What one command takes and does; a group's own commands below it."""
    from edgevit.cli.help.layout import plain_record
    from edgevit.cli.help.page import page_of as help_page_of

    page, context = help_page_of(name), click.Context(command, info_name=f"{NAME} {name}")
    usage = " ".join((f"{NAME} {name}", *command.collect_usage_pieces(context)))
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = {max(option.opts, key=len): option.get_help_record(context) for option in options}
    rows = {key: plain_record(record) for key, record in records.items() if record}
    parts = [f"# {NAME} {name}", "", _prose(command.help or ""), "", "```text", usage, "```", ""]
    if page.arguments:
        parts += _table("argument", page.arguments.items())
    for title, names in page.arranged(list(rows)).items():
        parts += [f"## {title}", "", *_table("option", (rows[each] for each in names))]
    if page.examples:
        lines = [f"# {what}\n{line}" for line, what in page.examples]
        parts += ["## Examples", "", "```sh", "\n\n".join(lines), "```", ""]
    if page.guides:
        parts += ["More: " + ", ".join(f"[{guide.removesuffix('.md')}](../../{guide})" for guide in page.guides) + ".", ""]
    if isinstance(command, click.Group):
        parts += [page_of(f"{name} {each}", inner).replace("\n## ", "\n### ") for each, inner in command.commands.items()]
    return "\n".join(parts).replace("\n# edgevit", "\n## edgevit")


def _table(head: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"| {head} | |", "|---|---|", *(f"| <code>{_cell(name)}</code> | {_safe(text)} |" for name, text in rows), ""]


def _prose(help_text: str) -> str:
    """Paragraphs; what click is told to leave as it is, as code."""
    parts = cleandoc(help_text).split("\n\n")
    code = {part: "\n".join(("```text", part.removeprefix("\b").strip("\n"), "```")) for part in parts if part.startswith("\b")}
    return "\n\n".join(code.get(part) or _safe(part) for part in parts)


def _safe(text: str) -> str:
    return _cell(text).replace("*", r"\*").replace("_", r"\_")


def _cell(text: str) -> str:
    return escape(text, quote=False).replace("|", "&#124;")
