"""Precisions and engines side by side: same images, same preprocessing, latency in turns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import edgevit
from edgevit.device.gpu import gpu
from edgevit.device.jetson import ROOT, detect
from edgevit.device.power import Rail, find_rails, read_rails, total
from edgevit.device.processor import processor
from edgevit.engine import backend, builder, open_session
from edgevit.engine.base import Session, available_threads
from edgevit.engine.builder import BuildOptions
from edgevit.engines import runs_on, traits_of
from edgevit.errors import DataError
from edgevit.images.dataset import ImageSet
from edgevit.measure import accuracy, latency, machine
from edgevit.measure.comparison import Comparison, Evidence, Row, row_names
from edgevit.measure.energy import ROUNDS, Energy, measure_energy
from edgevit.measure.evaluate import engine_identity, evaluate
from edgevit.measure.labels import comparable
from edgevit.measure.recommend import recommend
from edgevit.measure.shards import Evaluation, evaluate_sharded
from edgevit.measure.startup import Startup, measure_startup
from edgevit.measure.statistics import median_ratio
from edgevit.measure.suspicions import suspicions
from edgevit.plan.device_plan import DevicePlan
from edgevit.preprocess import Preprocessing
from edgevit.problem import SINGLE_LABEL
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.engine.base import Frames
    from edgevit.measure.latency import Turns

TIMED_FRAMES = 16  # distinct frames that latency is measured on


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing to compare: an ONNX model of some precision on an engine."""

    precision: str
    engine: str
    model: bytes
    compiled: bytes | None = None
    """What ``engine``, if it is compiled ahead of time, made of it on this machine."""
    subject: str = ""
    """Which model, where several are compared."""
    device: DevicePlan | None = None
    """What compiling for its device showed, where that is not this machine."""
    contract: Preprocessing | None = None
    """Its own preprocessing, where that is not the comparison's."""
    earlier: Mapping[str, Any] | None = None
    """What it had at build time: ``top1``, ``agreement`` and ``images`` of its manifest."""


def compare(
    candidates: Sequence[Candidate],
    images: ImageSet,
    contract: Preprocessing,
    labels: Sequence[str],
    *,
    problem_type: str = SINGLE_LABEL,
    runs: int,
    limit_s: float = math.inf,
    bench: Workbench,
    startup: bool = False,
    load: float | None = None,
    root: Path = ROOT,
    command: str = "",
) -> Comparison:
    """Evaluate and time ``candidates``; the first is the reference for accuracy, agreement and SQNR.

    ``problem_type`` is what all their logits mean. ``runs`` inferences of each are timed at batch 1, or fewer, in about
    ``limit_s`` seconds; 0 leaves timing out.
    ``load`` is `machine.load` of before the work that led here, which is a load of its own; None reads it now.
    ``startup`` also measures a fresh process of each; where the file system ``root`` has power rails, energy is measured, too.
    ``command`` is what was typed, for the conditions. Raises DataError without images.
    """
    if not len(images):
        msg = f"{images.source}: no images are left to compare on. Give others, or more."
        raise DataError(msg)
    load = machine.load() if load is None else load
    opened = _Sessions(candidates, contract, bench.threads)
    logits = _all_logits(opened, images, bench)
    none: list[Any] = [None] * len(candidates)
    with bench.executor.alone() if bench.executor else nullcontext():  # what a neighbour slows down is no latency
        starts = _startups(opened, bench) if startup else none
        turns, energies = _timed(opened, images, runs, limit_s, find_rails(root), bench) if runs else (none, none)
    logits, targets, labels = comparable(logits, images, labels, problem_type)
    names = row_names([(candidate.subject, candidate.precision, candidate.engine) for candidate in candidates])
    ratio = _Ratio(turns)
    baselines = [_baseline(candidate, candidates) for candidate in candidates]
    times = [latency.summary(own) if own else None for own in turns]
    rows = tuple(
        Row(
            name=name,
            subject=candidate.subject,
            precision=candidate.precision,
            engine=backend(candidate.engine).version,
            bytes=len(candidate.model),
            sha256=hashlib.sha256(candidate.model).hexdigest(),
            accuracy=accuracy.measure_accuracy(own, logits[0], targets, problem_type),
            change=accuracy.change(own, logits[0], targets, labels, problem_type) if targets is not None and i else None,
            latency=time,
            speedup=base.p50_ms / time.p50_ms if time and (base := times[baselines[i]]) else None,
            speedup_interval=None if i == baselines[i] else ratio(baselines[i], i),
            startup=start,
            device=candidate.device,
            energy=energy,
        )
        for i, (candidate, name, own, time, start, energy) in enumerate(
            zip(candidates, names, logits, times, starts, energies, strict=True)
        )
    )
    return Comparison(
        rows=rows,
        conditions=_conditions(rows, turns, images, targets is not None, bench.threads, load, command)
        | _unseen(targets, labels)
        | ({"evaluated_on": bench.executor.where} if bench.executor else {}),
        recommendation=recommend(rows, ratio),
        warnings=suspicions(rows, logits, targets, labels, [candidate.earlier for candidate in candidates]),
        evidence=Evidence(
            logits=tuple(logits),
            images=images,
            labels=tuple(labels),
            problem_type=problem_type,
            targets=targets,
            turns=tuple(turns),
        ),
    )


