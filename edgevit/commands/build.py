"""The pipeline: checkpoint and images in, bundle out. Every slow stage is cached by content."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import edgevit
from edgevit.bundle import ENGINE, MODEL, REFERENCE, REPORT, SAMPLES, Bundle, Manifest, check_replaceable, write_bundle
from edgevit.cache import Cache
from edgevit.commands.build_inputs import BuildRequest, Inputs, read_inputs, spare_images
from edgevit.commands.plan import Plan, Planned
from edgevit.commands.target_graph import Compiled, compile_for
from edgevit.engine import alternatives
from edgevit.engine.check import Verdict
from edgevit.engine.here import is_here, judge_of
from edgevit.engine.samples import samples_bytes
from edgevit.engine.trusted import CheckedGraph, Trusted, trusted_engine
from edgevit.errors import BudgetError
from edgevit.export.variants import Variant, fp32_variant
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison, Row
from edgevit.measure.doubt import budget_note
from edgevit.measure.evaluator import Judge
from edgevit.numberformat import FORMATS
from edgevit.progress import Progress
from edgevit.prune.goal import Goal, Outcome, prune_to
from edgevit.quantize.checked import checked_graph
from edgevit.quantize.decide import Budget, Decision, decide
from edgevit.quantize.fp16_check import simulated
from edgevit.quantize.samples import sample_frames

RUNS = 60  # timed inferences per precision
PRUNING = (
    0.5,
    0.25,
)  # shares of a budget that pruning may spend before INT8; the second if the first leaves too little
PACKAGES = ("torch", "onnx", "openvino", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """A finished build."""

    bundle: Bundle
    comparison: Comparison | None
    compiled: Compiled
    """The target's engine, or what compiling for it here showed."""
    seconds: dict[str, float]
    """Wall time by stage, of all its turns together."""
    verdicts: tuple[Verdict, ...] = ()
    """Each graph on the engine that its figures are from, held against torch."""


class _Timed(Progress):
    """Passes on to ``inner`` and adds up the seconds of all stages of a name."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.seconds: dict[str, float] = {}

    def begin(self, stage: Any) -> None:
        self.inner.begin(stage)

    def advance(self, stage: Any, steps: int) -> None:
        self.inner.advance(stage, steps)

    def end(self, stage: Any) -> None:
        self.seconds[stage.name] = round(self.seconds.get(stage.name, 0.0) + stage.seconds, 3)  # a search has many of a name
        self.inner.end(stage)


def plan(request: BuildRequest, cache: Cache) -> Planned:
    """What `build` would do, stage by stage, and what of it is cached already. Computes nothing slow, writes nothing."""
    check_replaceable(request.out)
    found = Plan(request, cache, runs=RUNS, spent=_shares(request)[0])
    return Planned(stages=tuple(found.stages()), notes=found.inputs.notes)


def _shares(request: BuildRequest) -> tuple[float, ...]:
    """Of the budget, what pruning may spend: one after the other, until INT8 finds a plan within the whole."""
    return PRUNING if FORMATS[request.precision].scaled and request.prune is not None and request.prune.auto else (1.0,)


def build(request: BuildRequest, cache: Cache, progress: Progress) -> BuildResult:
    """Run all stages and write the bundle to ``request.out``.

    Interrupted, it leaves no bundle, and every stage that had finished is found in the cache next time.
    Raises EdgevitError for whatever a user can put right.
    """
    timed, load = _Timed(progress), machine.load()
    check_replaceable(request.out)
    inputs = read_inputs(request, timed)
    cache.check()
    original = inputs.checkpoint
    frames = sample_frames((inputs.calibration or inputs.held_out) if request.reference else None, original.preprocessing)
    with timed.stage("write graph"):
        reference = fp32_variant(original, judge_of(request.target))
    with timed.stage("check engine"):  # before it decides anything
        whole = checked_graph(reference, original, frames)
        trusted = trusted_engine(alternatives(judge_of(request.target)), [whole], threads=request.threads)
    request, inputs = _on(trusted, request, inputs)
    shrunk = shrink(request, inputs, cache, timed)
    inputs, decided = shrunk.inputs, shrunk.decided
    compiled = compile_for(request.target, decided, threads=request.threads, progress=timed)
    variant, inputs = compiled.variant, replace(inputs, notes=(*inputs.notes, *compiled.notes))
    rows = _rows(reference, shrunk, variant)
    with timed.stage("check engine"):
        ready = {variant.model: compiled.files[ENGINE]} if ENGINE in compiled.files else {}
        others = [checked_graph(row, inputs.checkpoint, frames, compiled=ready.get(row.model)) for row in rows[1:]]
        trusted = _all_trusted(trusted, whole, others, request.threads)
    request, inputs = _on(trusted, request, inputs)
    comparison = _compared(request, inputs, rows, trusted, load, cache, timed)
    if comparison and request.max_drop:
        note = budget_note(request.max_drop, comparison.rows[-1], shrunk.judged)
        inputs = replace(inputs, notes=(*inputs.notes, note)) if note else inputs
    with timed.stage("write bundle"):
        samples = samples_bytes(others[-1].samples if others else whole.samples, whole.samples if others else None)
        bundle = _write(request, inputs, reference, compiled, comparison, shrunk.report, timed.seconds, trusted, samples)
    return BuildResult(bundle=bundle, comparison=comparison, compiled=compiled, seconds=timed.seconds, verdicts=trusted.verdicts)


def _on(trusted: Trusted, request: BuildRequest, inputs: Inputs) -> tuple[BuildRequest, Inputs]:
    """The request and its inputs with the engine that can be trusted: the target's, too, if its own was found wrong here."""
    target = request.target
    if target.engine() == judge_of(target) != trusted.engine:
        target = target.on(trusted.engine)
    notes = tuple(dict.fromkeys((*inputs.notes, *trusted.notes)))
    return replace(request, target=target), replace(inputs, judge=trusted.engine, notes=notes)


