"""``edgevit run``: classify what a camera, a video, a folder or an image shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.files import Writing
from edgevit.cli.options import engine_device_option, graph_option, json_option, signature_option, threads_option
from edgevit.cli.outputs import decider_of, open_outputs, output_options
from edgevit.cli.say import say
from edgevit.cli.sources import open_asked_cameras, roi_option, source_options
from edgevit.errors import EdgevitError, SourceError

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.runtime.cameras import Camera
    from edgevit.runtime.sinks.state import StateFile
    from edgevit.runtime.summaries import Summaries
    from edgevit.runtime.summary import Summary


@click.command(cls=Writing)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--engine", help="openvino, onnxruntime or tensorrt; the bundle's own by default.")
@engine_device_option
@threads_option
@graph_option
@click.option(
    "--batch",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Frames an inference, of folders and videos: for GPUs, and for models so small that calls count.",
)
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, help="Predictions shown per frame.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many frames, of several sources of each.")
@source_options
@roi_option
@output_options
@click.option(
    "--telemetry/--no-telemetry", default=True, show_default=True, help="Record power, clocks, load and heat once a second."
)
@signature_option
@json_option
def run(**values: Any) -> None:
    """Classify SOURCE, or several in turns on one engine, with BUNDLE.

    With --json every frame is one line of JSON on stdout and the summary is the last. Ctrl-C or SIGTERM ends the run with its
    summary, a second at once.
    """
    from edgevit.bundle import open_bundle
    from edgevit.cli.state import open_state

    bundle = open_bundle(values["bundle"], values["keys"])
    with open_state(bundle, values) as state:
        _classify(bundle, values, state)


def _classify(bundle: Bundle, values: dict[str, Any], state: StateFile | None) -> None:
    from edgevit.cli.console import note
    from edgevit.device.telemetry import open_telemetry
    from edgevit.engine.of_bundle import session_of
    from edgevit.runtime.loop import classify_cameras
    from edgevit.runtime.opening import close_together
    from edgevit.runtime.stopping import stoppable

    manifest = bundle.manifest
    decider = decider_of(values, bundle)
    lost = _Lost()
    failure: EdgevitError | None = None
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        cameras = stack.enter_context(open_asked_cameras(values, lost))
        session = stack.enter_context(
            session_of(
                bundle, values["engine"], threads=values["threads"], graph=values["graph"], device=values["device"],
                batch=values["batch"],
            )
        )  # fmt: skip
        for text in session.warnings:
            note(text)
        telemetry = stack.enter_context(open_telemetry()) if values["telemetry"] else None
        for text in telemetry.notes if telemetry else ():
            note(text)
        sample = telemetry.sample if telemetry else None
        outputs = stack.enter_context(open_outputs(cameras, session, bundle, values, sample))
        summary = _summary(cameras, lost)
        lost.tell(outputs.lose)
        if state is not None:
            outputs.sinks.append(state)
            sources = [camera.source for camera in cameras]
            state.watch(sources, f"{session.engine} on {session.device}", outputs.all_deliveries, sample)
            lost.tell(state.lose)
        # Smoothing and what is usual are each camera's own.
        deciders = {camera.name: decider_of(values, bundle) for camera in cameras}
        results = classify_cameras(
            cameras, session, manifest.preprocessing, manifest.labels, top_k=decider.wanted, limit=values["limit"],
            problem_type=manifest.problem_type, note=note, lost=lost,
        )  # fmt: skip
        try:
            for result in stack.enter_context(closing(results)):
                decision = deciders[result.camera](result)
                summary.add(decision)
                if not outputs(decision):
                    break
        except KeyboardInterrupt:
            say("", err=True)
        except EdgevitError as error:
            failure = error
        finally:
            close_together(camera.source for camera in cameras)  # whoever still waits for a frame ends with it
    failure = failure or lost.first
    if failure is None or summary.frames:
        _finish(summary, telemetry, f"{session.engine} on {session.device}, {session.threads} threads", outputs, values)
    if failure is not None:
        raise failure
    outputs.check()


class _Lost:
    """Of several cameras, those that are gone for good: said at once, and told again in the end."""

    def __init__(self) -> None:
        self._errors: dict[str, SourceError] = {}
        self._listeners: list[Callable[[str, str], None]] = []

    def __call__(self, name: str, error: SourceError) -> None:
        """Note and say that a camera is lost."""
        from edgevit.cli.console import note

        self._errors[name] = error
        note(f"{name}: {str(error).rstrip('.')}. The others go on")
        for listener in self._listeners:
            listener(name, str(error))

    def tell(self, listener: Callable[[str, str], None]) -> None:
        """Tell ``listener`` of every camera that was lost, and will be."""
        for name, error in self._errors.items():
            listener(name, str(error))
        self._listeners.append(listener)

    @property
    def first(self) -> SourceError | None:
        """The first of their errors."""
        return next(iter(self._errors.values()), None)


def _summary(cameras: list[Camera], lost: _Lost) -> Summary | Summaries:
    """Of one camera as ever; of several, or those that are left of several, with a row of each."""
    from edgevit.runtime.summaries import Summaries
    from edgevit.runtime.summary import Summary

    if len(cameras) == 1 and lost.first is None:
        return Summary(cameras[0].source)
    several = Summaries(cameras)
    lost.tell(several.lose)
    return several


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
        for path in outputs.videos:
            say(f"annotated video: {path}", err=True)