class _Sessions:
    """Opens candidates' sessions; what is compiled ahead of time is compiled once, when it is first needed."""

    def __init__(self, candidates: Sequence[Candidate], contract: Preprocessing, threads: int | None) -> None:
        self.candidates, self.threads, self._contract = candidates, threads, contract
        self._compiled = {id(candidate): candidate.compiled for candidate in candidates if candidate.compiled is not None}

    def compiled(self, candidate: Candidate) -> bytes:
        """What the candidate's engine, which is compiled ahead of time, makes of its model."""
        if id(candidate) not in self._compiled:
            self._compiled[id(candidate)] = builder(candidate.engine).build(candidate.model, BuildOptions()).engine
        return self._compiled[id(candidate)]

    def open(self, candidate: Candidate) -> Session:
        """A session of its own for one candidate."""
        if traits_of(candidate.engine).ahead_of_time:
            return builder(candidate.engine).load(self.compiled(candidate))
        return open_session(candidate.engine, candidate.model, threads=self.threads)

    def contract(self, candidate: Candidate) -> Preprocessing:
        """How frames are prepared for a candidate."""
        return candidate.contract or self._contract


def _all_logits(opened: _Sessions, images: ImageSet, bench: Workbench) -> list[accuracy.Logits]:
    """Of every candidate: those that run on any CPU by the bench's executor, if it has one, all others here."""
    candidates, executor = opened.candidates, bench.executor
    if executor is None:
        return [_logits(candidate, opened, images, bench) for candidate in candidates]
    shared = [i for i, candidate in enumerate(candidates) if not traits_of(candidate.engine).ahead_of_time]
    wanted = [
        Evaluation(name=_name(candidates[i]), engine=candidates[i].engine, model=candidates[i].model,
                   contract=opened.contract(candidates[i]))
        for i in shared
    ]  # fmt: skip
    found = dict(zip(shared, evaluate_sharded(wanted, images, executor, bench) if wanted else (), strict=True))
    return [found[i] if i in found else _logits(candidate, opened, images, bench) for i, candidate in enumerate(candidates)]


def _name(candidate: Candidate) -> str:
    return " ".join(part for part in ("evaluate", candidate.subject, candidate.precision, "on", candidate.engine) if part)


def _logits(candidate: Candidate, opened: _Sessions, images: ImageSet, bench: Workbench) -> accuracy.Logits:
    with bench.stage(_name(candidate), total=len(images)) as stage:
        return evaluate(
            lambda: opened.open(candidate),
            candidate.model,
            images,
            opened.contract(candidate),
            engine=engine_identity(candidate.engine, opened.threads),
            cache=bench.cache,
            stage=stage,
        )


def _startups(opened: _Sessions, bench: Workbench) -> list[Startup | None]:
    found: list[Startup | None] = []
    with bench.stage("measure start-up", total=len(opened.candidates)) as stage:
        for candidate in opened.candidates:
            # An engine that is kept on disk starts from that; one that compiles at every start, from the graph.
            compiled = traits_of(candidate.engine).ahead_of_time
            content = opened.compiled(candidate) if compiled else candidate.model
            shape = (*opened.contract(candidate).size, 3)
            found.append(measure_startup(candidate.engine, content, shape, compiled=compiled, threads=opened.threads))
            stage.advance()
    return found