def _all_trusted(
    trusted: Trusted, reference: CheckedGraph, others: list[CheckedGraph], threads: int | None
) -> Trusted:  # fmt: skip
    """The engine that ``others``, too, pass on, if need be another than that of ``trusted``, where ``reference`` passed.

    All rows of a comparison are from one engine: figures of two would differ by more than their precision.
    """
    found = trusted_engine(alternatives(trusted.engine), others, threads=threads)
    if found.engine != trusted.engine:
        trusted = trusted_engine([found.engine], [reference], threads=threads)
    return replace(trusted, verdicts=(*trusted.verdicts, *found.verdicts), notes=(*trusted.notes, *found.notes))


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A request's model, pruned if that was asked for, and what every GEMM of it computes in."""

    inputs: Inputs
    """With the pruned checkpoint, without the images that decided anything."""
    decided: Decision
    pruned: Variant | None = None
    """The pruned model in FP32, to tell what pruning costs from what the precision does."""
    report: dict[str, Any] = field(default_factory=dict)
    """What pruning did, JSON-ready."""
    judged: int = 0
    """Images that the budget was judged on; 0 without one."""


def shrink(request: BuildRequest, inputs: Inputs, cache: Cache, progress: Progress) -> Shrunk:
    """Prune and quantize within one budget: each step is held against the model as it came.

    Pruning to a budget may spend `PRUNING` of it; if INT8 then finds no plan within the whole, pruning has to do with less.
    """
    judge: Judge | None = None
    judged = 0
    if request.max_drop is not None:
        inputs, spare = spare_images(request, inputs)
        judge = Judge(inputs.checkpoint, spare, engine=inputs.judge, threads=request.threads, cache=cache, progress=progress)
        judged = len(spare)
    if request.prune is None:
        inputs, decided = _decide(request, inputs, judge, cache, progress)
        return Shrunk(inputs=inputs, decided=decided, judged=judged)
    first, *fewer = _shares(request)
    try:
        return _prune_and_decide(request, inputs, judge, first, cache, progress)
    except BudgetError:
        if not fewer:
            raise
        return _prune_and_decide(request, inputs, judge, fewer[0], cache, progress)


def _prune_and_decide(
    request: BuildRequest, inputs: Inputs, judge: Judge | None, share: float, cache: Cache, progress: Progress
) -> Shrunk:  # fmt: skip
    """`shrink` where pruning may spend ``share`` of the budget. Raises BudgetError if INT8 then has too little left."""
    outcome = _pruned(request, inputs, judge, share, cache, progress)
    found = replace(inputs, checkpoint=outcome.checkpoint, notes=(*inputs.notes, outcome.summary))
    found, decided = _decide(request, found, judge, cache, progress)
    graph = replace(fp32_variant(outcome.checkpoint, inputs.judge), precision="fp32-pruned")
    judged = len(judge.images) if judge else 0
    return Shrunk(inputs=found, decided=decided, pruned=graph, report=outcome.report, judged=judged)


def _pruned(
    request: BuildRequest, inputs: Inputs, judge: Judge | None, share: float, cache: Cache, progress: Progress
) -> Outcome:  # fmt: skip
    assert request.prune is not None
    assert inputs.pruning is not None  # `read_inputs`
    goal = Goal(target=request.target, precision=request.precision, threads=request.threads)
    max_drop = None if request.max_drop is None else share * request.max_drop
    return prune_to(inputs.checkpoint, inputs.pruning, request.prune, goal, judge, max_drop, cache, progress)


def _rows(reference: Variant, shrunk: Shrunk, variant: Variant) -> list[Variant]:
    """What is compared: the model as it came, pruned, and in its precision."""
    rows = [reference, *([shrunk.pruned] if shrunk.pruned else [])]
    return rows if variant.model == rows[-1].model else [*rows, variant]


