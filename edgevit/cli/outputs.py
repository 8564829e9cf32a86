"""The options of ``edgevit run`` that say what becomes of a label, and what they open."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgevit.cli.files import OutputFile, OutputFolder
from edgevit.cli.say import say
from edgevit.errors import ConfigError, StorageError
from edgevit.files.own_kinds import FEATURES, RESULTS, STATE, TABLE, VIDEO

if TYPE_CHECKING:
    from edgevit.attention_maps.probe import Glance
    from edgevit.bundle import Bundle, Manifest
    from edgevit.engine.base import Session
    from edgevit.preview.server import Preview
    from edgevit.preview.telemetry import Sample
    from edgevit.runtime.cameras import Camera
    from edgevit.runtime.decide import Decider, Decision
    from edgevit.runtime.metrics import RunMetrics
    from edgevit.runtime.sinks.base import Delivery, Receiver, Sink
    from edgevit.runtime.sinks.guard import Guarded

Command = TypeVar("Command", bound=Callable[..., Any])

QUEUED_LINES = 256
"""Results that wait for a slow file: seconds of a camera, a fraction of a megabyte."""
QUEUED_PICTURES = 8
"""Pictures that wait for the video."""

OPTIONS = (
    click.option(
        "--threshold",
        multiple=True,
        metavar="P|LABEL=P",
        help="Below this confidence, 0.6 or 60%, the label is 'unknown'; of a multi-label model, it is not there (0.5 by "
        "default). May be given again, for single labels.",
    ),
    click.option(
        "--unknown",
        metavar="auto|SHARE",
        help="Call 'unknown' what is unlike the images that the bundle was built with, and at most this share of what is like "
        "them: 0.02 or 2%; auto is 1%. Of a bundle built with --unknown.",
    ),
    click.option(
        "--smooth", metavar="N|KIND:N", help="Over N frames: ema:N, or N, averages confidences, majority:N counts labels."
    ),
    click.option("--save", type=OutputFile(VIDEO), help="Write the annotated video: .mp4 or .avi."),
    click.option(
        "--overlay",
        type=click.Choice(["off", "label", "full"]),
        default="label",
        show_default=True,
        help="On video and window: nothing, a strip with the label, or all predictions with bars.",
    ),
    click.option(
        "--overlay-position", type=click.Choice(["top", "bottom"]), default="top", show_default=True, help="Where that is."
    ),
    click.option("--headless", is_flag=True, help="Open no window, even on a display."),
    click.option("--jsonl", type=OutputFile(RESULTS), help="Append a line of JSON per frame."),
    click.option(
        "--features",
        type=OutputFile(FEATURES),
        help="Write what the head saw of every frame to this .npz, for search "
        "and clustering; of a bundle that was built with --features.",
    ),
    click.option("--csv", type=OutputFile(TABLE), help="Append a row of CSV per frame."),
    click.option("--serve", metavar="HOST:PORT", help="Serve a live page; other than on 127.0.0.1 it wants a token."),
    click.option("--serve-token", envvar="EDGEVIT_SERVE_TOKEN", help="Its token; made if needed. Also $EDGEVIT_SERVE_TOKEN."),
    click.option("--attention", metavar="MAP", help="On that page, where the model looks: rollout, last or a block's number."),
    click.option(
        "--metrics", metavar="HOST:PORT", help="Serve /metrics for Prometheus; other than on 127.0.0.1 it wants a token of yours."
    ),
    click.option("--metrics-token", envvar="EDGEVIT_METRICS_TOKEN", help="That token. Also $EDGEVIT_METRICS_TOKEN."),
    click.option(
        "--state",
        type=OutputFile(STATE, parents=True),
        envvar="EDGEVIT_STATE",
        help="Keep this file up to date, every second: rate, latency, errors, temperature; for edgevit healthcheck and fleet. "
        "Best in memory, as under /run. Also $EDGEVIT_STATE.",
    ),
    click.option("--snapshot", type=OutputFolder(), help="At an event, save the picture here."),
    click.option("--snapshot-limit", type=click.IntRange(1), default=1000, show_default=True, help="Pictures there, at most."),
    click.option("--on-label", metavar="COMMAND", help="At an event, run this, without a shell; it reads $EDGEVIT_LABEL."),
    click.option("--webhook", metavar="URL", envvar="EDGEVIT_WEBHOOK", help="At an event, post JSON. Also $EDGEVIT_WEBHOOK."),
    click.option(
        "--mqtt", metavar="URL", envvar="EDGEVIT_MQTT", help="At an event, publish to mqtt://HOST/TOPIC. Also $EDGEVIT_MQTT."
    ),
    click.option(
        "--when",
        multiple=True,
        metavar="CONDITION",
        help="What is an event, such as 'label=crack,confidence>80%'; given twice, either is. By default: changed.",
    ),
    click.option(
        "--every",
        type=click.FloatRange(0),
        default=1.0,
        show_default=True,
        help="Least seconds between two events of a label.",
    ),
)


def output_options(command: Command) -> Command:
    """Add the options that `open_outputs` and `decider_of` read."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def decider_of(values: dict[str, Any], bundle: Bundle) -> Decider:
    """What turns results into decisions, as the options have it. Raises ConfigError for an option that does not fit the model."""
    from edgevit.problem import MULTI_LABEL
    from edgevit.runtime.decide import Decider
    from edgevit.runtime.smoothing import parse_smoothing
    from edgevit.runtime.threshold import parse_thresholds
    from edgevit.runtime.unknown import rate_of

    manifest, known = bundle.manifest, bundle.known()
    thresholds = parse_thresholds(values["threshold"], manifest.labels, manifest.problem_type)
    several = thresholds if manifest.problem_type == MULTI_LABEL else None
    smoothing = parse_smoothing(values["smooth"], several) if values["smooth"] else None
    return Decider(
        smoothing=smoothing, threshold=thresholds, top_k=values["top_k"], problem_type=manifest.problem_type, known=known,
        unknown=rate_of(values["unknown"], known),
    )  # fmt: skip


