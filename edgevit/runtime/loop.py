"""The real-time loop: frame, prepare, infer, label."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

from edgevit.engine.base import Session
from edgevit.preprocess import Preprocessing, prepare
from edgevit.runtime import classify
from edgevit.runtime.classify import Prediction
from edgevit.runtime.frame import Frame, Source
from edgevit.runtime.mailbox import Mailbox


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


def classify_frames(
    source: Source,
    session: Session,
    contract: Preprocessing,
    labels: Sequence[str],
    *,
    top_k: int = 5,
    limit: int | None = None,
) -> Generator[Result, None, None]:
    """Classify the frames of ``source`` as they are asked for.

    A file gives every frame. A live source is read by a thread and gives the newest frame each time;
    the thread ends with this iterator, however it is left.

    Args:
        source: an open source; the caller closes it.
        session: a loaded model that takes ``contract.size``.
        contract: the model's preprocessing.
        labels: the names of the model's classes.
        top_k: how many predictions a result holds.
        limit: stop after so many results.

    Raises:
        SourceError: the source failed midway.
        EngineError: the engine failed or gave values that are not finite.
    """
    with Mailbox(source) if source.live else nullcontext(source) as frames:
        expected, asked = 0, time.perf_counter()
        for frame in islice(frames, limit):
            read = time.perf_counter()
            model_input = prepare(frame.image_bgr, contract)
            prepared = time.perf_counter()
            logits = session.infer(model_input[None])[0]
            inferred = time.perf_counter()
            predictions = classify.top_k(logits, labels, top_k)
            finished = time.perf_counter()
            yield Result(
                frame=frame,
                predictions=predictions,
                dropped=frame.index - expected,
                read_ms=1e3 * (read - asked),
                prepare_ms=1e3 * (prepared - read),
                infer_ms=1e3 * (inferred - prepared),
                latency_ms=1e3 * (finished - frame.captured),
                finished=finished,
            )
            # Stamped after the yield: what the caller does with a result is not reading.
            expected, asked = frame.index + 1, time.perf_counter()
