"""``edgevit run``: classify what a camera, a video, a folder or an image shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import click

from edgevit.cli.options import json_option, threads_option
from edgevit.cli.sources import open_asked, source_options
from edgevit.errors import EdgevitError


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--engine", help="openvino, onnxruntime or tensorrt; the bundle's own by default.")
@threads_option
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, help="Predictions shown per frame.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many frames.")
@source_options
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the annotated video: .mp4 or .avi.")
@click.option("--headless", is_flag=True, help="Open no window, even on a display.")
@json_option
def run(**values: Any) -> None:
    """Classify SOURCE with BUNDLE.

    \b
    SOURCE is a camera (0, /dev/video0, usb://0, csi://0), a stream
    (rtsp://HOST/PATH), a GStreamer pipeline (gst:PIPELINE), a video file, a
    folder of images, an image, or test:// (a synthetic pattern). With --json
    every frame is one line of JSON on stdout and the summary is the last.
    Ctrl-C or SIGTERM ends the run with its summary, a second at once.
    """
    from edgevit.bundle import open_bundle
    from edgevit.cli.console import note
    from edgevit.engine.of_bundle import session_of
    from edgevit.runtime.loop import classify_frames
    from edgevit.runtime.stopping import stoppable
    from edgevit.runtime.summary import Summary

    bundle = open_bundle(values["bundle"])
    manifest = bundle.manifest
    failure: EdgevitError | None = None
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        source = stack.enter_context(open_asked(values))
        session = stack.enter_context(session_of(bundle, values["engine"], threads=values["threads"]))
        for text in session.warnings:
            note(text)
        sinks = [stack.enter_context(closing(sink)) for sink in _sinks(source, manifest.precision, values)]
        summary = Summary(source)
        results = classify_frames(
            source, session, manifest.preprocessing, manifest.labels, top_k=values["top_k"], limit=values["limit"]
        )
        try:
            for result in stack.enter_context(closing(results)):
                summary.add(result)
                # A list: every sink sees the last result, too.
                if False in [sink(result) for sink in sinks]:
                    break
        except KeyboardInterrupt:
            click.echo("", err=True)
        except EdgevitError as error:
            failure = error
    if failure is None or summary.frames:
        _finish(summary, f"{session.engine} on {session.device}, {session.threads} threads", values)
    if failure is not None:
        raise failure


def _sinks(source: Any, precision: str, values: dict[str, Any]) -> Iterator[Any]:
    from edgevit.runtime.sinks import JsonLines, Overlays, VideoSink, WindowSink, has_display

    yield JsonLines(sys.stdout) if values["as_json"] else _Lines(moving=source.fps is not None)
    screens: list[Any] = []
    if values["save"] is not None:
        screens.append(VideoSink(values["save"], fps=source.fps or 30.0))
    if not values["headless"] and has_display():
        screens.append(WindowSink())
    if screens:
        yield Overlays(screens, precision=precision)


class _Lines:
    """For people: one line that follows the frames on a terminal; in a log a line per picture, per second of what moves."""

    def __init__(self, *, moving: bool) -> None:
        from edgevit.runtime.latency import Rate

        self._rate = Rate()
        self._ending = "\r" if sys.stdout.isatty() else "\n"
        self._interval = 1.0 if moving and self._ending == "\n" else 0.0
        self._due = 0.0

    def __call__(self, result: Any) -> bool:
        """Print one result, if it is due."""
        self._rate.add(result.finished)
        if result.finished < self._due:
            return True
        self._due = result.finished + self._interval
        best, fps = result.predictions[0], self._rate.per_second
        speed = f"{fps:6.1f} fps" if fps else " " * 10
        stages = f"read {result.read_ms:.1f}  prepare {result.prepare_ms:.1f}  infer {result.infer_ms:.1f} ms"
        line = f"{result.frame.name}  {best.label} {100 * best.confidence:.1f} %  {speed}  {stages}"
        click.echo(f"{line:<110}{self._ending}", nl=False)
        return True

    def close(self) -> None:
        """Leave the last line standing."""
        if self._ending == "\r":
            click.echo()


def _finish(summary: Any, engine: str, values: dict[str, Any]) -> None:
    import json

    if values["as_json"]:
        click.echo(json.dumps({"summary": summary.to_dict(), "engine": engine}, ensure_ascii=False))
    else:
        click.echo("\n".join([*summary.lines(), f"engine            {engine}"]))
    if values["save"] is not None and summary.frames:
        click.echo(f"annotated video: {values['save']}", err=True)