class Outputs:
    """Every sink that the options ask for, and what became of what it got."""

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.receivers: list[Receiver] = []
        self.guards: list[Guarded[Any]] = []
        self.preview: Preview | None = None
        self.videos: list[Path] = []

    def __call__(self, decision: Decision) -> bool:
        """Hand on one decision; False once any sink asks to end."""
        # A list: every sink sees the last decision, too.
        return False not in [sink(decision) for sink in self.sinks]

    def lose(self, camera: str, error: str) -> None:
        """Show that a camera is gone for good, and why."""
        if self.preview is not None:
            self.preview.lose(camera, error)

    @property
    def deliveries(self) -> list[Delivery]:
        """Of the events' receivers, and of other outputs that lost something."""
        lossy = [guard.delivery for guard in self.guards if not guard.delivery.complete]
        return [*(receiver.delivery for receiver in self.receivers), *lossy]

    def all_deliveries(self) -> list[Delivery]:
        """Of all outputs that tell. Safe from any thread."""
        return [*(receiver.delivery for receiver in self.receivers), *(guard.delivery for guard in self.guards)]

    def check(self) -> None:
        """Raise StorageError if a file is not what the run should have made of it."""
        for guard in self.guards:
            if not guard.delivery.complete:
                lost = guard.delivery.failed + guard.delivery.dropped
                msg = f"{guard.delivery.name}: {lost} of the run's results are missing from it: {guard.delivery.error}"
                raise StorageError(msg)


@contextmanager
def open_outputs(
    cameras: Sequence[Camera], session: Session, bundle: Bundle, values: dict[str, Any], sample: Sample | None = None
) -> Iterator[Outputs]:
    """Open all that the options ask for, and close it again, whatever happens; ``sample`` gives the page the device's state."""
    from contextlib import ExitStack, closing

    from edgevit.cli.metrics import metrics_of, serving
    from edgevit.runtime.sinks.per_camera import PerCamera

    outputs = Outputs()
    metrics = metrics_of(cameras, session, bundle, values, sample, outputs.all_deliveries)
    with ExitStack() as stack:
        if metrics is not None:
            outputs.sinks.append(PerCamera({each.camera: each.tally for each in metrics.cameras}))
        for sink in _sinks(outputs, cameras, bundle.manifest, values):
            outputs.sinks.append(stack.enter_context(closing(sink)))
        if (preview := _preview(cameras, session, bundle, values, sample, metrics)) is not None:
            outputs.preview = stack.enter_context(closing(preview))
            outputs.sinks.append(preview)
        stack.enter_context(serving(metrics, values))
        yield outputs