def _decide(
    request: BuildRequest, inputs: Inputs, judge: Judge | None, cache: Cache, progress: Progress
) -> tuple[Inputs, Decision]:  # fmt: skip
    """What every GEMM computes in, within ``request.max_drop`` by ``judge``; ``inputs`` with notes."""
    budget = None if judge is None or request.max_drop is None else Budget(judge=judge, max_drop=request.max_drop)
    decided = decide(
        inputs.checkpoint, inputs.calibration, request.precision, request.recipe, request.target.engine(), cache, progress, budget
    )
    inputs = replace(inputs, notes=(*inputs.notes, *decided.notes))
    if "half" not in decided.report or inputs.calibration is None:
        return inputs, decided
    found = simulated(inputs.checkpoint, decided.plan, inputs.calibration)
    report = decided.report | {"half": decided.report["half"] | found.report}
    return replace(inputs, notes=(*inputs.notes, found.note)), replace(decided, report=report)


def _compared(
    request: BuildRequest, inputs: Inputs, variants: list[Variant], trusted: Trusted, load: float, cache: Cache,
    progress: Progress,
) -> Comparison | None:  # fmt: skip
    if inputs.held_out is None:
        return None
    return compare(
        [
            Candidate(precision=item.precision, engine=trusted.engine, model=item.model, compiled=verdict.compiled)
            for item, verdict in zip(variants, trusted.verdicts, strict=True)
        ],
        inputs.held_out,
        inputs.checkpoint.preprocessing,
        inputs.checkpoint.labels,
        problem_type=inputs.checkpoint.problem_type,
        # The judge's milliseconds say nothing about another engine's device.
        runs=RUNS if is_here(request.target) else 0,
        threads=request.threads,
        cache=cache,
        progress=progress,
        command=request.command,
        load=load,
    )


def _write(
    request: BuildRequest,
    inputs: Inputs,
    reference: Variant,
    compiled: Compiled,
    comparison: Comparison | None,
    pruning: dict[str, Any],
    seconds: dict[str, float],
    trusted: Trusted,
    samples: bytes,
) -> Bundle:
    checkpoint, variant = inputs.checkpoint, compiled.variant
    rows = {row.precision: row for row in comparison.rows} if comparison else {}
    conditions = comparison.conditions if comparison else {}
    manifest = Manifest(
        name=request.out.stem,
        family=checkpoint.family,
        model=checkpoint.model.config.to_dict(),
        preprocessing=checkpoint.preprocessing,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
        precision=variant.precision,
        reasons=_reasons(variant),
        blocks=variant.blocks,
        recipe=request.recipe.to_dict(),
        target=request.target.to_dict(),
        engine=request.target.engine(),
        accuracy={**{name: asdict(row.accuracy) for name, row in rows.items()}, "conditions": conditions} if rows else None,
        latency=_latency(rows, conditions),
        compiled=compiled.summary(),
        checks=tuple(item.to_dict() for item in trusted.verdicts),
        provenance=_provenance(request, inputs, pruning),
        notes=(*(comparison.warnings if comparison else ()), *inputs.notes),
        edgevit=edgevit.__version__,
    )
    pruned = {"pruning": pruning} if pruning else {}
    report = {**variant.report, **compiled.report(), **pruned, "seconds": seconds, "notes": inputs.notes,
              "comparison": comparison.to_dict() if comparison else None}  # fmt: skip
    files = {MODEL: variant.model, REPORT: (json.dumps(report, indent=2) + "\n").encode(), SAMPLES: samples, **compiled.files}
    if request.reference and variant.precision != "fp32":
        files[REFERENCE] = reference.model
    return write_bundle(request.out, manifest, files)


def _latency(rows: Mapping[str, Row], conditions: dict[str, Any]) -> dict[str, Any] | None:
    times = {name: asdict(row.latency) for name, row in rows.items() if row.latency is not None}
    return {**times, "conditions": conditions} if times else None


def _reasons(variant: Variant) -> dict[str, str]:
    """Why parts of an INT8 model are in floating point."""
    noise = "INT8 would add {:.1f} times the noise of the block's own proj (full), {:.1f} times (scores alone)"
    refused = {item["name"]: item.get("reason") or noise.format(item["noise"]["full"], item["noise"]["scores"])
               for item in variant.report.get("attention", ()) if item["products"] == "off"}  # fmt: skip
    return refused | variant.report.get("reverted", {})


def _provenance(request: BuildRequest, inputs: Inputs, pruning: dict[str, Any]) -> dict[str, Any]:
    shown = {key: pruning[key] for key in ("share", "speedup", "measured", "cost", "settings") if key in pruning}
    return {
        "weights": {"file": request.model.name, "sha256": inputs.checkpoint.digest},
        "input": {"size": list(inputs.checkpoint.model.config.image_size), "from": inputs.checkpoint.sized_by},
        **({"pruning": shown} if shown else {}),
        # One per image, so that a later comparison can leave them out.
        "calibration_images": sorted(inputs.seen),
        "versions": {"edgevit": edgevit.__version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
