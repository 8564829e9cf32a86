"""``edgevit completion``: commands, options and names, completed by the shell."""

from __future__ import annotations

import click

from edgevit.cli.command import Command
from edgevit.cli.say import say


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands, options, targets, recipes, engines, bundles, cameras and labels.

    Write it to where your shell looks for such scripts; new terminals have it. Nothing is changed by the command itself.
    """
    from edgevit.cli import COMPLETES
    from edgevit.cli.completing.shells import script

    say(*script(shell, COMPLETES).rstrip("\n").split("\n"))
