"""The one way in which commands print lines: nothing that a file, a label or a board says acts on the terminal."""

from __future__ import annotations

import click

from edgevit.printable import printable


def say_fields(*fields: object) -> None:
    """Print ``fields`` on one line with tabs between them, for a program that reads them; what would break it is escaped."""
    click.echo("\t".join(map(printable, fields)))


def say(*lines: object, err: bool = False, bold: bool = False, colour: str | None = None, end: str = "\n") -> None:
    """Print each of ``lines`` on a line of its own, an empty one without any; what would break or colour one is escaped."""
    texts = [printable(line) for line in lines]
    styled = [click.style(text, fg=colour, bold=bold or None) if bold or colour else text for text in texts]
    click.echo("\n".join(styled) + end, err=err, nl=False)
