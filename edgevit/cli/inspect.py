"""``edgevit inspect``: what is in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import json_option, signature_option, threads_option
from edgevit.cli.say import say


@click.command()
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
    import json
    from dataclasses import asdict

    from edgevit.bundle import open_bundle
    from edgevit.cli.console import print_json
    from edgevit.commands.inspect import parts_of
    from edgevit.commands.inspect_diff import differences
    from edgevit.engine import backend
    from edgevit.errors import ConfigError

    if (engine or threads) and not layers:
        msg = "--engine and --threads are for --layers, which times them. Add it, or leave them out."
        raise ConfigError(msg)
    if engine:
        _ = backend(engine).version
    opened = open_bundle(bundle, keys)
    opened.verify()
    parts = parts_of(opened, engine, threads=threads) if layers else None
    compared = open_bundle(other) if other is not None else None
    if compared is not None:
        compared.verify()
    changes = differences(opened.manifest, compared.manifest) if compared is not None else None
    if as_json:
        document = json.loads(opened.manifest.to_json())
        document |= {"layers": [asdict(part) for part in parts]} if parts is not None else {}
        document |= {"differences": [asdict(change) for change in changes]} if changes is not None else {}
        print_json(document)
        return
    if parts is None and changes is None:
        _print(opened, keys)
    if parts is not None:
        _print_parts(opened, parts)
    if changes is not None:
        _print_changes(bundle, other, changes)


def _print_parts(opened: Any, parts: list[Any]) -> None:
    from edgevit.cli.console import table

    def row(block: str, part: str, items: list[Any], first: Any = None) -> tuple[str, ...]:
        times = [item.milliseconds for item in items if item.milliseconds is not None]
        low, high = first.weight_scale if first and first.weight_scale else (None, None)
        return (
            block,
            part,
            first.precision if first else "",
            f"{first.input_scale:.3g}" if first and first.input_scale is not None else "",
            f"{low:.2g}..{high:.2g}" if low is not None else "",
            f"{sum(item.macs for item in items) / 1e6:.1f}",
            f"{sum(item.weight_bytes for item in items) / 1e3:.1f}",
            f"{sum(times):.3f}" if times else "-",
        )

    rows = [row("" if part.block is None else str(part.block), part.part, [part], part) for part in parts]
    columns = ("block", "part", "precision", "input step", "weight steps", "MMACs", "weights kB", "ms")
    table(str(opened.path), columns, [*rows, row("all", "", parts)], left=3)
    names = dict.fromkeys(part.part for part in parts)
    sums = [row("", name, [part for part in parts if part.part == name]) for name in names]
    table("By part", ("part", *columns[5:]), [(cells[1], *cells[5:]) for cells in sums])
    say("A step is what one INT8 code is worth; where inputs are quantized in steps of 1, their step is in the weights.")
    if any(part.milliseconds is not None for part in parts):
        say("ms: the engine's own profiler, which slows it, on a black image; what it fuses counts as the part it names.")


def _print_changes(bundle: Path, other: Path | None, changes: list[Any]) -> None:
    from edgevit.cli.console import table

    if not changes:
        say(f"{bundle} and {other}: no difference but their names.")
        return
    rows = [(change.key, _value(change.one), _value(change.other)) for change in changes]
    table("Differences", ("key", str(bundle), str(other)), rows, left=3)


def _value(value: Any) -> str:
    """A value in a table's cell."""
    text = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _print(opened: Any, keys: tuple[Path, ...]) -> None:
    from edgevit.cli.console import megabytes, note, table
    from edgevit.problem import describe

    manifest, model, provenance = opened.manifest, opened.manifest.model, opened.manifest.provenance
    blocks = manifest.blocks
    facts = [
        ("model", f"{manifest.family}: {len(blocks)} blocks, width {model['width']}, patch {model['patch_size']}"),
        ("input", manifest.input),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:8])}{' ...' if len(manifest.labels) > 8 else ''}"),
        ("scores", describe(manifest.problem_type)),
        ("preprocessing", manifest.preprocessing.describe()),
        ("precision", f"{manifest.precision}: {_share(blocks)}"),
        ("recipe", manifest.recipe["name"]),
        ("target", f"{manifest.target['name']}, {manifest.engine}"),
        ("engine", _engine(opened)),
        *_plan(opened),
        *_form(manifest),
        *_graph(manifest),
        ("built with", ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())),
        ("weights", f"{provenance['weights'].get('file', '')} sha256 {str(provenance['weights']['sha256'])[:16]}"),
        ("signature", _signature(opened, keys)),
        *_checks(manifest),
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
    from edgevit.engine.of_bundle import in_order
    from edgevit.engines import traits_of
    from edgevit.errors import EdgevitError

    name, stamp = opened.manifest.engine, (opened.manifest.compiled or {}).get("engine") or {}
    bound = f"compiled for {', '.join(f'{key} {value}' for key, value in stamp.items()) or 'an unknown machine'}"
    try:
        if not traits_of(name).ahead_of_time:
            here = "" if runs_here(name) else f"; not installed here, where it runs on {in_order(name)[0]}"
            return f"{name} compiles at every start; nothing is kept{here}"
        if ENGINE not in opened.manifest.files:
            return f"not compiled; on the device that runs it: edgevit compile {opened.path}"
        if not runs_here(name):
            return f"{bound}; cannot run here: {backend(name).lacking()}"
        backend(name).check_stamp(stamp)
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


