"""Which form of a bundle's graph a device runs: each is compiled and held against torch's values; the fastest right one stays.

If none is right, more careful ones are tried in turn, until one is. Nothing is decided by a version's name: TensorRT versions
differ in what they fuse and in what they compile wrongly, and the device tells both.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgevit.device.gpu_clock import GpuClock, gpu_clock
from edgevit.engine import builder
from edgevit.engine.base import GraphUse, Session
from edgevit.engine.builder import Advance, BuildOptions, BuiltEngine
from edgevit.engine.check import HALF_FLOOR_DB, PEAK, Verdict
from edgevit.engine.check import check_outputs as examine_engine
from edgevit.engine.forms import GraphForm, careful_forms, equal_forms
from edgevit.engine.samples import load_samples
from edgevit.engines import traits_of
from edgevit.errors import EngineError
from edgevit.measure.accuracy import measure_accuracy
from edgevit.measure.latency import Latency, summary, take_turns
from edgevit.plan.preflight import Preflight, read_plan
from edgevit.problem import SINGLE_LABEL
from edgevit.progress import Progress

RUNS = 50  # timed inferences of each form
HEAT_UP = 2.0  # seconds of inferences before the first that counts: a governor raises the clock within that


class WrongEngineError(EngineError):
    """An engine does not compute what the model computes; ``verdict`` says by how much, and where it first goes wrong."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


@dataclass(frozen=True, kw_only=True)
class SpotCheck:
    """What a fresh engine makes of the bundle's samples."""

    images: int
    agreement: float
    """Share of them with FP32's class; of several labels see `edgevit.measure.multilabel.agreement`."""
    sqnr_db: float | None
    """Of the logits against FP32; None if they are equal."""
    expected_db: float | None
    """The same as simulated at build time."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One form, and what became of it on this device."""

    form: GraphForm
    built: BuiltEngine | None = None
    """None if it was refused."""
    plan: Preflight | None = None
    """None also where the engine's builder lists no kernels."""
    check: SpotCheck | None = None
    """None if the bundle carries no samples, or if it is wrong."""
    failure: str = ""
    """Why it cannot be kept."""
    wrong: Verdict | None = None
    """What the check found, if that is why."""
    latency: Latency | None = None
    graph: GraphUse | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready figures."""
        plan = self.plan.summary() if self.plan else {}
        return {
            "form": self.form.name,
            "p50_ms": self.latency.p50_ms if self.latency else None,
            "p99_ms": self.latency.p99_ms if self.latency else None,
            **{key: plan.get(key) for key in ("kernels", "megabytes", "fused_attention")},
            "sqnr_db": self.check.sqnr_db if self.check else None,
            "failure": self.failure,
        }


@dataclass(frozen=True, kw_only=True)
class Question:
    """A bundle's graph, and how it is compiled, checked and timed."""

    engine: str
    """Name of the engine, such as ``tensorrt``."""
    model: bytes
    """ONNX."""
    samples: bytes | None
    """As in `edgevit.engine.samples`."""
    size: tuple[int, int]
    """Height and width of a frame."""
    precision: str
    problem_type: str
    bare: tuple[int, ...]
    """Blocks without attention."""
    blocks: int
    options: BuildOptions
    timing_cache: bytes


@dataclass(frozen=True, kw_only=True)
class FormChoice:
    """What is kept, and beside what."""

    kept: Tried
    tried: tuple[Tried, ...]
    """All, in order, what is kept among them."""
    clock: GpuClock | None
    """While they were timed."""


def choose_form(asked: Question, advance: Advance | None = None) -> FormChoice:
    """Compile and check the forms of a graph and keep the fastest right one.

    Raises EngineError if none can be compiled, or none is right: with what was tried, the first place that goes wrong, and
    what to do.
    """
    tried: list[Tried] = []
    for form in equal_forms(asked.model):
        tried.append(_try(form, asked, advance, _timings(tried, asked)))
    if not any(_right(item) for item in tried):
        tried += _careful(tried, asked, advance)
    if not any(_right(item) for item in tried):
        raise EngineError(_nothing_right(tried))
    timed, clock = _timed([item for item in tried if _right(item)], asked)
    tried = [timed.get(item.form.name, item) for item in tried]
    kept = min((item for item in tried if item.latency), key=lambda item: item.latency.p50_ms if item.latency else 0.0)
    return FormChoice(kept=kept, tried=tuple(tried), clock=clock)


def _right(item: Tried) -> bool:
    return item.built is not None and not item.failure


