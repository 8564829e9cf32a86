"""The real-time loop: frame, prepare, infer, label."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from edgevit.engine.base import Session
from edgevit.errors import EngineError
from edgevit.preprocess import Preprocessing, prepare
from edgevit.problem import SINGLE_LABEL
from edgevit.runtime import classify
from edgevit.runtime.classify import Prediction
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.mailbox import Mailbox

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
    """Classify the frames of ``source`` as they are asked for.

    Under `latest` a thread reads and this one prepares and infers the newest frame each time. Under `every` a file's next
    frame is read and prepared on a thread while the engine works on this one, where the engine leaves a processor core
    free: an engine on every core is only disturbed. The threads end with this iterator,
    however it is left.

    An engine that fails on a frame gets that frame once more: a second failure ends the run, because an engine that has lost
    its device keeps failing, and whoever supervises the program starts it anew.

    Args:
        source: an open source; the caller closes it.
        session: a loaded model that takes ``contract.size``.
        contract: the model's preprocessing.
        labels: the names of the model's classes.
        top_k: how many predictions a result holds.
        limit: stop after so many results.
        problem_type: what the logits mean, one of `edgevit.problem.PROBLEM_TYPES`.

    Raises:
        SourceError: the source failed midway.
        EngineError: the engine failed twice on a frame or gave values that are not finite.
    """
    with _prepared(source, contract, ahead=session.threads < len(os.sched_getaffinity(0))) as inputs:
        expected = 0
        for each in islice(inputs, limit):
            taken = time.perf_counter()
            logits, retries = _infer(session, each.model_input)
            inferred = time.perf_counter()
            predictions = classify.top_k(logits, labels, top_k, problem_type)
            finished = time.perf_counter()
            yield Result(
                frame=each.frame,
                predictions=predictions,
                dropped=each.frame.index - expected,
                read_ms=each.read_ms,
                prepare_ms=each.prepare_ms,
                infer_ms=1e3 * (inferred - taken),
                latency_ms=1e3 * (finished - each.frame.captured),
                finished=finished,
                retries=retries,
                features=None if session.features is None else session.features[0],
            )
            expected = each.frame.index + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Input:
    frame: Frame
    model_input: Frames
    """uint8 [1, H, W, 3]."""
    read_ms: float
    prepare_ms: float


@contextmanager
def _prepared(source: Source, contract: Preprocessing, *, ahead: bool) -> Iterator[Iterable[_Input]]:
    """The model's inputs, made ``ahead`` where nothing would be lost by it, else when they are taken."""
    with ExitStack() as stack:
        if ahead and source.policy == "every" and not source.live:
            yield stack.enter_context(Mailbox(_inputs(source, contract), overtake=False))
        else:
            yield _inputs(stack.enter_context(frames_of(source)), contract)


@contextmanager
def frames_of(source: Source) -> Iterator[Iterable[Frame]]:
    """The frames of an open source as its policy has them, when they are taken: under `latest` the newest each time."""
    if source.policy == "every" or source.captures:  # nothing to overtake, or done by the source
        yield source
    else:
        with Mailbox(source) as newest:
            yield newest


def _inputs(frames: Iterable[Frame], contract: Preprocessing) -> Iterator[_Input]:
    asked = time.perf_counter()
    for frame in frames:
        read = time.perf_counter()
        model_input = prepare(frame.image_bgr, contract)[None]
        prepared = time.perf_counter()
        read_ms, prepare_ms = 1e3 * (read - asked), 1e3 * (prepared - read)
        yield _Input(frame=frame, model_input=model_input, read_ms=read_ms, prepare_ms=prepare_ms)
        # Stamped after the yield: what becomes of an input meanwhile is not reading.
        asked = time.perf_counter()


def _infer(session: Session, model_input: Frames) -> tuple[Logits, int]:
    """Logits of one frame, and how often it had to be tried again."""
    try:
        return session.infer(model_input)[0], 0
    except EngineError:
        return session.infer(model_input)[0], 1
