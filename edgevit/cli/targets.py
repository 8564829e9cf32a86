"""``edgevit targets``: the devices that bundles can be built for."""

from __future__ import annotations

import click

from edgevit.cli.options import json_option


@click.command()
@click.argument("name", required=False)
@json_option
def targets(name: str | None, as_json: bool) -> None:
    """List the targets, or show the one called NAME."""
    from edgevit.cli.console import print_json, table
    from edgevit.shipped import shipped_names
    from edgevit.target import load_target

    known = [load_target(each) for each in ([name] if name else shipped_names("targets"))]
    if as_json:
        documents = [target.to_dict() | {"engine_here": target.engine()} for target in known]
        print_json(documents[0] if name else documents)
        return
    rows = [(target.name, target.description, ", ".join(target.precisions), target.engine()) for target in known]
    table("Targets", ("name", "device", "precisions", "engine here"), rows, left=4)
