"""``edgevit build`` as a library call: checkpoint and images in, bundle out. Every slow stage is cached by content."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgevit.bundle import ENGINE, check_replaceable
from edgevit.cache import Cache
from edgevit.commands.arguments import cache_of
from edgevit.commands.build_arguments import build_request
from edgevit.commands.build_bundle import Made, write
from edgevit.commands.build_inputs import Inputs, begin, read_inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.build_result import BuildResult
from edgevit.commands.expected import TIMED_SECONDS, require_memory
from edgevit.commands.known_images import check_images_known, known_to
from edgevit.commands.steps import Work, run_steps
from edgevit.commands.target_graph import Compiled, compile_for
from edgevit.engine import alternatives
from edgevit.engine.here import is_here, proxy_engine, proxy_engine_of
from edgevit.engine.samples import samples_bytes
from edgevit.engine.trusted import CheckedGraph, Trusted, trusted_engine
from edgevit.export.variants import Variant, fp32_variant
from edgevit.heap import give_back
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison
from edgevit.model.checkpoint import Checkpoint
from edgevit.numberformat import FP32
from edgevit.progress import Progress
from edgevit.quantize.checked import checked_graph
from edgevit.quantize.samples import sample_frames
from edgevit.workbench import Workbench

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from edgevit.commands.build_arguments import PruneOptions
    from edgevit.engine.samples import Samples
    from edgevit.preprocess import Frame
    from edgevit.recipe import Recipe
    from edgevit.target import Target

RUNS = 60  # timed inferences per precision


def build(
    model: str | Path,
    *,
    data: str | Path | None = None,
    target: str | Path | Target = "cpu",
    precision: str | None = None,
    max_drop: float | None = None,
    prune: float | str | None = None,
    speedup: float | None = None,
    merge: float | str | None = None,
    out: str | Path | None = None,
    eval_data: str | Path | None = None,
    eval_limit: int = 1024,
    recipe: str | Path | Recipe = "default",
    reference: bool = True,
    features: bool = False,
    unknown: bool = False,
    class_order: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    cache: Cache | bool = True,
    progress: Progress | None = None,
    command: str = "",
    **options: Unpack[PruneOptions],
) -> BuildResult:
    """Turn a trained ViT into a bundle for a device. Interrupted, the same call goes on from there.

    >>> result = edgevit.build("model/", data="train/", target="jetson", max_drop=0.5)
    >>> result.bundle.path, result.rows

    Args:
        model: a checkpoint: .safetensors, .pt, .pth, or a folder of transformers or timm.
        data: images to calibrate on, a folder (class per subfolder) or an .npz; INT8, pruning and merging need them.
        target: the device: a name in targets/, the path of a .toml file, or a `Target`.
        precision: what GEMMs compute in: ``int8`` (the default), ``fp16``, ``fp32``, or ``auto``: INT8 as far as ``max_drop``
            allows.
        max_drop: percentage points of top-1 (several labels: of mAP; without labels: of agreement with FP32) that pruning and
            INT8 together may cost. ``precision="auto"`` alone means 0.5, ``prune="auto"`` 1.
        prune: share of the multiply-accumulates to remove first, 0 to 0.9, or ``auto``: what ``max_drop`` allows.
        speedup: instead of ``prune``, how many times as fast the model is to be, 1 to 10, by whatever does least harm for it:
            fewer heads, neurons, sublayers, tokens.
        out: the bundle to write, a folder or .zip; MODEL.edgevit in the working folder by default.
        eval_data: images to measure accuracy on; what calibration leaves of ``data`` by default.
        eval_limit: images measured on at most.
        recipe: how to calibrate: a name in calibration/, the path of a .toml file, or a `Recipe`.
        merge: how many tokens to merge, without training: a share of the multiply-accumulates, or by hand, ``64@2,64@5``;
            ``none`` keeps ``speedup`` and ``prune="auto"`` from merging any.
        reference: whether the bundle keeps the FP32 graph, and frames of ``data`` that engines are checked with.
        features: whether the bundle gives what the head sees, too, for search and clustering: `Classifier.features`.
        unknown: whether the bundle tells what is unlike the images of ``data``: ``Classifier.run(unknown="auto")``.
        class_order: how the trainer sorted class folders, ``text`` or ``natural``, for a model without names; None asks it.
        threads: CPU threads of an inference; all by default.
        device: where torch computes what is heavy (statistics, GPTQ, gradients, distillation): ``cpu``, ``cuda``, ``cuda:1``; by
            default CUDA where torch has it. Results are the same but for rounding.
        cache: whether stages are kept and found again; or where, as a `Cache`.
        progress: who is told how far it is; nobody by default.
        command: what was typed, for the conditions of what is measured.
        options: how to prune and to read the checkpoint, see `PruneOptions` and `ImportOptions`.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: whatever else a user can put right; `edgevit.errors` has the kinds. Messages name an argument as the
            command line does: ``--max-drop`` is ``max_drop``.
    """
    request = build_request(
        model, data=data, target=target, precision=precision, max_drop=max_drop, prune=prune, speedup=speedup, merge=merge,
        out=out, eval_data=eval_data, eval_limit=eval_limit, recipe=recipe, reference=reference, class_order=class_order,
        features=features, unknown=unknown, threads=threads, device=device, command=command, **options,
    )  # fmt: skip
    return run_build(request, cache_of(cache), progress or Progress())


class _Timed(Progress):
    """Passes on to ``inner`` and adds up the seconds of all stages of a name; behind each, memory is given back."""

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
        give_back()


def run_build(request: BuildRequest, cache: Cache, progress: Progress) -> BuildResult:
    """Run all stages and write the bundle to ``request.out``.

    Interrupted, it leaves no bundle, and every stage that had finished is found in the cache next time.
    Raises EdgevitError for whatever a user can put right.
    """
    timed, load = _Timed(progress), machine.load()
    check_replaceable(request.out)
    inputs, bench = read_inputs(request, timed), request.bench(cache, timed)
    require_memory(request, inputs)
    check_images_known(request, inputs)
    cache.check()
    original = inputs.checkpoint
    frames = sample_frames((inputs.calibration or inputs.held_out) if request.reference else None, original.preprocessing)
    trusted, whole = _reference(original, frames, bench)  # before it decides anything
    bench, notes = _on(trusted, bench), [*inputs.notes, *trusted.notes]
    inputs, work = begin(request, inputs, bench)
    work = run_steps(request.steps, work)
    assert work.decided is not None  # by the last step
    compiled = compile_for(work.decided, bench).in_fastest_form(work.checkpoint, frames, bench, work.budget)
    others, trusted = _checked(trusted, work, compiled, frames, bench)
    if trusted.engine != bench.engine and compiled.choice:  # the form was chosen for an engine that is not taken
        compiled, trusted = compile_for(work.decided, _on(trusted, bench)), replace(trusted, verdicts=trusted.verdicts[:1])
        others, trusted = _checked(trusted, work, compiled, frames, bench)
    bench, notes = _on(trusted, bench), [*notes, *work.notes, *compiled.notes, *trusted.notes]
    known = known_to(compiled.variant.model, trusted.verdicts[-1].compiled, request, inputs, bench) if request.unknown else None
    samples = samples_bytes(others[-1].samples if others else whole, whole if others else None)
    work, compiled = replace(work, decided=None), replace(compiled, variant=replace(compiled.variant, plan=None))
    with timed.stage("write graph"):  # again: between, it would be as much memory as the model
        reference = replace(fp32_variant(original, proxy_engine(bench)), plan=None)
    graphs = [(reference.precision, reference.model), *((item.precision, item.model) for item in others)]
    comparison = _compared(request, inputs, graphs, trusted, load, bench)
    if comparison and work.budget and (note := work.budget.note(comparison.rows[-1])):
        notes.append(note)
    with timed.stage("write bundle"):
        made = Made(
            inputs=inputs, work=work, target=bench.target, reference=reference, compiled=compiled, comparison=comparison,
            verdicts=trusted.verdicts, samples=samples, known=known, notes=tuple(dict.fromkeys(notes)), seconds=timed.seconds,
        )  # fmt: skip
        bundle = write(request, made)
    return BuildResult(
        bundle=bundle, target=request.target, comparison=comparison, compiled=compiled, seconds=timed.seconds,
        verdicts=trusted.verdicts,
    )  # fmt: skip


def _reference(original: Checkpoint, frames: Frame, bench: Workbench) -> tuple[Trusted, Samples]:
    """The first engine that computes the model as it came, and what that gives."""
    with bench.stage("write graph"):
        variant = fp32_variant(original, proxy_engine(bench))
    with bench.stage("check engine"):
        whole = checked_graph(variant, original, frames)
        return trusted_engine(alternatives(proxy_engine(bench)), [whole], threads=bench.threads), whole.samples


def _checked(
    trusted: Trusted, work: Work, compiled: Compiled, frames: Frame, bench: Workbench
) -> tuple[list[CheckedGraph], Trusted]:  # fmt: skip
    """What is compared with the reference, each with what it should give, and the engine that it all passes on."""
    with bench.stage("check engine"):
        ready = {compiled.variant.model: compiled.files[ENGINE]} if ENGINE in compiled.files else {}
        graphs = _beside_reference(work, compiled.variant)
        others = [checked_graph(row, source, frames, compiled=ready.get(row.model)) for row, source in graphs]
        return others, _all_trusted(trusted, work, others, frames, bench)


def _on(trusted: Trusted, bench: Workbench) -> Workbench:
    """The bench with the engine that can be trusted: the target's, too, if its own was found wrong here."""
    if bench.engine == proxy_engine_of(bench.target) != trusted.engine:
        bench = replace(bench, target=bench.target.on(trusted.engine))
    return bench.on(trusted.engine)


