"""How ``--help`` looks: headings and two columns, on any width of terminal, without a package that would slow it down."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable

import click

NARROWEST, WIDEST = 20, 100
"""Columns that are written to, whatever the terminal has."""
COLUMN = 28
"""Where what is said about an option begins."""
STACKED = 60
"""Terminals narrower than this have it below the option instead."""
METAVARS = {
    "INTEGER RANGE": "N", "INTEGER": "N", "FLOAT RANGE": "X", "FLOAT": "X", "DIRECTORY": "FOLDER", "SIZE": "SIZE",
    "FILENAME": "FILE",
}  # fmt: skip
"""What click calls the values of an option, and people do."""
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
"""Of a command line, with its quotes."""
_BOUND = r"-?\d+(?:\.\d+)?"


class Layout(click.HelpFormatter):
    """Click's formatter, with headings in bold on a terminal, and columns that a narrow one can show."""

    def __init__(self) -> None:
        columns = shutil.get_terminal_size().columns
        super().__init__(width=min(max(columns - 1, NARROWEST), WIDEST))
        self._bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def write_heading(self, heading: str) -> None:
        """Write ``heading`` on a line of its own."""
        text = f"{heading}:"
        self.write(f"{'':>{self.current_indent}}{click.style(text, bold=True) if self._bold else text}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = COLUMN, col_spacing: int = 2) -> None:
        """Write what is on the left of each row, and beside or below it what is on the right."""
        indent = " " * self.current_indent
        stacked = self.width < STACKED
        hang = indent + " " * (2 if stacked else col_max - len(indent))
        for left, right in rows:
            beside = not stacked and len(indent) + len(left) + col_spacing <= col_max
            lines = textwrap.wrap(right, self.width, initial_indent=hang, subsequent_indent=hang, break_on_hyphens=False)
            if beside:
                self.write(f"{indent}{left:<{col_max - len(indent)}}{lines[0].lstrip() if lines else ''}".rstrip() + "\n")
                lines = lines[1:]
            else:
                self.write("".join(f"{line}\n" for line in _folded(left, self.width, indent)))
            self.write("".join(f"{line}\n" for line in lines))

    def write_command(self, command: str, what: str) -> None:
        """Write what a command line is for, as a comment, and the line: a shell takes both as they stand."""
        indent = " " * self.current_indent
        comment = f"{indent}# "
        self.write("\n".join(textwrap.wrap(what, self.width, initial_indent=comment, subsequent_indent=comment)) + "\n")
        lines = [indent]
        for word in _WORD.findall(command):
            if lines[-1].strip() and len(lines[-1]) + len(word) + 3 > self.width:
                lines.append(indent + "    ")
            lines[-1] += f"{' ' if lines[-1].strip() else ''}{word}"
        self.write(" \\\n".join(lines) + "\n")


def plain_record(record: tuple[str, str]) -> tuple[str, str]:
    """An option's line as click has it, in words: ``--limit N`` and ``[1 or more]``."""
    names, text = record
    for known, plain in METAVARS.items():
        if names.endswith(f" {known}"):
            names = names.removesuffix(known) + plain
            break
    return names, plain_range(text)


def plain_range(text: str) -> str:
    """``text`` with ranges such as ``x>=1`` and ``0<=x<=5`` in words."""
    text = re.sub(rf"({_BOUND})<=x<=({_BOUND})", r"\1 to \2", text)
    text = re.sub(rf"x>=({_BOUND})", r"\1 or more", text)
    return re.sub(rf"x>({_BOUND})", r"more than \1", text)


def _folded(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False, break_long_words=False
    )  # fmt: skip
