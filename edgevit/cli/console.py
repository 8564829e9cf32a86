"""Tables and progress bars for people. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from edgevit.cli.say import say
from edgevit.printable import json_text, printable
from edgevit.progress import Progress, Stage

if TYPE_CHECKING:
    from edgevit.report.sheet import Sheet


class ConsoleProgress(Progress):
    """A bar on stderr for the stage under way, and a line for each finished one."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._bars: Bars | None = None
        self._task = TaskID(0)

    def begin(self, stage: Stage) -> None:
        """Show a bar, where there is a terminal to move it on."""
        if not self.console.is_terminal:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Bars(TextColumn("  {task.description:<32}", markup=False), *columns, console=self.console, transient=True)
        self._task = self._bars.add_task(printable(stage.name), total=stage.total)
        self._bars.start()

    def advance(self, stage: Stage, steps: int) -> None:
        """Move the bar."""
        if self._bars is not None:
            self._bars.advance(self._task, steps)

    def end(self, stage: Stage) -> None:
        """Replace the bar by a line."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        if not stage.finished:  # the error says what happened
            return
        done = "cached" if stage.cached else f"{stage.seconds:.1f} s"
        found = f"   {printable(stage.found)}" if stage.found else ""
        self.console.print(Text(f"  {printable(stage.name):<32} {done}{found}"), soft_wrap=True)  # a log's lines are not folded


def print_sheet(sheet: Sheet) -> None:
    """Print ``sheet`` as `table` does."""
    table(sheet.title, sheet.columns, sheet.rows, left=sheet.left)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> None:
    """Print a table on stdout; all but the ``left`` first columns are right-aligned."""
    style = {"title_justify": "left", "title_style": "bold", "header_style": "bold"}
    drawn = Table(title=_plain(title), box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False, **style)  # type: ignore[arg-type]
    for position, column in enumerate(columns):
        drawn.add_column(_plain(column), justify="left" if position < left else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*map(_plain, row))
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe or a log has no width of its own: do not fold to 80
        console = Console(highlight=False, width=160)
    console.print(drawn)


def _plain(content: object) -> Text:
    """What may be shown as it is: rich would take a name with square brackets for markup, and leaves escapes in."""
    return Text(printable(content))


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document on stdout; without ``indent`` on one line."""
    click.echo(json_text(document, indent=indent))


def note(text: str) -> None:
    """One line about something assumed or left out, on stderr."""
    say(f"note: {text}", err=True)


def command_line() -> str:
    """What was typed, as a shell would take it again, but for passwords and tokens."""
    from edgevit.runtime.redact import without_secrets

    return shlex.join(["edgevit", *map(without_secrets, sys.argv[1:])])
