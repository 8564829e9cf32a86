"""``edgevit compile``: make a bundle's engine on the device that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import OutputBundle, Writing
from edgevit.cli.options import json_option, signature_option
from edgevit.cli.say import say


@click.command(cls=Writing)
@click.argument("bundle", type=OutputBundle())
@click.option(
    "--workspace",
    type=click.IntRange(1, 2**20),
    metavar="MIB",
    help="Scratch memory for kernels; on a Jetson a quarter of what is free.",
)
@click.option("--optimization-level", type=click.IntRange(0, 5), help="How long TensorRT searches; its own default is 3.")
@signature_option
@click.option("--sign", "sign_key", type=click.Path(path_type=Path), metavar="KEY", help="Sign the result with this private key.")
@json_option
def compile(**values: Any) -> None:
    """Compile BUNDLE with this machine's TensorRT and keep the engine in it.

    Engines belong to one GPU and one TensorRT: do this once on the board, and again after a JetPack upgrade. INT8 is
    compiled with and without INT8 attention, checked and timed, and the faster right one is kept: lock the clocks first
    (sudo jetson_clocks).
    """
    from edgevit.bundle import is_bundle, read_signature, sign_bundle
    from edgevit.cli.console import ConsoleProgress, note, print_json
    from edgevit.commands.compile import compile_bundle
    from edgevit.engine.base import GraphUse
    from edgevit.engine.builder import BuildOptions
    from edgevit.progress import Progress

    path, as_json, workspace = values.pop("bundle"), values.pop("as_json"), values.pop("workspace")
    keys, sign_key = values.pop("keys"), values.pop("sign_key")
    options = BuildOptions(workspace=workspace and workspace * 2**20, **values)
    progress = Progress() if as_json else ConsoleProgress()
    was_signed = is_bundle(path) and read_signature(path) is not None
    with progress.stage("compile") as stage:
        bundle, built = compile_bundle(path, options, lambda *_: stage.advance(), keys=keys)
    if sign_key is not None:
        sign_bundle(bundle.path, sign_key)
    elif was_signed:
        note("the bundle's signature is gone, since its maker did not see this engine; --sign KEY gives it the device's own")
    if as_json:
        print_json({"bundle": str(bundle.path), "version": built.version, "seconds": built.seconds, "bytes": len(built.engine),
                    "warnings": built.warnings, "check": (bundle.manifest.compiled or {}).get("check"),
                    **{key: (bundle.manifest.compiled or {}).get(key) for key in ("form", "tried", "graph")},
                    "latency": bundle.manifest.latency, "notes": bundle.manifest.notes})  # fmt: skip
        return
    for text in (*built.warnings, *(text for text in bundle.manifest.notes if text.startswith(("plan: ", "compile: ")))):
        note(text)
    _print_tried(bundle.manifest.compiled or {})
    check = (bundle.manifest.compiled or {}).get("check")
    if check:
        close = f"{check['sqnr_db']:.0f} dB" if check["sqnr_db"] is not None else "identical"
        say(f"checked on {check['images']} samples: {100 * check['agreement']:.0f} % agreement with FP32, {close}")
    for text in _latency(bundle.manifest):
        say(text)
    if graph := (bundle.manifest.compiled or {}).get("graph"):
        say(f"CUDA graph: {GraphUse(**graph)}")
    say(f"{bundle.path}: engine of {len(built.engine) / 1e6:.1f} MB by {built.version} in {built.seconds:.0f} s")
    say(f"Classify with it: edgevit run {bundle.path} 0   (camera 0; or a video, a folder, an image)")


def _print_tried(compiled: dict[str, Any]) -> None:
    """What was tried beside what is kept, if anything was."""
    from edgevit.cli.console import table

    tried = compiled["tried"]
    if len(tried) < 2:
        return

    def cell(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def fate(item: dict[str, Any]) -> str:
        return "kept" if item["form"] == compiled["form"] else "wrong or refused" if item["failure"] else ""

    rows = [
        (item["form"], cell(item["p50_ms"], 2), cell(item["p99_ms"], 2), cell(item["kernels"], 0), cell(item["megabytes"], 1),
         cell(item["fused_attention"], 0), fate(item))
        for item in tried
    ]  # fmt: skip
    table("Tried on this machine", ("form", "p50 ms", "p99 ms", "kernels", "MB", "fused attention", ""), rows)


def _latency(manifest: Any) -> list[str]:
    """What was measured, and under what, in a line."""
    at = (manifest.latency or {}).get("conditions", {})
    time = (manifest.latency or {}).get(manifest.precision)
    if time is None:
        return []
    clock = f", GPU at {at['gpu_mhz']:.0f} MHz" if at.get("gpu_mhz") else ""
    mode = f", mode {at['mode']}" if at.get("mode") else ""
    return [f"measured: p50 {time['p50_ms']:.2f}, p90 {time['p90_ms']:.2f}, p99 {time['p99_ms']:.2f} ms an inference, "
            f"{time['runs']} of them ({at.get('device', '')}{mode}{clock})"]  # fmt: skip
