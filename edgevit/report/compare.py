"""Precisions and engines side by side: same images, same preprocessing, latency in turns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgevit.cache import Cache
from edgevit.device.jetson import detect
from edgevit.engine import backend
from edgevit.engine.base import Session, available_threads, processor
from edgevit.engine.tensorrt import gpu
from edgevit.errors import DataError
from edgevit.images import ImageSet
from edgevit.preprocess import Preprocessing
from edgevit.progress import Progress
from edgevit.report import accuracy, latency
from edgevit.report.accuracy import Accuracy
from edgevit.report.evaluate import evaluate
from edgevit.report.latency import Latency

TIMED_FRAMES = 16  # distinct frames that latency is measured on


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to compare: an ONNX model of some precision on an engine."""

    precision: str
    engine: str
    model: bytes
    compiled: bytes | None = None
    """What ``engine`` compiled of it on this machine, if it has."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    precision: str
    engine: str
    """Name and version."""
    bytes: int
    """Size of the ONNX model."""
    accuracy: Accuracy
    latency: Latency | None
    """None where nothing was timed: the engine that judged is not the target's."""
    speedup: float | None
    """p50 of the first row on the same engine, which is FP32, over this p50."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows, and the conditions they were measured under. The first row is the reference."""

    rows: tuple[Row, ...]
    conditions: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    def to_csv(self) -> str:
        """One line per row, nested fields joined by underscores."""
        lines = [_flat(row) for row in self.rows]
        stream = io.StringIO()
        writer = csv.DictWriter(stream, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return stream.getvalue()


def compare(
    candidates: Sequence[Candidate],
    images: ImageSet,
    contract: Preprocessing,
    labels: Sequence[str],
    *,
    runs: int,
    threads: int | None,
    cache: Cache,
    progress: Progress,
) -> Comparison:
    """Evaluate and time ``candidates``; the first is the reference for agreement and SQNR.

    ``runs`` inferences of each are timed at batch 1; 0 leaves timing out. Raises DataError without images.
    """
    if not len(images):
        msg = f"{images.source}: no images are left to compare on. Give others, or more."
        raise DataError(msg)
    opened = _Sessions(candidates, threads)
    logits = [_logits(candidate, opened, images, contract, cache, progress) for candidate in candidates]
    times = _latencies(opened, images, contract, runs, progress) if runs else [None] * len(candidates)
    targets = images.targets_for(labels)
    rows = tuple(
        Row(
            precision=candidate.precision,
            engine=backend(candidate.engine).version,
            bytes=len(candidate.model),
            accuracy=accuracy.measure(own, logits[0], targets),
            latency=time,
            speedup=_speedup(candidate, time, candidates, times),
        )
        for candidate, own, time in zip(candidates, logits, times, strict=True)
    )
    return Comparison(rows=rows, conditions=_conditions(rows, images, targets is not None, threads))


class _Sessions:
    """Opens candidates' sessions; each is compiled once, when it is first needed."""

    def __init__(self, candidates: Sequence[Candidate], threads: int | None) -> None:
        self.candidates, self.threads = candidates, threads
        self._compiled = {id(candidate): candidate.compiled for candidate in candidates if candidate.compiled is not None}

    def open(self, candidate: Candidate) -> Session:
        """A session of its own for one candidate."""
        engine = backend(candidate.engine)
        if id(candidate) not in self._compiled:
            self._compiled[id(candidate)] = engine.compile(candidate.model, threads=self.threads)
        return engine.load(self._compiled[id(candidate)], threads=self.threads)


def _logits(
    candidate: Candidate, opened: _Sessions, images: ImageSet, contract: Preprocessing, cache: Cache, progress: Progress
) -> accuracy.Logits:
    with progress.stage(f"evaluate {candidate.precision} on {candidate.engine}", total=len(images)) as stage:
        return evaluate(
            lambda: opened.open(candidate),
            candidate.model,
            images,
            contract,
            engine=f"{backend(candidate.engine).version} on {processor()}",
            cache=cache,
            stage=stage,
        )


def _latencies(
    opened: _Sessions, images: ImageSet, contract: Preprocessing, runs: int, progress: Progress
) -> list[Latency | None]:
    frames = np.concatenate(list(images.subset(range(min(len(images), TIMED_FRAMES))).prepared(contract)))
    with ExitStack() as stack, progress.stage("measure latency", total=runs) as stage:
        sessions = {str(i): stack.enter_context(opened.open(candidate)) for i, candidate in enumerate(opened.candidates)}
        times = latency.measure(sessions, frames, runs=runs, stage=stage)
    return [times[str(i)] for i in range(len(opened.candidates))]


def _speedup(
    candidate: Candidate, time: Latency | None, candidates: Sequence[Candidate], times: Sequence[Latency | None]
) -> float | None:
    """Against the first candidate of the same engine, which is FP32 where there is one."""
    baseline = next(first for other, first in zip(candidates, times, strict=True) if other.engine == candidate.engine)
    return None if time is None or baseline is None else baseline.p50_ms / time.p50_ms


def _conditions(rows: Sequence[Row], images: ImageSet, labelled: bool, threads: int | None) -> dict[str, Any]:
    return {
        "engine": ", ".join(dict.fromkeys(row.engine for row in rows)),
        "images": len(images),
        "source": images.source,
        "labels": labelled,
        "device": _device(rows),
        "threads": threads or available_threads(),
        "batch": 1,
        "order": f"interleaved, {latency.TURN} inferences a turn, {latency.WARM_UP} to warm up first"
        if any(row.latency for row in rows)
        else "not timed, as this is not the target",
    }


def _device(rows: Sequence[Row]) -> str:
    """The processor, and where TensorRT ran the board with its power mode and clock, or the GPU."""
    if not any(row.engine.startswith("tensorrt") for row in rows):
        return processor()
    board, found = detect(), gpu()
    if board is not None:
        mode = ", ".join(text for text in (board.mode, f"GPU at {board.gpu_mhz:g} MHz" if board.gpu_mhz else None) if text)
        return f"{board.model}{f' ({mode})' if mode else ''}"
    return f"GPU of compute capability {found.compute_capability}" if found else processor()


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in asdict(row).items():
        flat |= {f"{key}_{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
    return flat
