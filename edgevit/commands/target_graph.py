"""From what was decided to what the target runs: the graph in its form, and as far as this machine can, its engine.

CPU engines compile in a second wherever they run. One that is compiled ahead of time belongs to one device and one
version of its builder, as TensorRT's do, so it is compiled where the bundle will run; elsewhere the same builder, if there
is one, compiles as a preflight: it shows on a laptop what the board would be given, and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgevit.bundle import ENGINE, TIMING_CACHE
from edgevit.commands.faster_form import fastest_form, form_note
from edgevit.engine import backend, builder, open_session
from edgevit.engine.base import saturates
from edgevit.engine.builder import BuilderRefusedError, BuildOptions, BuiltEngine, NoBuilderError
from edgevit.engine.here import is_here
from edgevit.engines import traits_of
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.variants import Variant
from edgevit.part import Part
from edgevit.plan.preflight import Preflight, read_plan
from edgevit.plan.roofline import Estimate, assumptions, best_estimates, estimates
from edgevit.quantize.decide import PrecisionDecision
from edgevit.quantize.sensitivity import int8_parts
from edgevit.target import Target, load_target
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from edgevit.measure.evaluator import Budget
    from edgevit.model.checkpoint import Checkpoint
    from edgevit.preprocess import Frame

UNCHECKED = "preflight: not compiled, so neither fusion nor INT8 coverage is checked."
UNTIMED = "compile: INT8 attention was not timed against FP16's, which may be faster here: edgevit compile BUNDLE does that"
WITHOUT_VNNI = (
    "this processor has no VNNI, so OpenVINO multiplies INT8's values in FP32: right, and no faster than FP32. ONNX Runtime "
    "multiplies them as integers: compare BUNDLE --engines openvino,onnxruntime, and run with --engine onnxruntime"
)
UNTRIED = "not compiled, so whether the target's engine takes this graph is not checked."


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A graph for the target, and what compiling it here gave."""

    variant: Variant
    files: dict[str, bytes] = field(default_factory=dict)
    """Engine and timing cache, if this machine is the target."""
    stamp: dict[str, str] | None = None
    """What the engine in ``files`` is bound to."""
    preflight: Preflight | None = None
    estimates: tuple[Estimate, ...] = ()
    assumptions: tuple[str, ...] = ()
    """What the estimates rest on."""
    notes: tuple[str, ...] = ()
    choice: Mapping[str, Any] = field(default_factory=dict)
    """Which form of the graph was found fastest, beside what: see `edgevit.commands.faster_form.FormChoice.summary`."""

    def in_fastest_form(
        self, checkpoint: Checkpoint, frames: Frame, bench: Workbench, budget: Budget | None = None
    ) -> Compiled:  # fmt: skip
        """The same with the form of the graph that runs fastest here, where this machine is the target and leaves a choice.

        ``frames`` and ``budget`` as `edgevit.commands.faster_form.fastest_form` takes them.
        """
        choice = fastest_form(self.variant, checkpoint, frames, bench, budget)
        if not choice.form:
            return self
        return replace(self, variant=choice.variant, choice=choice.summary(), notes=(*self.notes, form_note(choice.summary())))

    def summary(self) -> dict[str, Any] | None:
        """What the manifest keeps; None if nothing was compiled ahead of time, and no form chosen."""
        if self.preflight is None and self.stamp is None:
            return dict(self.choice) or None
        return {
            "plan": self.preflight.summary() | {"stand_in": not self.files} if self.preflight else None,
            "estimates": [asdict(estimate) for estimate in self.estimates],
            "assumptions": list(self.assumptions),
            "engine": self.stamp,
        }

    def report(self) -> dict[str, Any]:
        """What report.json has beyond that: the plan block by block."""
        return {} if self.preflight is None else {"plan": self.preflight.to_dict()}


