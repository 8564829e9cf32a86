"""The real-time loop: frame, prepare, infer, label."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from edgevit.engine.base import Session
from edgevit.errors import ConfigError, EngineError
from edgevit.preprocess import Preprocessing, prepare
from edgevit.problem import SINGLE_LABEL
from edgevit.runtime import classify
from edgevit.runtime.cameras import Camera
from edgevit.runtime.classify import Prediction
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.mailbox import Mailbox
from edgevit.runtime.region import Placing, Region
from edgevit.runtime.turns import Lost, Turns

if TYPE_CHECKING:
    from edgevit.engine.base import Features, Frames, Logits


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One classified frame. Durations in milliseconds."""

    frame: Frame
    predictions: tuple[Prediction, ...]
    """Likeliest first."""
    dropped: int
    """Frames of a live source that came after the previous result's and were overtaken by this one."""
    read_ms: float
    """Decoding a file's frame, or waiting for a live one."""
    prepare_ms: float
    infer_ms: float
    latency_ms: float
    """From capture to label."""
    finished: float
    """`time.perf_counter` seconds at which the label was known."""
    retries: int = 0
    """1 if the engine failed on this frame at first."""
    features: Features | None = None
    """[features], what the head saw; None if the bundle's graph does not give it."""
    camera: str | None = None
    """The name of the source; None of one alone that was given none."""


def classify_frames(
    source: Source,
    session: Session,
    contract: Preprocessing,
    labels: Sequence[str],
    *,
    top_k: int = 5,
    limit: int | None = None,
    problem_type: str = SINGLE_LABEL,
) -> Generator[Result, None, None]:
    """`classify_cameras` for one source that has no name, all of its picture."""
    return classify_cameras(
        [Camera(source=source)], session, contract, labels, top_k=top_k, limit=limit, problem_type=problem_type
    )  # fmt: skip


def classify_cameras(
    cameras: Sequence[Camera],
    session: Session,
    contract: Preprocessing,
    labels: Sequence[str],
    *,
    top_k: int = 5,
    limit: int | None = None,
    problem_type: str = SINGLE_LABEL,
    note: Callable[[str], None] = lambda _text: None,
    lost: Lost = lambda _name, _error: None,
) -> Generator[Result, None, None]:
    """Classify the frames of one source, or of several in turns (`edgevit.runtime.turns.Turns`), as they are asked for.

    Under `latest` a thread reads and this one prepares and infers the newest frame each time. Under `every` a file's next
    frame is read and prepared on a thread while the engine works on this one, where the engine leaves a processor core
    free: an engine on every core is only disturbed. The threads end with this iterator,
    however it is left.

    A session for batches gets so many frames at a time; the last may be fewer. A frame's ``infer_ms`` is then its share of
    the batch's.

    An engine that fails on a frame gets that frame once more: a second failure ends the run, because an engine that has lost its
    device keeps failing, and whoever supervises the program starts it anew.

    Args:
        cameras: open sources, at least one; the caller closes them. Of several each has a name of its own.
        session: a loaded model that takes ``contract.size``.
        contract: the model's preprocessing.
        labels: the names of the model's classes.
        top_k: how many predictions a result holds.
        limit: stop after so many results of each source.
        problem_type: what the logits mean, one of `edgevit.problem.PROBLEM_TYPES`.
        note: told in a line of a region that follows its camera to another size.
        lost: told of each of several sources that fails; the others go on.

    Raises:
        SourceError: the source failed midway; of several, the first that did, when all are over.
        ConfigError: a region is not within its source's picture, or the session is for batches and a source is live.
        EngineError: the engine failed twice on a frame or gave values that are not finite.
    """
    _refuse_batches(cameras, session)
    expected: dict[str | None, int] = {camera.name: 0 for camera in cameras}
    with _prepared(cameras, contract, limit, note, lost, ahead=session.threads < len(os.sched_getaffinity(0))) as inputs:
        for batch in _batches(inputs, session.batch):
            taken = time.perf_counter()
            logits, retries = _infer(session, batch)
            infer_ms = 1e3 * (time.perf_counter() - taken) / len(batch)
            features = session.features
            for place, each in enumerate(batch):
                predictions = classify.top_k(logits[place], labels, top_k, problem_type)
                finished = time.perf_counter()
                yield Result(
                    frame=each.frame,
                    predictions=predictions,
                    dropped=each.frame.index - expected[each.camera],
                    read_ms=each.read_ms,
                    prepare_ms=each.prepare_ms,
                    infer_ms=infer_ms,
                    latency_ms=1e3 * (finished - each.frame.captured),
                    finished=finished,
                    retries=retries,
                    features=None if features is None else features[place],
                    camera=each.camera,
                )
                expected[each.camera] = each.frame.index + 1


