"""``edgevit inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.command import Command
from edgevit.cli.options import json_option, signature_option, threads_option
from edgevit.cli.say import say


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--layers", is_flag=True, help="Every part of every block: precision, scales, MACs, bytes, time.")
@click.option("--engine", help="For --layers: time on openvino or onnxruntime; the bundle's own engine by default.")
@click.option("--diff", "other", metavar="OTHER", type=click.Path(path_type=Path), help="What differs in another bundle.")
@signature_option
@threads_option
@json_option
def inspect(
    bundle: Path, layers: bool, engine: str | None, other: Path | None, keys: tuple[Path, ...], threads: int | None, as_json: bool
) -> None:  # fmt: skip
    """Check every file of BUNDLE against its hash and show what it holds."""
    from edgevit.cli.console import note, print_json, print_sheet
    from edgevit.commands.inspect import inspect as inspect_bundle

    found = inspect_bundle(bundle, layers=layers, engine=engine, diff=other, require_signature=keys, threads=threads)
    if as_json:
        print_json(found.to_dict())
        return
    for sheet in found.general():
        print_sheet(sheet)
    for text in found.bundle.manifest.notes if found.general() else ():
        note(text)
    for sheet in found.of_parts():
        print_sheet(sheet)
    for text in found.about_parts():
        say(text)
    for sheet in found.of_differences():
        print_sheet(sheet)
    if found.differences == ():
        say(f"{bundle} and {other}: no difference but their names.")
