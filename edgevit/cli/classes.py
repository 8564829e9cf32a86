"""``edgevit classes``: what a bundle tells apart, and other classes for one that takes them as text."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.files import OutputBundle, Writing
from edgevit.cli.options import json_option
from edgevit.cli.say import say


@click.command(cls=Writing)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "classes",
    metavar="FILE",
    help="Embeddings of the new classes, as edgevit embed writes them; with --text-model names, or a .txt or .json of them.",
)
@click.option("-o", "--out", type=OutputBundle(), help="The bundle to write, a folder or .zip.")
@click.option("--text-model", type=click.Path(exists=True, path_type=Path), help="Checkpoint with the text tower.")
@click.option("--prompt", multiple=True, metavar="TEXT", help="Sentence with {} where the class stands; several are averaged.")
@json_option
def classes(
    bundle: Path, classes: str | None, out: Path | None, text_model: Path | None, prompt: tuple[str, ...], as_json: bool
) -> None:  # fmt: skip
    """List what BUNDLE tells apart; with --set give it other classes, in seconds.

    That is for towers of CLIP and SigLIP, whose classes were given as text: only the head changes, nothing is calibrated again.
    A signature does not hold for the new bundle, and an engine has to be compiled again.
    """
    from edgevit.bundle import open_bundle
    from edgevit.cli.console import note, print_json
    from edgevit.commands.classes import set_classes
    from edgevit.errors import ConfigError

    if classes is None:
        if out is not None or text_model is not None or prompt:
            msg = "say which classes: --set FILE"
            raise ConfigError(msg)
        labels = open_bundle(bundle).manifest.labels
        print_json(list(labels)) if as_json else say(*labels)
        return
    if out is None:
        msg = "say where the bundle with the new classes goes: -o NEW"
        raise ConfigError(msg)
    result = set_classes(bundle, classes, out=out, prompt=prompt, text_model=text_model)
    if as_json:
        print_json(result.to_dict())
        return
    if result.unsigned:
        note("the signature is not the new bundle's: sign it with edgevit sign")
    if result.uncompiled:
        note(f"the compiled engine holds the classes of before and is left out: edgevit compile {result.bundle.path}")
    say(f"{result.bundle.path}: {len(result.bundle.manifest.labels)} classes: {', '.join(result.bundle.manifest.labels)}")
