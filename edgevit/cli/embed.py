"""``edgevit embed``: text embeddings of classes, for devices that have no text tower."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.files import OutputFile, Writing
from edgevit.cli.options import json_option
from edgevit.cli.say import say
from edgevit.files.own_kinds import EMBEDDINGS


@click.command(cls=Writing)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--classes", required=True, metavar="NAMES|FILE", help="'crack, scratch, fine', or a .txt or .json of them.")
@click.option("--prompt", multiple=True, metavar="TEXT", help="Sentence with {} where the class stands; several are averaged. "
              "By default: a photo of a {}")  # fmt: skip
@click.option("-o", "--out", required=True, type=OutputFile(EMBEDDINGS), help="The .npz to write.")
@click.option("--activation", type=click.Choice(["gelu", "quick_gelu"]), help="Of a weights file that does not tell.")
@json_option
def embed(
    model: Path, classes: str, prompt: tuple[str, ...], out: Path, activation: str | None, as_json: bool
) -> None:  # fmt: skip
    """Compute the text embeddings of classes with the text tower of MODEL, a CLIP or SigLIP.

    The file goes with edgevit build --text-embeddings and edgevit classes --set, where there is no text tower.
    """
    from edgevit.cli.console import print_json
    from edgevit.commands.classes import embed as embedded
    from edgevit.errors import ConfigError
    from edgevit.files.writing import write_whole
    from edgevit.textclasses import embeddings_bytes

    if out.suffix.lower() != ".npz":
        msg = f"-o {out}: embeddings are written as .npz; give the file that suffix."
        raise ConfigError(msg)
    texts = embedded(model, classes, prompt=prompt, activation=activation)
    write_whole(out, embeddings_bytes(texts), kind=EMBEDDINGS, option="-o")
    if as_json:
        print_json({"file": str(out), "classes": list(texts.labels), "features": texts.embeddings.shape[1], "scale": texts.scale,
                    "bias": texts.bias, "prompts": list(texts.prompts)})  # fmt: skip
    else:
        say(f"{out}: {len(texts.labels)} classes in {' | '.join(texts.prompts)}, {texts.embeddings.shape[1]} numbers each")
