"""``edgevit prune`` as a library call: a pruned checkpoint on disk, and what it costs and gains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.cache import Cache
from edgevit.commands.build_inputs import BuildRequest, read_inputs, spare_images
from edgevit.engine import alternatives
from edgevit.engine.here import is_here, judge_of
from edgevit.engine.trusted import trusted_engine
from edgevit.errors import ConfigError
from edgevit.export.variants import fp32_variant
from edgevit.files.writing import require_writable
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison
from edgevit.measure.doubt import budget_note
from edgevit.measure.evaluator import Judge
from edgevit.model.checkpoint import check_replaceable, save_checkpoint
from edgevit.progress import Progress
from edgevit.prune.goal import Goal, prune_to
from edgevit.quantize.checked import checked_graph
from edgevit.quantize.samples import sample_frames

RUNS = 60  # timed inferences of each


@dataclass(frozen=True, kw_only=True)
class PrunedFile:
    """A pruned checkpoint that was written."""

    path: Path
    report: dict[str, Any]
    """As `edgevit.prune.goal.Outcome.report`."""
    comparison: Comparison | None
    """In FP32, before and after; None without images to measure on."""
    notes: tuple[str, ...]


def prune_checkpoint(request: BuildRequest, cache: Cache, progress: Progress) -> PrunedFile:
    """Prune ``request.model`` and write it to ``request.out``, an ordinary checkpoint. Raises EdgevitError as a build does."""
    assert request.prune is not None
    if request.out.suffix != ".safetensors":
        msg = f"{request.out}: a checkpoint is written as .safetensors. Name it {request.out.name}.safetensors"
        raise ConfigError(msg)
    check_replaceable(request.out)
    require_writable(request.out, option="-o")
    load = machine.load()
    inputs = read_inputs(request, progress)
    cache.check()
    judge, frames = None, sample_frames(inputs.pruning, inputs.checkpoint.preprocessing)
    with progress.stage("check engine"):
        whole = checked_graph(fp32_variant(inputs.checkpoint, judge_of(request.target)), inputs.checkpoint, frames)
        trusted = trusted_engine(alternatives(judge_of(request.target)), [whole], threads=request.threads)
    engine, notes = trusted.engine, trusted.notes
    if request.max_drop is not None:
        inputs, spare = spare_images(request, inputs)
        judge = Judge(inputs.checkpoint, spare, engine=engine, threads=request.threads, cache=cache, progress=progress)
    assert inputs.pruning is not None  # `read_inputs`
    goal = Goal(target=request.target, precision=request.precision, threads=request.threads)
    outcome = prune_to(inputs.checkpoint, inputs.pruning, request.prune, goal, judge, request.max_drop, cache, progress)
    comparison = None
    if inputs.held_out is not None:
        with progress.stage("check engine"):
            pruned_graph = checked_graph(fp32_variant(outcome.checkpoint, engine), outcome.checkpoint, frames, "fp32-pruned")
            trusted = trusted_engine(alternatives(engine), [whole, pruned_graph], threads=request.threads)
        notes += trusted.notes
        pair = [Candidate(precision=graph.precision, engine=trusted.engine, model=graph.model, compiled=verdict.compiled)
                for graph, verdict in zip((whole, pruned_graph), trusted.verdicts, strict=True)]  # fmt: skip
        comparison = compare(
            pair, inputs.held_out, inputs.checkpoint.preprocessing, inputs.checkpoint.labels,
            problem_type=inputs.checkpoint.problem_type,
            runs=RUNS if is_here(request.target) else 0, threads=request.threads, cache=cache, progress=progress,
            command=request.command,
            load=load,
        )  # fmt: skip
    pruned = outcome.checkpoint
    save_checkpoint(
        pruned.model, request.out, preprocessing=pruned.preprocessing, labels=pruned.labels, problem_type=pruned.problem_type
    )
    notes = (*inputs.notes, *dict.fromkeys(notes), outcome.summary)
    if (
        comparison
        and request.max_drop
        and (note := budget_note(request.max_drop, comparison.rows[-1], len(judge.images) if judge else 0))
    ):
        notes = (*notes, note)
    return PrunedFile(path=request.out, report=outcome.report, comparison=comparison, notes=notes)