def _form(manifest: Any) -> list[tuple[str, str]]:
    """Which form of the graph the device kept, and beside what; nothing where there was no choice."""
    compiled = manifest.compiled or {}
    tried = compiled.get("tried", [])
    if len(tried) < 2:
        return []
    rest = [item for item in tried if item.get("form") != compiled.get("form")]
    times = [f"{item.get('form')} {item['p50_ms']:.2f} ms" for item in rest if item.get("p50_ms") is not None]
    failed = [f"{item.get('form')} wrong or refused" for item in rest if item.get("p50_ms") is None]
    return [("form", f"{compiled.get('form')}, chosen on the device; {', '.join([*times, *failed])}")]


def _graph(manifest: Any) -> list[tuple[str, str]]:
    """What `edgevit compile` found a CUDA graph to be worth."""
    from edgevit.engine.base import GraphUse

    found = (manifest.compiled or {}).get("graph")
    if not found:
        return []
    use = GraphUse(used=bool(found.get("used")), with_ms=found.get("with_ms"), without_ms=found.get("without_ms"),
                   reason=str(found.get("reason") or ""))  # fmt: skip
    return [("CUDA graph", str(use))]


def _checks(manifest: Any) -> list[tuple[str, str]]:
    """How close the engine that the figures are from came to torch."""
    found = [
        f"{check.get('precision')} on {check.get('engine')} {check.get('sqnr_db') or 0:.0f} dB "
        f"(at least {check.get('bound_db') or 0:.0f}, {check.get('frames')} frames)"
        for check in manifest.checks
    ]
    return [("checked", f"against torch: {', '.join(found)}")] if found else []


def _measured(manifest: Any) -> list[tuple[str, str]]:
    from edgevit.cli.console import percent
    from edgevit.problem import MULTI_LABEL

    rows = dict(manifest.accuracy or {})
    judge, where = rows.pop("conditions", {}).get("engine"), (manifest.latency or {}).get("conditions", {}).get("device")
    found = []
    for precision, row in rows.items():
        time = (manifest.latency or {}).get(precision, {})
        images = f"{row.get('images', 'unknown')} images{f' by {judge}' if judge else ''}"
        scores = f"top-1 {percent(row.get('top1'))}"
        if manifest.problem_type == MULTI_LABEL:
            scores = f"mAP {percent(row.get('mean_average_precision'))}, F1 {percent(row.get('f1'))}"
        measured = f"{scores}, agreement {percent(row.get('agreement'))} on {images}"
        p50, p99 = time.get("p50_ms"), time.get("p99_ms")
        timed = "" if None in (p50, p99) else f"; p50 {p50:.2f} ms, p99 {p99:.2f} ms{f' on {where}' if where else ''}"
        found.append((f"{precision} measured", measured + timed))
    return found


def _share(blocks: tuple[dict[str, str], ...]) -> str:
    kinds = [precision for block in blocks for precision in block.values()]
    return f"{kinds.count('int8')} of {len(kinds)} matrix products of the blocks in INT8"
