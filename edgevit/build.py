"""The pipeline: checkpoint and images in, bundle out. Every slow stage is cached by content."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import edgevit
from edgevit.advice import budget_note
from edgevit.bundle import ENGINE, MODEL, REFERENCE, REPORT, SAMPLES, Bundle, Manifest, check_replaceable, write_bundle
from edgevit.cache import Cache
from edgevit.compiling import Compiled, compile_for
from edgevit.engine import backend
from edgevit.engine.here import is_here, judge_of
from edgevit.errors import BudgetError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.inputs import BuildRequest, Inputs, read_inputs, spare_images
from edgevit.precision.decide import Budget, Decision, decide
from edgevit.precision.half import simulated
from edgevit.precision.judge import Judge
from edgevit.precision.variants import Variant, fp32_variant, quantize_key
from edgevit.problem import describe
from edgevit.progress import Progress
from edgevit.pruning.goal import Goal, Outcome, prune_to
from edgevit.pruning.settings import PruneSettings
from edgevit.report.compare import Candidate, compare
from edgevit.report.rows import Comparison, Row

RUNS = 60  # timed inferences per precision
PRUNING = (
    0.5,
    0.25,
)  # shares of a budget that pruning may spend before INT8; the second if the first leaves too little
PACKAGES = ("torch", "onnx", "openvino", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a dry run."""

    name: str
    what: str
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """A finished build."""

    bundle: Bundle
    comparison: Comparison | None
    compiled: Compiled
    """The target's engine, or what compiling for it here showed."""
    seconds: dict[str, float]
    """Wall time of each stage."""


