"""``edgevit inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import json_option, signature_option


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@signature_option
@json_option
def inspect(bundle: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Check every file of BUNDLE against its hash and show what it holds."""
    import json

    from edgevit.bundle import open_bundle
    from edgevit.cli.console import print_json

    opened = open_bundle(bundle, keys)
    opened.verify()
    if as_json:
        print_json(json.loads(opened.manifest.to_json()))
    else:
        _print(opened, keys)


def _print(opened: Any, keys: tuple[Path, ...]) -> None:
    from edgevit.cli.console import megabytes, note, table

    manifest, model, provenance = opened.manifest, opened.manifest.model, opened.manifest.provenance
    size, blocks = "x".join(map(str, model["image_size"])), manifest.blocks
    facts = [
        ("model", f"{manifest.family}: {len(blocks)} blocks, width {model['width']}, patch {model['patch_size']}, input {size}"),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:8])}{' ...' if len(manifest.labels) > 8 else ''}"),
        ("preprocessing", manifest.preprocessing.describe()),
        ("precision", f"{manifest.precision}: {_share(blocks)}"),
        ("recipe", manifest.recipe["name"]),
        ("target", f"{manifest.target['name']}, {manifest.engine}"),
        ("engine", _engine(opened)),
        *_plan(opened),
        ("built with", ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())),
        ("weights", f"{provenance['weights'].get('file', '')} sha256 {str(provenance['weights']['sha256'])[:16]}"),
        ("signature", _signature(opened, keys)),
        *_measured(manifest),
    ]
    table(str(opened.path), ("", ""), facts, left=2)
    files = [(name, megabytes(entry.bytes), entry.sha256[:16]) for name, entry in manifest.files.items()]
    table("Files, all verified", ("file", "size", "sha256"), files)
    for text in manifest.notes:
        note(text)


def _signature(opened: Any, keys: tuple[Path, ...]) -> str:
    from edgevit.bundle import read_signature
    from edgevit.signing import required_keys

    if read_signature(opened.path) is None:
        return "none"
    checked = keys or required_keys()
    return f"confirmed by {' or '.join(map(str, checked))}" if checked else "there, not checked: see --require-signature"


def _engine(opened: Any) -> str:
    """Whether the bundle's engine is compiled, for what, and whether that is this machine."""
    from edgevit.bundle import ENGINE
    from edgevit.engine import backend, runs_here
    from edgevit.engine.of_bundle import lacking
    from edgevit.engine.tensorrt import check_stamp
    from edgevit.errors import EdgevitError

    name, stamp = opened.manifest.engine, (opened.manifest.compiled or {}).get("engine") or {}
    bound = f"compiled for {', '.join(f'{key} {value}' for key, value in stamp.items()) or 'an unknown machine'}"
    try:
        if backend(name).just_in_time:
            return f"{name} compiles at every start; nothing is kept"
        if ENGINE not in opened.manifest.files:
            return f"not compiled; on the device that runs it: edgevit compile {opened.path}"
        if not runs_here(name):
            return f"{bound}; cannot run here: {lacking(name)}"
        check_stamp(stamp, name)
    except EdgevitError as error:  # of another machine, or of an edgevit with other engines: still worth inspecting
        return f"{bound}; {error}"
    return f"{bound}; fits this machine"


def _plan(opened: Any) -> list[tuple[str, str]]:
    from edgevit.bundle import ENGINE
    from edgevit.cli.console import percent

    plan = (opened.manifest.compiled or {}).get("plan")
    if not plan:
        return []
    stand_in = plan.get("stand_in", ENGINE not in opened.manifest.files)
    whose = f"by {plan.get('builder', 'an unknown builder')}" + (", a stand-in for the device's own" if stand_in else "")
    if not plan.get("kernels"):
        return [("plan", f"not readable, {whose}")]
    moved = f"{plan.get('megabytes') or 0:.1f} MB moved"
    return [("plan", f"{plan['kernels']} kernels, {percent(plan.get('int8_share'))} of products in INT8, {moved}, "
             f"fused attention in {plan.get('fused_attention', 0)} blocks; {whose}")]  # fmt: skip


def _measured(manifest: Any) -> list[tuple[str, str]]:
    from edgevit.cli.console import percent

    rows = dict(manifest.accuracy or {})
    judge = rows.pop("conditions", {}).get("engine")
    found = []
    for precision, row in rows.items():
        time = (manifest.latency or {}).get(precision, {})
        images = f"{row.get('images', 'unknown')} images{f' by {judge}' if judge else ''}"
        measured = f"top-1 {percent(row.get('top1'))}, agreement {percent(row.get('agreement'))} on {images}"
        p50, p99 = time.get("p50_ms"), time.get("p99_ms")
        timed = "" if None in (p50, p99) else f"; p50 {p50:.2f} ms, p99 {p99:.2f} ms"
        found.append((f"{precision} measured", measured + timed))
    return found


def _share(blocks: tuple[dict[str, str], ...]) -> str:
    kinds = [precision for block in blocks for precision in block.values()]
    return f"{kinds.count('int8')} of {len(kinds)} matrix products of the blocks in INT8"
