"""``edgevit sign``: vouch for a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.command import Command
from edgevit.cli.options import json_option
from edgevit.cli.say import say


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Your private key; see edgevit keygen.")
@json_option
def sign(bundle: Path, key: Path, as_json: bool) -> None:
    """Check every file of BUNDLE, and sign its manifest, which has the hash of each.

    What the signature is worth, and what it is not, is in docs/security.md.
    """
    from edgevit.bundle import SIGNATURE, sign_bundle
    from edgevit.cli.console import print_json

    signed = sign_bundle(bundle, key)
    if as_json:
        print_json({"bundle": str(signed.path), "files": len(signed.manifest.files), "signature": SIGNATURE})
    else:
        say(f"{signed.path}: {len(signed.manifest.files)} files checked and signed")