def _timed(
    opened: _Sessions, images: ImageSet, runs: int, limit_s: float, rails: Mapping[str, Rail], bench: Workbench
) -> tuple[list[Turns | None], list[Energy | None]]:
    """Times of every candidate, and energies where there are rails, on the same frames."""
    few = images.subset(range(min(len(images), TIMED_FRAMES)))
    contracts = dict.fromkeys(opened.contract(candidate) for candidate in opened.candidates)
    frames: dict[Preprocessing, Frames] = {contract: np.concatenate(list(few.prepared(contract))) for contract in contracts}
    energies: dict[str, Energy] = {}
    with ExitStack() as stack:
        with bench.stage("measure latency", total=runs) as stage:
            sessions = {str(i): stack.enter_context(opened.open(item)) for i, item in enumerate(opened.candidates)}
            own = {str(i): frames[opened.contract(item)] for i, item in enumerate(opened.candidates)}
            times = latency.take_turns(sessions, own, runs=runs, stage=stage, limit_s=limit_s)
        if rails:
            with bench.stage("measure energy", total=ROUNDS * len(sessions)) as stage:
                energies = measure_energy(sessions, own, lambda: total(read_rails(rails)), stage)
    names = [str(i) for i in range(len(opened.candidates))]
    return [times[name] for name in names], [energies.get(name) for name in names]


class _Ratio:
    """95 % intervals of p50 ratios between rows, each computed once; None where one of them was not timed, or too little."""

    def __init__(self, turns: Sequence[Turns | None]) -> None:
        self.turns = turns
        self._found: dict[tuple[int, int], tuple[float, float] | None] = {}

    def __call__(self, over: int, under: int) -> tuple[float, float] | None:
        if (over, under) not in self._found:
            slow, fast = self.turns[over], self.turns[under]
            known = slow is not None and fast is not None and len(slow) >= latency.MIN_TURNS
            self._found[over, under] = median_ratio(slow, fast) if known and slow and fast else None
        return self._found[over, under]


def _baseline(candidate: Candidate, candidates: Sequence[Candidate]) -> int:
    """The first candidate of the same engine, which is FP32 where there is one."""
    return next(i for i, other in enumerate(candidates) if other.engine == candidate.engine)


def _conditions(
    rows: Sequence[Row], turns: Sequence[Turns | None], images: ImageSet, labelled: bool, threads: int | None, load: float,
    command: str,
) -> dict[str, Any]:  # fmt: skip
    longest = max((len(turn) for own in turns for turn in own or ()), default=0)
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "edgevit": edgevit.__version__,
        "command": command,
        "engine": ", ".join(dict.fromkeys(row.engine for row in rows)),
        "images": len(images),
        "population": images.population or len(images),
        "drawn": images.drawn,
        "source": images.source,
        "labels": labelled,
        "device": _device(rows),
        "threads": threads or available_threads(),
        "batch": 1,
        "clock": machine.clock(),
        "load": load,
        "order": f"interleaved, {longest} inferences a turn, up to {latency.WARM_UP} to warm up first"
        if longest
        else "not timed, as this is not the target",
    }


def _unseen(targets: accuracy.Truth | None, labels: Sequence[str]) -> dict[str, Any]:
    """Labels of a multi-label model that no image has: nothing is known of them."""
    if targets is None or targets.ndim < 2 or targets.any(0).all():
        return {}
    return {"labels_on_no_image": [label for label, marks in zip(labels, targets.T, strict=True) if not marks.any()]}


def _device(rows: Sequence[Row]) -> str:
    """The processor, and where a GPU's engine ran the board with its power mode and clock, or the GPU."""
    if not any(runs_on(row.engine.split()[0], "gpu") for row in rows):
        return processor()
    board, found = detect(), gpu()
    if board is not None:
        mode = ", ".join(text for text in (board.mode, f"GPU at {board.gpu_mhz:g} MHz" if board.gpu_mhz else None) if text)
        return f"{board.model}{f' ({mode})' if mode else ''}"
    return f"GPU of compute capability {found.compute_capability}" if found else processor()