def _all_trusted(
    trusted: Trusted, work: Work, others: list[CheckedGraph], frames: Frame, bench: Workbench
) -> Trusted:  # fmt: skip
    """The engine that ``others``, too, pass on, if need be another than that of ``trusted``, where the reference passed.

    All rows of a comparison are from one engine: figures of two would differ by more than their precision.
    """
    found = trusted_engine(alternatives(trusted.engine), others, threads=bench.threads)
    if found.engine != trusted.engine:
        whole = checked_graph(fp32_variant(work.original, found.engine), work.original, frames)
        trusted = trusted_engine([found.engine], [whole], threads=bench.threads)
    return replace(trusted, verdicts=(*trusted.verdicts, *found.verdicts), notes=(*trusted.notes, *found.notes))


def _beside_reference(work: Work, variant: Variant) -> list[tuple[Variant, Checkpoint]]:
    """What is compared with the model as it came, each with what it was written from: behind every step, and in its precision."""
    engine = proxy_engine(work.bench)
    between = [(replace(fp32_variant(source, engine), precision=name), source) for name, source in work.between]
    if variant.precision == FP32.name and variant.model == fp32_variant(work.checkpoint, engine).model:
        return between
    return [*between, (variant, work.checkpoint)]


def _compared(
    request: BuildRequest, inputs: Inputs, graphs: list[tuple[str, bytes]], trusted: Trusted, load: float, bench: Workbench
) -> Comparison | None:
    """All ``graphs``, ONNX by precision, on the images that are held out; None if there are none, or it is not wanted."""
    if inputs.held_out is None or not request.compared:
        return None
    return compare(
        [
            Candidate(precision=precision, engine=trusted.engine, model=model, compiled=verdict.compiled)
            for (precision, model), verdict in zip(graphs, trusted.verdicts, strict=True)
        ],
        inputs.held_out,
        inputs.checkpoint.preprocessing,
        inputs.checkpoint.labels,
        problem_type=inputs.checkpoint.problem_type,
        # A stand-in's milliseconds say nothing about another engine's device.
        runs=RUNS if is_here(bench.target) else 0,
        limit_s=TIMED_SECONDS,
        bench=bench,
        command=request.command,
        load=load,
    )
