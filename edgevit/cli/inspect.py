"""``edgevit inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import json_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Check every file of BUNDLE against its hash and show what it holds."""
    import json

    from edgevit.bundle import open_bundle
    from edgevit.cli.console import print_json

    opened = open_bundle(bundle)
    opened.verify()
    if as_json:
        print_json(json.loads(opened.manifest.to_json()))
    else:
        _print(opened)


def _print(opened: Any) -> None:
    from edgevit.cli.console import megabytes, note, percent, table

    manifest, model = opened.manifest, opened.manifest.model
    size, blocks = "x".join(map(str, model["image_size"])), manifest.blocks
    facts = [
        ("model", f"{manifest.family}: {len(blocks)} blocks, width {model['width']}, patch {model['patch_size']}, input {size}"),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:8])}{' ...' if len(manifest.labels) > 8 else ''}"),
        ("preprocessing", manifest.preprocessing.describe()),
        ("precision", f"{manifest.precision}: {_share(blocks)}"),
        ("recipe", manifest.recipe["name"]),
        ("target", f"{manifest.target['name']}, {manifest.engine}"),
        ("built with", ", ".join(f"{name} {version}" for name, version in manifest.provenance["versions"].items())),
        ("weights", f"{manifest.provenance['weights']['file']} sha256 {manifest.provenance['weights']['sha256'][:16]}"),
    ]
    for precision, row in (manifest.accuracy or {}).items():
        if precision != "conditions":
            time = (manifest.latency or {}).get(precision)
            measured = f"top-1 {percent(row['top1'])}, agreement {percent(row['agreement'])} on {row['images']} images"
            timed = f"; p50 {time['p50_ms']:.2f} ms, p99 {time['p99_ms']:.2f} ms" if time else ""
            facts.append((f"{precision} measured", measured + timed))
    table(str(opened.path), ("", ""), facts, left=2)
    files = [(name, megabytes(entry.bytes), entry.sha256[:16]) for name, entry in manifest.files.items()]
    table("Files, all verified", ("file", "size", "sha256"), files)
    for text in manifest.notes:
        note(text)


def _share(blocks: tuple[dict[str, str], ...]) -> str:
    kinds = [precision for block in blocks for precision in block.values()]
    return f"{kinds.count('int8')} of {len(kinds)} matrix products of the blocks in INT8"
