"""Which form of a graph a CPU engine runs fastest here: where there is a choice, all are timed in turns, and the fastest is kept.

None is taken for a processor's name: what a token more or bfloat16 is worth differs with cores, widths and versions. A form has
to be right, as every graph has, and faster by more than noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgevit.engine import backend
from edgevit.engine.base import available_threads
from edgevit.engine.check import check_outputs
from edgevit.engine.here import is_here
from edgevit.engines import traits_of
from edgevit.export.variants import Variant, in_bf16, padded
from edgevit.measure.latency import measure_latency
from edgevit.model.checkpoint import Checkpoint
from edgevit.numberformat import FORMATS, MIXED
from edgevit.quantize.checked import checked_graph
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

RUNS = 30  # timed inferences of each form
WORTH = 1.03  # times as fast as without, or it is left out
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
    bf16 = scaled and backend(bench.engine).computes_bf16()
    names = (PLAIN, *((PADDED,) if masked else ()))
    return (*names, *((BF16,) if bf16 else ()), *((f"{PADDED}, {BF16}",) if bf16 and masked else ()))


def fastest_form(variant: Variant, checkpoint: Checkpoint, frames: Frame, bench: Workbench) -> FormChoice:
    """The fastest right form of ``variant``, of ``checkpoint``, on the bench's engine, timed on this machine.

    ``frames`` uint8 [N, H, W, 3] are what they are checked on, see `edgevit.engine.check`. Raises EngineError if one that is
    right cannot be loaded again.
    """
    names = offered(checkpoint.model.config, variant.precision, bench)
    if len(names) == 1:
        return FormChoice(variant=variant)
    forms = {name: _written(variant, name, bench.engine) for name in names}
    with bench.stage(STAGE, total=RUNS) as stage:
        right, failures = dict[str, bytes](), dict[str, str]()
        for name, form in forms.items():
            checked = checked_graph(form, checkpoint, frames)
            verdict = check_outputs(
                bench.engine,
                form.model,
                checked.samples,
                precision=form.precision,
                threads=bench.threads,
                floor_db=checked.floor_db,
            )
            if (verdict.passed and verdict.compiled is not None) or name == PLAIN:
                right[name] = verdict.compiled or backend(bench.engine).compile(form.model, threads=bench.threads)
            else:
                failures[name] = str(verdict)
        with ExitStack() as stack:
            own = backend(bench.engine)
            sessions = {name: stack.enter_context(own.load(engine, threads=bench.threads)) for name, engine in right.items()}
            times = {name: found.p50_ms for name, found in measure_latency(sessions, frames, runs=RUNS, stage=stage).items()}
    fastest = min(times, key=times.__getitem__)
    kept = fastest if times[PLAIN] >= WORTH * times[fastest] else PLAIN
    tried = tuple({"form": name, "p50_ms": times.get(name), "failure": failures.get(name, "")} for name in names)
    return FormChoice(variant=forms[kept], form=kept, tried=tried)


def form_note(choice: Mapping[str, Any]) -> str:
    """One line of a choice's summary: what is kept, at what it takes."""
    times = {item["form"]: item["p50_ms"] for item in choice["tried"] if item["p50_ms"] is not None}
    own, rest = (
        times[choice["form"]],
        ", ".join(f"{name} {time:.2f} ms" for name, time in times.items() if name != choice["form"]),
    )
    return f"form: {choice['form']}, {own:.2f} ms, as timed here beside {rest or 'nothing that was right'}"


def _written(variant: Variant, name: str, engine: str) -> Variant:
    made = padded(variant, engine) if PADDED in name else variant
    return in_bf16(made) if BF16 in name else made


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))
