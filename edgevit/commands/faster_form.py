"""Which form of a graph a CPU engine runs fastest here: where there is a choice, all are timed in turns, and the fastest is kept.

None is taken for a processor's name: what a token more or bfloat16 is worth differs with cores, widths and versions. A form has
to be right, as every graph has, and faster by more than noise.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.cache import Kind
from edgevit.engine import backend, open_session
from edgevit.engine.base import Session, available_threads
from edgevit.engine.check import check_outputs
from edgevit.engine.here import is_here
from edgevit.engines import traits_of
from edgevit.export.variants import Variant, in_bf16, padded
from edgevit.measure.evaluate import engine_identity
from edgevit.measure.evaluator import Budget
from edgevit.measure.latency import measure_latency
from edgevit.model.checkpoint import Checkpoint
from edgevit.numberformat import FORMATS, MIXED
from edgevit.quantize.checked import checked_graph
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.engine.trusted import CheckedGraph
    from edgevit.preprocess import Frame
    from edgevit.progress import Stage

RUNS = 30  # timed inferences of each form
WORTH = 1.03  # times as fast as without, or it is left out
LOSS_DB = 1.0  # of the logits, that bfloat16 may cost
CHOICE = Kind("graph-form", __name__)
PLAIN, BF16, PADDED = "as it is", "bfloat16 around INT8", "a masked token more"
STAGE = "time forms of the graph"


@dataclass(frozen=True, kw_only=True)
class FormChoice:
    """The form that is kept, and beside what."""

    variant: Variant
    form: str = ""
    """Empty where there was no choice."""
    tried: tuple[dict[str, Any], ...] = field(default=())
    """JSON-ready: ``form``, ``p50_ms``, and why it cannot be, ``failure``."""

    def summary(self) -> dict[str, Any]:
        """What a manifest keeps of it; nothing where there was no choice."""
        return {"form": self.form, "tried": list(self.tried)} if self.form else {}


def offered(config: VitConfig, precision: str, bench: Workbench) -> tuple[str, ...]:
    """Names of the forms that a model of shapes ``config`` could have on the bench's engine, `PLAIN` first."""
    traits = traits_of(bench.engine)
    if traits.ahead_of_time or not is_here(bench.target):
        return (PLAIN,)
    threads = bench.threads or available_threads()
    masked = traits.unfused_primes and _is_prime(config.tokens) and max(block.heads for block in config.blocks) < threads
    scaled = precision == MIXED or FORMATS[precision].scaled
    # A head over cosines stays in FP32: bfloat16 would round one that is scaled by 100 to 0.5.
    bf16 = scaled and not config.unit_features and backend(bench.engine).computes_bf16()
    names = (PLAIN, *((PADDED,) if masked else ()))
    return (*names, *((BF16,) if bf16 else ()), *((f"{PADDED}, {BF16}",) if bf16 and masked else ()))


def fastest_form(
    variant: Variant, checkpoint: Checkpoint, frames: Frame, bench: Workbench, budget: Budget | None = None
) -> FormChoice:  # fmt: skip
    """The fastest right form of ``variant``, of ``checkpoint``, on the bench's engine, timed on this machine, and kept.

    Right is what passes the check on ``frames`` uint8 [N, H, W, 3] (`edgevit.engine.check`), loses at most `LOSS_DB` against the
    graph as it is, and holds the ``budget``, if there is one. Raises EngineError if nothing that is right can be loaded again.
    """
    names = offered(checkpoint.model.config, variant.precision, bench)
    if len(names) == 1:
        return FormChoice(variant=variant)
    judge = None if budget is None else [budget.evaluator.identity(), budget.max_drop]
    key: dict[str, Any] = {
        "model": hashlib.sha256(variant.model).hexdigest(), "frames": hashlib.sha256(frames.tobytes()).hexdigest(),
        "forms": names, "engine": engine_identity(bench.engine, bench.threads), "budget": judge,
    }  # fmt: skip
    with bench.stage(STAGE, total=RUNS) as stage:
        stored = bench.cache.find(CHOICE, **key)
        stage.cached = stored is not None
        if stored is None:
            stored = json.dumps(
                _chosen(variant, names, checked_graph(variant, checkpoint, frames), bench, budget, stage)
            ).encode()
            bench.cache.store(CHOICE, stored, **key)
    kept, tried = json.loads(stored)
    return FormChoice(variant=_written(variant, kept, bench.engine), form=kept, tried=tuple(tried))


def _chosen(
    variant: Variant, names: Sequence[str], checked: CheckedGraph, bench: Workbench, budget: Budget | None, stage: Stage
) -> tuple[str, list[dict[str, Any]]]:  # fmt: skip
    """Which of ``names`` is kept, and what became of each."""
    samples = checked.samples
    failures, times, noise = dict[str, str](), dict[str, float](), dict[str, float]()
    with ExitStack() as stack:
        sessions = dict[str, Session]()
        for name in names:
            model = _written(variant, name, bench.engine).model
            verdict = check_outputs(
                bench.engine, model, samples, precision=variant.precision, threads=bench.threads, floor_db=checked.floor_db
            )
            session = stack.enter_context(open_session(bench.engine, model, threads=bench.threads))
            noise[name] = float(np.square(session.infer(samples.frames) - samples.logits).mean())
            failures[name] = str(verdict) if not verdict.passed else _too_much(name, noise, budget, model)
            if not failures[name]:
                sessions[name] = session
        if sessions:
            times = {
                name: time.p50_ms for name, time in measure_latency(sessions, samples.frames, runs=RUNS, stage=stage).items()
            }
    fastest = min(times, key=times.__getitem__, default=PLAIN)
    kept = PLAIN if PLAIN in times and times[PLAIN] < WORTH * times[fastest] else fastest
    return kept, [{"form": name, "p50_ms": times.get(name), "failure": failures[name]} for name in names]


def _too_much(name: str, noise: Mapping[str, float], budget: Budget | None, model: bytes) -> str:
    """Why a form that computes as it should still costs too much accuracy; empty if it does not."""
    if name == PLAIN:
        return ""
    loss = 10 * math.log10(max(noise[name], 1e-30) / max(noise[PLAIN], 1e-30))
    if BF16 in name and loss > LOSS_DB:
        return f"{loss:.1f} dB are lost"
    if BF16 in name and budget is not None and (drop := budget.evaluator.drop(model)) > budget.max_drop:
        return f"{drop:.2f} points of {budget.evaluator.metric} are lost, and {budget.max_drop:g} are allowed"
    return ""


def form_note(choice: Mapping[str, Any]) -> str:
    """One line of a choice's summary: what is kept, at what it takes."""
    times = {item["form"]: item["p50_ms"] for item in choice["tried"] if item["p50_ms"] is not None}
    if not times:
        return f"form: {choice['form']}; none of {len(choice['tried'])} is right here, as the engine check says"
    own = times[choice["form"]]
    rest = ", ".join(f"{name} {time:.2f} ms" for name, time in times.items() if name != choice["form"])
    return f"form: {choice['form']}, {own:.2f} ms, as timed here beside {rest or 'nothing that was right'}"


def _written(variant: Variant, name: str, engine: str) -> Variant:
    made = padded(variant, engine) if PADDED in name else variant
    return in_bf16(made) if BF16 in name else made


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))
