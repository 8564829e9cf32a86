"""``edgevit run``: classify what a camera, a video, a folder or an image shows."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from edgevit.cli.files import Writing
from edgevit.cli.options import graph_option, json_option, signature_option, threads_option
from edgevit.cli.outputs import decider_of, open_outputs, output_options
from edgevit.cli.say import say
from edgevit.cli.sources import open_asked, source_options
from edgevit.errors import EdgevitError


@click.command(cls=Writing)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--engine", help="openvino, onnxruntime or tensorrt; the bundle's own by default.")
@threads_option
@graph_option
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, help="Predictions shown per frame.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many frames.")
@source_options
@output_options
@click.option(
    "--telemetry/--no-telemetry", default=True, show_default=True, help="Record power, clocks, load and heat once a second."
)
@signature_option
@json_option
def run(**values: Any) -> None:
    """Classify SOURCE with BUNDLE.

    With --json every frame is one line of JSON on stdout and the summary is the last. Ctrl-C or SIGTERM ends the run with its
    summary, a second at once.
    """
    from edgevit.bundle import open_bundle
    from edgevit.cli.console import note
    from edgevit.device.telemetry import open_telemetry
    from edgevit.engine.of_bundle import session_of
    from edgevit.runtime.loop import classify_frames
    from edgevit.runtime.stopping import stoppable
    from edgevit.runtime.summary import Summary

    bundle = open_bundle(values["bundle"], values["keys"])
    manifest = bundle.manifest
    decider = decider_of(values, bundle)
    failure: EdgevitError | None = None
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        source = stack.enter_context(open_asked(values))
        session = stack.enter_context(session_of(bundle, values["engine"], threads=values["threads"], graph=values["graph"]))
        for text in session.warnings:
            note(text)
        telemetry = stack.enter_context(open_telemetry()) if values["telemetry"] else None
        for text in telemetry.notes if telemetry else ():
            note(text)
        sample = telemetry.sample if telemetry else None
        outputs = stack.enter_context(open_outputs(source, session, bundle, values, sample))
        summary = Summary(source)
        results = classify_frames(
            source, session, manifest.preprocessing, manifest.labels, top_k=decider.wanted, limit=values["limit"],
            problem_type=manifest.problem_type,
        )  # fmt: skip
        try:
            for result in stack.enter_context(closing(results)):
                decision = decider(result)
                summary.add(decision)
                if not outputs(decision):
                    break
        except KeyboardInterrupt:
            say("", err=True)
        except EdgevitError as error:
            failure = error
    if failure is None or summary.frames:
        _finish(summary, telemetry, f"{session.engine} on {session.device}, {session.threads} threads", outputs, values)
    if failure is not None:
        raise failure
    outputs.check()


def _finish(summary: Any, telemetry: Any, engine: str, outputs: Any, values: dict[str, Any]) -> None:
    from edgevit.cli.console import print_json
    from edgevit.device.telemetry import lines

    recorded = telemetry.summary(summary.frames) if telemetry else None
    if values["as_json"]:
        document = summary.to_dict() | ({"telemetry": recorded} if recorded else {})
        deliveries = [each.to_dict() for each in outputs.deliveries]
        print_json({"summary": document, "engine": engine, "outputs": deliveries}, indent=None)
    else:
        machine = lines(recorded) if recorded else []
        deliveries = [each.line() for each in outputs.deliveries]
        say(*summary.lines(), *machine, f"engine            {engine}", *deliveries)
    if values["save"] is not None and summary.frames:
        say(f"annotated video: {values['save']}", err=True)