def _sinks(outputs: Outputs, cameras: Sequence[Camera], manifest: Manifest, values: dict[str, Any]) -> Iterator[Sink]:
    from edgevit.cli.console import note
    from edgevit.problem import MULTI_LABEL
    from edgevit.runtime.notify import open_notifier
    from edgevit.runtime.sinks.behind import Behind, without_picture
    from edgevit.runtime.sinks.features import FeatureFile
    from edgevit.runtime.sinks.guard import Guarded
    from edgevit.runtime.sinks.lines import CsvFile, JsonFile, JsonLines
    from edgevit.runtime.sinks.per_camera import PerCamera
    from edgevit.runtime.sinks.screens import Overlays, WindowSink, has_display
    from edgevit.runtime.sinks.video import VideoSink

    named = cameras[0].name is not None

    def guarded(output: Any, name: object, *, retry: bool = True) -> Guarded[Any]:
        outputs.guards.append(Guarded(output, str(name), note=note, retry=retry))
        return outputs.guards[-1]

    def behind(output: Any, **options: Any) -> Sink:
        return Behind(output, outputs.guards[-1].delivery, note=note, wait=_waits(cameras), **options)

    def drawn_on(screen: Any, camera: Camera) -> Overlays:
        paced = camera.source.policy == "every" and not camera.source.live
        return Overlays(
            [screen], precision=manifest.precision, overlay=values["overlay"], position=values["overlay_position"], paced=paced,
            fps=camera.source.fps,
        )  # fmt: skip

    def video(camera: Camera) -> Sink:
        path = _of_camera(values["save"], camera, several=len(values["source"]) > 1)
        outputs.videos.append(path)
        screen = guarded(VideoSink(path, fps=camera.source.fps or 30.0), path, retry=False)
        return behind(drawn_on(screen, camera), size=QUEUED_PICTURES)

    def window(camera: Camera) -> Sink:
        title = "window" if camera.name is None else f"window {camera.name}"
        shown = WindowSink() if camera.name is None else WindowSink(f"edgevit {camera.name}")
        return drawn_on(guarded(shown, title, retry=False), camera)

    yield JsonLines(sys.stdout) if values["as_json"] else Lines(moving=_move(cameras), several=len(cameras) > 1)
    if notifier := open_notifier():
        yield notifier
    if (path := values["jsonl"]) is not None:
        yield behind(guarded(JsonFile(path), path), size=QUEUED_LINES, keep=without_picture)
    if (path := values["csv"]) is not None:
        rows = CsvFile(path, multi_label=manifest.problem_type == MULTI_LABEL, rarity=manifest.known is not None, cameras=named)
        yield behind(guarded(rows, path), size=QUEUED_LINES, keep=without_picture)
    if (path := values["features"]) is not None:
        if manifest.features is None:
            msg = "--features: this bundle gives none. Build it with: edgevit build MODEL --features"
            raise ConfigError(msg)
        yield FeatureFile(path)
    if values["save"] is not None:
        yield PerCamera({camera.name: video(camera) for camera in cameras})
    if not values["headless"] and has_display():
        yield PerCamera({camera.name: window(camera) for camera in cameras})
    yield from _events(outputs, cameras, manifest, values)


def _waits(cameras: Sequence[Camera]) -> bool:
    """Whether what is classified waits for its outputs: files do; a camera does not, nor do files beside one."""
    return all(camera.source.policy == "every" for camera in cameras)


def _move(cameras: Sequence[Camera]) -> bool:
    return any(camera.source.fps is not None for camera in cameras)


def _of_camera(path: Path, camera: Camera, *, several: bool) -> Path:
    """The file of one of several cameras: ``line.mp4`` becomes ``line-gate.mp4``."""
    return path.with_name(f"{path.stem}-{camera.name}{path.suffix}") if several else path


def _preview(
    cameras: Sequence[Camera], session: Session, bundle: Bundle, values: dict[str, Any], sample: Sample | None,
    metrics: RunMetrics | None,
) -> Preview | None:  # fmt: skip
    if values["serve"] is None:
        if values["attention"] is not None:
            msg = "--attention is shown on the page: it goes with --serve HOST:PORT"
            raise ConfigError(msg)
        if values["serve_token"] is not None and "EDGEVIT_SERVE_TOKEN" not in os.environ:
            msg = "--serve-token goes with --serve HOST:PORT"
            raise ConfigError(msg)
        return None
    from edgevit.cli.console import note
    from edgevit.cli.metrics import on_the_page
    from edgevit.cli.sources import absent
    from edgevit.preview.server import Preview

    glance = _glance(bundle, values["attention"]) if values["attention"] is not None else None
    info = {
        "model": bundle.manifest.name,
        "precision": bundle.manifest.precision,
        "engine": f"{session.engine} on {session.device}",
    }
    if glance is not None:
        info["attention_map"] = glance.title
    preview = Preview(
        values["serve"], info=info, token=values["serve_token"], telemetry=sample, attention=glance, metrics=on_the_page(metrics),
        sources={camera.name: camera.source.description for camera in cameras} | absent(values["source"], cameras),
    )  # fmt: skip
    note(f"preview: {preview.url}")
    return preview