def _refuse_batches(cameras: Sequence[Camera], session: Session) -> None:
    for camera in cameras if session.batch > 1 else ():
        if camera.source.live:
            msg = f"--batch {session.batch}: {camera.called} is live, and its frames are classified at once. It is for files"
            raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Input:
    frame: Frame
    camera: str | None
    model_input: Frames
    """uint8 [1, H, W, 3]."""
    read_ms: float
    prepare_ms: float


@contextmanager
def _prepared(
    cameras: Sequence[Camera], contract: Preprocessing, limit: int | None, note: Callable[[str], None], lost: Lost, *, ahead: bool
) -> Iterator[Iterator[_Input]]:  # fmt: skip
    """The model's inputs, made ``ahead`` where nothing would be lost by it, else when they are taken."""
    with ExitStack() as stack:
        ahead = ahead and not any(camera.source.live or camera.source.policy == "latest" for camera in cameras)
        if len(cameras) > 1:
            frames: Iterable[tuple[Camera, Frame]] = stack.enter_context(Turns(cameras, limit=limit, lost=lost))
        else:
            (camera,) = cameras
            taken = camera.source if ahead else stack.enter_context(frames_of(camera.source))
            frames = ((camera, frame) for frame in islice(taken, limit))
        inputs = _inputs(frames, contract, _placings(cameras, note))
        yield iter(stack.enter_context(Mailbox(inputs, overtake=False))) if ahead else inputs


@contextmanager
def frames_of(
    source: Source, region: Region | None = None, note: Callable[[str], None] = lambda _text: None
) -> Iterator[Iterable[Frame]]:
    """The frames of an open source as its policy has them, when they are taken: under `latest` the newest each time.

    With ``region``, each has it; ``note`` is told where it follows another size.
    """
    with ExitStack() as stack:
        frames: Iterable[Frame] = source
        if source.policy == "latest" and not source.captures:  # else nothing is overtaken, or the source does it
            frames = stack.enter_context(Mailbox(source))
        yield frames if region is None else map(Placing(region, source, note), frames)


def _placings(cameras: Sequence[Camera], note: Callable[[str], None]) -> dict[str | None, Placing]:
    return {camera.name: Placing(camera.region, camera.source, note) for camera in cameras if camera.region is not None}


def _inputs(
    frames: Iterable[tuple[Camera, Frame]], contract: Preprocessing, placings: Mapping[str | None, Placing]
) -> Iterator[_Input]:  # fmt: skip
    asked = time.perf_counter()
    for camera, taken in frames:
        read = time.perf_counter()
        placing = placings.get(camera.name)
        frame = taken if placing is None else placing(taken)
        model_input = prepare(frame.seen, contract)[None]
        prepared = time.perf_counter()
        read_ms, prepare_ms = 1e3 * (read - asked), 1e3 * (prepared - read)
        yield _Input(frame=frame, camera=camera.name, model_input=model_input, read_ms=read_ms, prepare_ms=prepare_ms)
        # Stamped after the yield: what becomes of an input meanwhile is not reading.
        asked = time.perf_counter()


def _batches(inputs: Iterator[_Input], size: int) -> Iterator[list[_Input]]:
    while batch := list(islice(inputs, size)):
        yield batch


def _infer(session: Session, batch: Sequence[_Input]) -> tuple[Logits, int]:
    """Logits [N, classes] of a batch, and how often it had to be tried again."""
    model_input = batch[0].model_input if len(batch) == 1 else np.concatenate([each.model_input for each in batch])
    try:
        return session.infer(model_input), 0
    except EngineError:
        return session.infer(model_input), 1