def _timings(tried: list[Tried], asked: Question) -> bytes:
    """The timing cache of the last that compiled: most kernels of the next form are the same."""
    return next((item.built.timing_cache for item in reversed(tried) if item.built), asked.timing_cache)


def _careful(tried: list[Tried], asked: Question, advance: Advance | None) -> list[Tried]:
    """Further tries, up to the first that is right; none where the graph is FP32 already, or is refused and not wrong."""
    found: list[Tried] = []
    wrong = [item for item in tried if item.built is not None]
    if asked.precision == "fp32" or not wrong:
        return []
    for form in careful_forms(asked.model, wrong[-1].wrong.place if wrong[-1].wrong else None):
        found.append(_try(form, asked, advance, _timings(tried, asked)))
        if _right(found[-1]):
            break
    return found


def _try(form: GraphForm, asked: Question, advance: Advance | None, timing_cache: bytes) -> Tried:
    try:
        built = builder(asked.engine).build(form.model, asked.options, advance, timing_cache=timing_cache)
    except EngineError as error:
        return Tried(form=form, failure=str(error))
    plan = read_plan(built, blocks=asked.blocks, bare=asked.bare) if traits_of(asked.engine).lists_kernels else None
    try:
        check = None
        if asked.samples is not None:
            check = spot_check(asked.engine, form.model, built.engine, asked.samples, asked.problem_type)
    except WrongEngineError as error:
        return Tried(form=form, built=built, plan=plan, failure=str(error), wrong=error.verdict)
    return Tried(form=form, built=built, plan=plan, check=check)


def spot_check(name: str, model: bytes, engine: bytes, samples: bytes, problem_type: str = SINGLE_LABEL) -> SpotCheck:
    """Run a fresh ``engine``, of ONNX ``model``, on the bundle's samples; `edgevit.engine.check` says how the bound is set.

    ``problem_type`` is what the logits mean.

    Raises WrongEngineError, with the block where it first goes wrong, if it is not what was simulated.
    """
    held = load_samples(samples)
    verdict = examine_engine(name, model, held, precision="bundle's", compiled=engine, floor_db=HALF_FLOOR_DB)
    if not verdict.passed:
        raise WrongEngineError(verdict)
    with builder(name).load(engine) as session:
        found = session.infer(held.frames)
    measured = measure_accuracy(found, held.logits, None, problem_type)
    return SpotCheck(
        images=len(held.frames),
        agreement=measured.agreement,
        sqnr_db=measured.sqnr_db,
        expected_db=measure_accuracy(held.expected, held.logits, None, problem_type).sqnr_db,
    )


def _nothing_right(tried: list[Tried]) -> str:
    first, others = tried[0], tried[1:]
    if not others:
        return (
            f"{first.form.name}: {first.failure}" if first.built is None else f"{first.failure}. Build it with --precision fp32."
        )
    rest = "; ".join(f"{item.form.name} ({_shortly(item)})" for item in others)
    return f"{first.failure}. Tried as well, and not right either: {rest}. Build it with --precision fp32."


def _shortly(item: Tried) -> str:
    if item.wrong is None:
        return "refused"
    decibel = item.wrong.check.sqnr_db
    return "not finite" if decibel <= -PEAK else f"{decibel:.0f} dB"


def _timed(right: list[Tried], asked: Question) -> tuple[dict[str, Tried], GpuClock | None]:
    """Those of ``right`` with their latencies, by form, measured in turns on this machine as it is: its power mode and heat."""
    frames = np.random.default_rng(0).integers(0, 256, (4, *asked.size, 3), np.uint8)
    sessions, failures = dict[str, Session](), dict[str, str]()
    with ExitStack() as stack:
        for item in right:
            assert item.built is not None
            try:
                sessions[item.form.name] = stack.enter_context(builder(asked.engine).load(item.built.engine))
            except EngineError as error:  # no room for both on a small board
                if not sessions:
                    raise
                failures[item.form.name] = str(error)
        _heat_up(list(sessions.values()), frames)
        stage = stack.enter_context(Progress().stage("measure latency"))
        turns = take_turns(sessions, dict.fromkeys(sessions, frames), runs=RUNS, stage=stage)
        clock = gpu_clock()
        graphs = {name: session.graph for name, session in sessions.items()}
    timed = {item.form.name: replace(item, failure=failures.get(item.form.name, "")) for item in right}
    timed |= {name: replace(timed[name], latency=summary(turns[name]), graph=graphs[name]) for name in sessions}
    return timed, clock


def _heat_up(sessions: list[Session], frames: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    end = time.perf_counter() + HEAT_UP
    while time.perf_counter() < end:
        for session in sessions:
            session.infer(frames[:1])