def _glance(bundle: Bundle, part: str) -> Glance:
    from edgevit.attention_maps.probe import Glance
    from edgevit.bundle import MODEL

    return Glance(bundle.read(MODEL), bundle.manifest.model, bundle.manifest.preprocessing, part)


def _events(outputs: Outputs, cameras: Sequence[Camera], manifest: Manifest, values: dict[str, Any]) -> Iterator[Sink]:
    from edgevit.cli.console import note
    from edgevit.problem import MULTI_LABEL
    from edgevit.runtime.sinks.condition import CHANGED, Gate, parse_condition
    from edgevit.runtime.sinks.events import Events
    from edgevit.runtime.sinks.label_gate import LabelGate
    from edgevit.runtime.sinks.per_camera import PerCamera

    several = manifest.problem_type == MULTI_LABEL
    conditions = [parse_condition(text, manifest.labels, multi_label=several) for text in values["when"] or [CHANGED]]
    if values["top_k"] < 2 and any("margin" in text for text in values["when"]):
        msg = "--when margin... looks at two classes: not with --top-k 1"
        raise ConfigError(msg)
    makers: dict[str, Callable[[Any], Receiver]] = {
        "snapshot": lambda folder: _snapshots(folder, values["snapshot_limit"], note, wait=_waits(cameras)),
        "on_label": lambda command: _command(command, note),
        "webhook": lambda url: _webhook(url, note),
        "mqtt": lambda url: _mqtt(url, note),
    }
    wanted = {name: values[name] for name in makers if values[name] is not None}
    if not wanted:
        if values["when"]:
            msg = "--when needs something to do at the event: --snapshot, --on-label, --webhook or --mqtt"
            raise ConfigError(msg)
        return
    gate = LabelGate if several else Gate
    # Whether a label has changed is each camera's own question.
    yield PerCamera({camera.name: Events(gate(conditions, every=values["every"]), outputs.receivers) for camera in cameras})
    for name, value in wanted.items():
        outputs.receivers.append(makers[name](value))


def _snapshots(folder: Path, limit: int, note: Callable[[str], None], *, wait: bool) -> Receiver:
    from edgevit.runtime.sinks.snapshot import Snapshots

    return Snapshots(folder, limit=limit, note=note, wait=wait)


def _command(command: str, note: Callable[[str], None]) -> Receiver:
    from edgevit.runtime.sinks.command import Command

    return Command(command, note=note)


def _webhook(url: str, note: Callable[[str], None]) -> Receiver:
    from edgevit.runtime.sinks.webhook import Webhook

    return Webhook(url, note=note)


def _mqtt(url: str, note: Callable[[str], None]) -> Receiver:
    from edgevit.runtime.sinks.mqtt import Mqtt

    return Mqtt(url, note=note)


class Lines:
    """For people: one line that follows the frames on a terminal; in a log a line per picture, per second of what moves.

    Of several cameras, a line of each.
    """

    def __init__(self, *, moving: bool, several: bool = False) -> None:
        from edgevit.runtime.latency import Rate

        self._rates: dict[str | None, Rate] = defaultdict(Rate)
        self._ending = "\r" if sys.stdout.isatty() and not several else "\n"
        self._interval = 1.0 if moving and self._ending == "\n" else 0.0
        self._due: dict[str | None, float] = {}

    def __call__(self, decision: Decision) -> bool:
        """Print one decision, if it is due."""
        rate = self._rates[decision.camera]
        rate.add(decision.finished)
        if decision.finished < self._due.get(decision.camera, 0.0):
            return True
        self._due[decision.camera] = decision.finished + self._interval
        fps, there = rate.per_second, decision.labels or (decision.best,)
        labels = ", ".join(f"{each.label} {100 * each.confidence:.1f} %" for each in there)
        if not decision.labels:  # the confidence is of a label that is not there, or not believed
            first = decision.predictions[0]
            seen = "" if decision.multi_label else f" (likeliest: {first.label} {100 * first.confidence:.1f} %)"
            labels = f"{decision.best.label}{seen}"
        speed = f"{fps:6.1f} fps" if fps else " " * 10
        stages = f"read {decision.read_ms:.1f}  prepare {decision.prepare_ms:.1f}  infer {decision.infer_ms:.1f} ms"
        called = "" if decision.camera is None else f"{decision.camera}  "
        line = f"{called}{decision.frame.name}  {labels}  {speed}  {stages}"
        say(f"{line:<110}", end=self._ending)
        return True

    def close(self) -> None:
        """Leave the last line standing."""
        if self._ending == "\r":
            say()
