"""``edgevit keygen``: a pair of keys to sign bundles with."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.command import Command
from edgevit.cli.options import json_option
from edgevit.cli.say import say


@click.command(cls=Command)
@click.argument("name", type=click.Path(path_type=Path))
@json_option
def keygen(name: Path, as_json: bool) -> None:
    """Make a pair of ed25519 keys to sign bundles with.

    NAME signs and stays with you; NAME.pub checks and goes to the devices.
    """
    from edgevit.cli.console import print_json
    from edgevit.signing import generate

    public = generate(name)
    if as_json:
        print_json({"private": str(name), "public": str(public)})
        return
    say(f"{name}: keep it secret; sign with: edgevit sign BUNDLE --key {name}")
    say(f"{public}: give it to devices; check with: edgevit run BUNDLE SOURCE --require-signature {public}")
