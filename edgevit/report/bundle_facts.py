"""What a bundle is, as rows of a name and a text: the same in a terminal and in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.bundle import ENGINE, Bundle, Manifest, read_signature
from edgevit.engine import backend, runs_here
from edgevit.engine.base import GraphUse
from edgevit.engine.of_bundle import engines_in_order
from edgevit.engines import traits_of
from edgevit.errors import EdgevitError
from edgevit.problem import MULTI_LABEL, describe
from edgevit.report.sheet import Sheet, megabytes, percent
from edgevit.signing import required_keys
from edgevit.vitconfig import VitConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


def files_sheet(bundle: Bundle) -> Sheet:
    """Every file with its size and the beginning of its hash."""
    rows = [(name, megabytes(entry.bytes), entry.sha256[:16]) for name, entry in bundle.manifest.files.items()]
    return Sheet(title="Files, all verified", columns=("file", "size", "sha256"), rows=rows)


def facts_sheet(bundle: Bundle, keys: Sequence[Path] = ()) -> Sheet:
    """What is known about ``bundle``, whose signature was checked against ``keys``."""
    return Sheet(title=str(bundle.path), columns=("", ""), rows=_facts(bundle, keys), left=2)


def _facts(opened: Bundle, keys: Sequence[Path]) -> list[tuple[str, str]]:
    manifest, model, provenance = opened.manifest, opened.manifest.model, opened.manifest.provenance
    blocks = manifest.blocks
    return [
        ("model", f"{manifest.family}: {len(blocks)} blocks, width {model['width']}, patch {model['patch_size']}"),
        *_structure(manifest),
        *_tokens(manifest),
        ("input", manifest.input),
        ("labels", f"{len(manifest.labels)}: {', '.join(manifest.labels[:8])}{' ...' if len(manifest.labels) > 8 else ''}"),
        *_text(manifest),
        ("scores", describe(manifest.problem_type)),
        *([("features", f"{manifest.features} numbers an image, for search and clustering")] if manifest.features else []),
        *_unknown(manifest),
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


def _structure(manifest: Manifest) -> list[tuple[str, str]]:
    """What it has that a plain ViT has not; nothing of a plain one."""
    found = VitConfig.from_dict(manifest.model).structure
    return [("structure", ", ".join(found))] if found else []


def _text(manifest: Manifest) -> list[tuple[str, str]]:
    """How its classes were given, if as text."""
    if manifest.text is None:
        return []
    prompts = f" in {' | '.join(map(repr, manifest.text.prompts))}" if manifest.text.prompts else ""
    return [("classes", f"given as text{prompts}, cosines times {manifest.text.scale:.4g}; edgevit classes exchanges them")]


def _unknown(manifest: Manifest) -> list[tuple[str, str]]:
    """By how many images it tells unknown objects, if it does."""
    if manifest.known is None:
        return []
    how = "class by class" if manifest.known["by_class"] else "all together"
    images, rarest = manifest.known["images"], manifest.known["judged"] + 1
    return [("unknown objects", f"told by {images} images, {how}, down to 1 in {rarest}: edgevit run --unknown auto")]


def _tokens(manifest: Manifest) -> list[tuple[str, str]]:
    """Where a model merges how many; nothing of one that merges none."""
    config = VitConfig.from_dict(manifest.model)
    merges = [f"{block.merged} behind attention of block {index}" for index, block in enumerate(config.blocks) if block.merged]
    left = config.tokens_into(len(config.blocks) - 1)
    return [("tokens", f"{config.tokens} tokens become {left}: {', '.join(merges)}")] if merges else []


def _signature(opened: Bundle, keys: Sequence[Path]) -> str:
    if read_signature(opened.path) is None:
        return "none"
    checked = keys or required_keys()
    return f"confirmed by {' or '.join(map(str, checked))}" if checked else "there, not checked: see --require-signature"


def _engine(opened: Bundle) -> str:
    """Whether the bundle's engine is compiled, for what, and whether that is this machine."""
    name, stamp = opened.manifest.engine, (opened.manifest.compiled or {}).get("engine") or {}
    bound = f"compiled for {', '.join(f'{key} {value}' for key, value in stamp.items()) or 'an unknown machine'}"
    try:
        if not traits_of(name).ahead_of_time:
            here = "" if runs_here(name) else f"; not installed here, where it runs on {engines_in_order(name)[0]}"
            return f"{name} compiles at every start; nothing is kept{here}"
        if ENGINE not in opened.manifest.files:
            return f"not compiled; on the device that runs it: edgevit compile {opened.path}"
        if not runs_here(name):
            return f"{bound}; cannot run here: {backend(name).lacking()}"
        backend(name).check_stamp(stamp)
    except EdgevitError as error:  # of another machine, or of an edgevit with other engines: still worth inspecting
        return f"{bound}; {error}"
    return f"{bound}; fits this machine"


def _plan(opened: Bundle) -> list[tuple[str, str]]:
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


def _form(manifest: Manifest) -> list[tuple[str, str]]:
    """Which form of the graph the device kept, and beside what; nothing where there was no choice."""
    compiled = manifest.compiled or {}
    tried = compiled.get("tried", [])
    if len(tried) < 2:
        return []
    rest = [item for item in tried if item.get("form") != compiled.get("form")]
    times = [f"{item.get('form')} {item['p50_ms']:.2f} ms" for item in rest if item.get("p50_ms") is not None]
    failed = [f"{item.get('form')} wrong or refused" for item in rest if item.get("p50_ms") is None]
    return [("form", f"{compiled.get('form')}, chosen by timing; {', '.join([*times, *failed])}")]


def _graph(manifest: Manifest) -> list[tuple[str, str]]:
    """What `edgevit compile` found a CUDA graph to be worth."""
    found = (manifest.compiled or {}).get("graph")
    if not found:
        return []
    use = GraphUse(used=bool(found.get("used")), with_ms=found.get("with_ms"), without_ms=found.get("without_ms"),
                   reason=str(found.get("reason") or ""))  # fmt: skip
    return [("CUDA graph", str(use))]


def _checks(manifest: Manifest) -> list[tuple[str, str]]:
    """How close the engine that the figures are from came to torch."""
    found = [
        f"{check.get('precision')} on {check.get('engine')} {check.get('sqnr_db') or 0:.0f} dB "
        f"(at least {check.get('bound_db') or 0:.0f}, {check.get('frames')} frames)"
        for check in manifest.checks
    ]
    return [("checked", f"against torch: {', '.join(found)}")] if found else []


def _measured(manifest: Manifest) -> list[tuple[str, str]]:
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