def compile_for(decided: PrecisionDecision, bench: Workbench) -> Compiled:
    """Write the graph in the form of the target and compile it, if this machine can. Raises EngineError if it is refused."""
    engine, target = bench.engine, bench.target
    if traits_of(engine).ahead_of_time:
        return _compile_ahead(decided, bench)
    variant = decided.variant(engine)
    try:
        with bench.stage(f"compile with {engine}"):
            open_session(engine, variant.model, threads=bench.threads).close()
    except MissingPackageError as error:
        if is_here(target):
            raise
        return Compiled(variant=variant, notes=(f"{UNTRIED} {error}",))
    in_fp32 = traits_of(engine).int8_needs_vnni and variant.precision != "fp32" and is_here(target) and saturates()
    return Compiled(variant=variant, notes=(WITHOUT_VNNI,) if in_fp32 else ())


def _compile_ahead(decided: PrecisionDecision, bench: Workbench) -> Compiled:
    engine, target = bench.engine, bench.target
    try:
        version = backend(engine).version
        with bench.stage(f"compile with {version}") as stage:
            decided, variant, built, notes = _insist(decided, engine, lambda *_: stage.advance(0))
    except EngineError as error:
        # Elsewhere than on the target compiling is advice: a stand-in that dies must not take the build with it.
        if isinstance(error, BuilderRefusedError) or (is_here(target) and not isinstance(error, NoBuilderError)):
            raise
        return Compiled(variant=decided.variant(engine), notes=(f"{UNCHECKED} {error}",))
    except MissingPackageError as error:
        return Compiled(variant=decided.variant(engine), notes=(f"{UNCHECKED} {error}",))
    preflight = _preflight(decided, built) if traits_of(engine).lists_kernels else None
    notes += tuple(f"plan: {warning}" for warning in preflight.warnings) if preflight else ()
    if is_here(target) and decided.plan.attention:
        notes += (UNTIMED,)
    return Compiled(
        variant=variant,
        files={ENGINE: built.engine, TIMING_CACHE: built.timing_cache} if is_here(target) else {},
        stamp=backend(engine).stamp() if is_here(target) else None,
        preflight=preflight,
        estimates=_estimates(preflight, target) if preflight else (),
        assumptions=assumptions(_boards(target)) if preflight else (),
        notes=notes,
    )


def _estimates(preflight: Preflight, target: Target) -> tuple[Estimate, ...]:
    """Every power mode of a board, the fastest of each board of a family."""
    return best_estimates(preflight.plan, _boards(target)) if target.boards else estimates(preflight.plan, target)


def _boards(target: Target) -> list[Target]:
    return [load_target(name) for name in target.boards] or [target]


def _insist(
    decided: PrecisionDecision, engine: str, advance: Any
) -> tuple[PrecisionDecision, Variant, BuiltEngine, tuple[str, ...]]:
    """Compile; INT8 that the builder refuses in some block, or attention that it then does not fuse, goes back to FP16 there.

    The notes say so.
    """
    notes: tuple[str, ...] = ()
    while True:
        variant = decided.variant(engine)
        try:
            built = builder(engine).build(variant.model, BuildOptions(), advance)
        except BuilderRefusedError as refused:
            parts = [part for part in int8_parts(decided.plan) if f"blocks.{part.block}" in refused.blocks]
            if not parts:
                raise
            decided = decided.without(parts, f"the builder refuses INT8 here: {refused}")
            notes += (f"{', '.join(refused.blocks)}: INT8 refused by the builder, kept in FP16: {refused}",)
            continue
        unfused = _unfused_int8(decided, built) if traits_of(engine).lists_kernels else []
        if not unfused:
            return decided, variant, built, notes
        reason = f"{built.version} does not fuse INT8 attention here"
        decided = decided.with_float_attention(dict.fromkeys(unfused, reason))
        notes += (f"{', '.join(f'blocks.{part.block}' for part in unfused)}: {reason}, so attention is in FP16",)


def _unfused_int8(decided: PrecisionDecision, built: BuiltEngine) -> list[Part]:
    """INT8 attention that the plan does not fuse: `edgevit.export.fusion` knows limits, a version may have others."""
    int8 = sorted(decided.plan.attention)
    unfused = _preflight(decided, built).plan.unfused([part.block for part in int8]) if int8 else []
    return [part for part in int8 if f"blocks.{part.block}" in unfused]


def _preflight(decided: PrecisionDecision, built: BuiltEngine) -> Preflight:
    blocks = decided.plan.model.blocks
    return read_plan(built, blocks=len(blocks), bare=[i for i, block in enumerate(blocks) if not block.heads])
