"""``edgevit profile``: where a frame's time goes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgevit.cli.command import Command
from edgevit.cli.options import engine_device_option, graph_option, json_option, threads_option
from edgevit.cli.say import say


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", default="test://640x480")
@click.option("--engine", help="openvino, onnxruntime or tensorrt; the bundle's own by default.")
@click.option("--runs", type=click.IntRange(5), default=50, show_default=True, help="Timed frames.")
@engine_device_option
@threads_option
@graph_option
@json_option
def profile(**values: Any) -> None:
    """Time every stage of a frame's way through BUNDLE, and every part of the model where the engine tells.

    SOURCE is what `edgevit run` reads; a synthetic picture by default.
    """
    from dataclasses import asdict

    from edgevit.bundle import open_bundle
    from edgevit.cli.console import ConsoleProgress, print_json
    from edgevit.commands.profile import profile_bundle
    from edgevit.engine.of_bundle import session_of
    from edgevit.measure import machine
    from edgevit.progress import Progress
    from edgevit.runtime.source import open_source

    bundle = open_bundle(values["bundle"])
    progress = Progress() if values["as_json"] else ConsoleProgress()
    load = machine.load()
    with (
        open_source(values["source"], loop=True) as source,
        session_of(
            bundle, values["engine"], threads=values["threads"], graph=values["graph"], device=values["device"]
        ) as session,
    ):
        found = profile_bundle(
            bundle, source, session, values["engine"], threads=values["threads"], runs=values["runs"], progress=progress,
            device=values["device"],
        )  # fmt: skip
        where = {"source": source.description, "engine": session.engine, "device": session.device, "threads": session.threads,
                 "graph": asdict(session.graph) if session.graph else None}  # fmt: skip
        about_graph = [f"CUDA graph: {session.graph}"] if session.graph else []
    where |= {"clock": machine.clock(), "load": load, "runs": values["runs"]}
    if values["as_json"]:
        print_json({**asdict(found), "conditions": where})
    else:
        _print(bundle, found, where)
        say(*about_graph)


def _print(bundle: Any, found: Any, where: dict[str, Any]) -> None:
    from edgevit.cli.console import table
    from edgevit.measure.parts import by_part

    rows = [(stage.name, f"{stage.p50_ms:.2f}", f"{stage.p90_ms:.2f}", f"{100 * stage.share:.1f}") for stage in found.stages]
    say(where["source"])
    table("", ("stage", "p50 ms", "p90 ms", "share %"), rows)
    if found.parts:
        parts = by_part(found.parts)
        total = sum(parts.values())
        lines = [(part, f"{milliseconds:.2f}", f"{100 * milliseconds / total:.1f}") for part, milliseconds in parts.items()]
        say("", "infer, by the engine's own profiler, which slows it: trust shares")
        table("", ("part", "ms", "share %"), lines)
    else:
        say(found.without)
    say(
        f"{bundle.manifest.precision}, {where['engine']}, {where['threads']} threads, {where['device']} ({where['clock']}, load "
        f"{where['load']:g} before); {where['runs']} frames."
    )