class _Timed(Progress):
    """Passes on to ``inner`` and keeps the seconds of every stage."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner
        self.seconds: dict[str, float] = {}

    def begin(self, stage: Any) -> None:
        self.inner.begin(stage)

    def advance(self, stage: Any, steps: int) -> None:
        self.inner.advance(stage, steps)

    def end(self, stage: Any) -> None:
        self.seconds[stage.name] = round(stage.seconds, 3)
        self.inner.end(stage)


def plan(request: BuildRequest, cache: Cache) -> list[PlannedStage]:
    """What `build` would do, and what of it is cached already. Computes nothing slow, writes nothing."""
    check_replaceable(request.out)
    inputs = read_inputs(request, Progress())
    checkpoint, engine = inputs.checkpoint, request.target.engine()
    config = checkpoint.model.config
    what = f"{checkpoint.family}, {len(config.blocks)} blocks of width {config.width}, {describe(checkpoint.problem_type)}"
    stages = [PlannedStage(name="import model", what=what)]
    if request.prune is not None and inputs.pruning is not None:
        what = f"{_how_much(request.prune)}, on {len(inputs.pruning)} images of {request.data}"
        stages.append(PlannedStage(name="prune", what=what))
    if inputs.calibration is not None and form_for(engine, request.precision).dtype == "fp16":
        stages.append(PlannedStage(name="check fp16 range", what=f"{len(inputs.calibration)} images of {request.data}"))
    if request.precision == "int8" and inputs.calibration is not None:
        key = quantize_key(checkpoint, inputs.calibration, request.recipe)
        images = f"{len(inputs.calibration)} images of {request.data}"
        cached = cache.find("quantize", **key) is not None
        stages.append(PlannedStage(name="quantize", what=f"recipe {request.recipe.name}, {images}", cached=cached))
        if request.max_drop is not None:
            stages.append(PlannedStage(name="search", what=f"the most INT8 that loses at most {request.max_drop:g} points"))
    stages.append(PlannedStage(name="compile", what=f"{request.precision} with {_compiler(engine)}"))
    if inputs.held_out is not None:
        rows = "fp32" if request.prune is None else "fp32, fp32-pruned"
        what = f"{rows} and {request.precision} on {len(inputs.held_out)} held-out images, with {judge_of(request.target)}"
        stages.append(PlannedStage(name="evaluate", what=what))
        if is_here(request.target):
            stages.append(PlannedStage(name="measure latency", what=f"{RUNS} inferences of each, interleaved"))
    return [*stages, PlannedStage(name="write bundle", what=str(request.out))]


def _how_much(settings: PruneSettings) -> str:
    if settings.share is not None:
        asked = f"{100 * settings.share:g} % of the MACs"
    else:
        asked = f"for a speed-up of {settings.speedup:g}" if settings.speedup is not None else "as much as the budget allows"
    return f"{asked}, {settings.recover} epochs of recovery" if settings.recover else asked


def _compiler(engine: str) -> str:
    try:
        return backend(engine).version
    except MissingPackageError:
        return f"{engine}: not here, so not checked"


def build(request: BuildRequest, cache: Cache, progress: Progress) -> BuildResult:
    """Run all stages and write the bundle to ``request.out``.

    Interrupted, it leaves no bundle, and every stage that had finished is found in the cache next time.
    Raises EdgevitError for whatever a user can put right.
    """
    timed = _Timed(progress)
    check_replaceable(request.out)
    inputs = read_inputs(request, timed)
    cache.check()
    with timed.stage("write graph"):
        reference = fp32_variant(inputs.checkpoint, judge_of(request.target))
    shrunk = shrink(request, inputs, cache, timed)
    inputs, decided = shrunk.inputs, shrunk.decided
    compiled = compile_for(request.target, decided, threads=request.threads, progress=timed)
    variant, inputs = compiled.variant, replace(inputs, notes=(*inputs.notes, *compiled.notes))
    rows = _rows(reference, shrunk, variant)
    comparison = _compared(request, inputs, rows, compiled, cache, timed)
    # Of several labels the interval of the change tells as much, and the comparison shows it.
    if comparison and request.max_drop and not comparison.multi_label:
        flips = 1 - comparison.rows[-1].accuracy.agreement
        note = budget_note(request.max_drop, flips, comparison.rows[-1].accuracy.images)
        inputs = replace(inputs, notes=(*inputs.notes, note)) if note else inputs
    with timed.stage("write bundle"):
        bundle = _write(request, inputs, reference, compiled, comparison, shrunk.report, timed.seconds)
    return BuildResult(bundle=bundle, comparison=comparison, compiled=compiled, seconds=timed.seconds)


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


def shrink(request: BuildRequest, inputs: Inputs, cache: Cache, progress: Progress) -> Shrunk:
    """Prune and quantize within one budget: each step is held against the model as it came.

    Pruning to a budget may spend `PRUNING` of it; if INT8 then finds no plan within the whole, pruning has to do with less.
    """
    judge: Judge | None = None
    if request.max_drop is not None:
        inputs, spare = spare_images(request, inputs)
        judge = Judge(inputs.checkpoint, spare, engine=judge_of(request.target), threads=request.threads, cache=cache,
                      progress=progress)  # fmt: skip
    if request.prune is None:
        inputs, decided = _decide(request, inputs, judge, cache, progress)
        return Shrunk(inputs=inputs, decided=decided)
    spent = PRUNING if request.precision == "int8" and request.prune.auto else (1.0,)
    for share in spent:
        outcome = _pruned(request, inputs, judge, share, cache, progress)
        found = replace(inputs, checkpoint=outcome.checkpoint, notes=(*inputs.notes, outcome.summary))
        try:
            found, decided = _decide(request, found, judge, cache, progress)
        except BudgetError:
            if share == spent[-1]:
                raise
            continue
        graph = fp32_variant(outcome.checkpoint, judge_of(request.target))
        return Shrunk(inputs=found, decided=decided, pruned=replace(graph, precision="fp32-pruned"), report=outcome.report)
    msg = "no share of the budget is left to try"
    raise AssertionError(msg)


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
    # With what FP16 does to it: the samples go along, for the device's own check.
    found = simulated(inputs.checkpoint, decided.plan, inputs.calibration)
    report = decided.report | {"half": decided.report["half"] | found.report}
    return replace(inputs, notes=(*inputs.notes, found.note)), replace(decided, report=report, samples=found.samples)


def _compared(
    request: BuildRequest, inputs: Inputs, variants: list[Variant], compiled: Compiled, cache: Cache, progress: Progress
) -> Comparison | None:
    if inputs.held_out is None:
        return None
    judge = judge_of(request.target)
    ready = {compiled.variant.model: compiled.files[ENGINE]} if ENGINE in compiled.files else {}
    return compare(
        [
            Candidate(precision=item.precision, engine=judge, model=item.model, compiled=ready.get(item.model))
            for item in variants
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
    )


def _write(
    request: BuildRequest,
    inputs: Inputs,
    reference: Variant,
    compiled: Compiled,
    comparison: Comparison | None,
    pruning: dict[str, Any],
    seconds: dict[str, float],
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
        provenance=_provenance(request, inputs, pruning),
        notes=inputs.notes,
        edgevit=edgevit.__version__,
    )
    pruned = {"pruning": pruning} if pruning else {}
    report = {**variant.report, **compiled.report(), **pruned, "seconds": seconds, "notes": inputs.notes,
              "comparison": comparison.to_dict() if comparison else None}  # fmt: skip
    files = {MODEL: variant.model, REPORT: (json.dumps(report, indent=2) + "\n").encode(), **compiled.files}
    if request.reference and compiled.samples is not None:
        files[SAMPLES] = compiled.samples
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
    shown = {key: pruning[key] for key in ("share", "speedup", "cost", "settings") if key in pruning}
    return {
        "weights": {"file": request.model.name, "sha256": inputs.checkpoint.digest},
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
