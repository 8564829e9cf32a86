"""``edgevit prune`` as a library call: a pruned checkpoint on disk, and what it costs and gains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.cache import Cache
from edgevit.commands.build_inputs import begin, read_inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.steps import Prune, run_step
from edgevit.engine import alternatives
from edgevit.engine.here import is_here
from edgevit.engine.trusted import trusted_engine
from edgevit.errors import ConfigError
from edgevit.export.variants import fp32_variant
from edgevit.files.writing import require_writable
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.measure.comparison import Comparison
from edgevit.measure.doubt import budget_note
from edgevit.model.checkpoint import check_replaceable, save_checkpoint
from edgevit.progress import Progress
from edgevit.quantize.checked import checked_graph
from edgevit.quantize.samples import sample_frames

RUNS = 60  # timed inferences of each


@dataclass(frozen=True, kw_only=True)
class PrunedFile:
    """A pruned checkpoint that was written."""

    path: Path
    report: dict[str, Any]
    """As `edgevit.pruning.goal.Outcome.report`."""
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
    inputs, bench = read_inputs(request, progress), request.bench(cache, progress)
    cache.check()
    frames = sample_frames(inputs.fitting, inputs.checkpoint.preprocessing)
    with bench.stage("check engine"):
        whole = checked_graph(fp32_variant(inputs.checkpoint, bench.proxy_engine), inputs.checkpoint, frames)
        trusted = trusted_engine(alternatives(bench.proxy_engine), [whole], threads=bench.threads)
    bench, notes = bench.on(trusted.engine), trusted.notes
    inputs, work = begin(request, inputs, bench)
    work = run_step(Prune(request.prune), work)
    comparison = None
    if inputs.held_out is not None:
        with bench.stage("check engine"):
            graph = fp32_variant(work.checkpoint, bench.proxy_engine)
            pruned_graph = checked_graph(graph, work.checkpoint, frames, Prune.leaves)
            trusted = trusted_engine(alternatives(bench.proxy_engine), [whole, pruned_graph], threads=bench.threads)
        notes += trusted.notes
        pair = [Candidate(precision=graph.precision, engine=trusted.engine, model=graph.model, compiled=verdict.compiled)
                for graph, verdict in zip((whole, pruned_graph), trusted.verdicts, strict=True)]  # fmt: skip
        comparison = compare(
            pair, inputs.held_out, inputs.checkpoint.preprocessing, inputs.checkpoint.labels,
            problem_type=inputs.checkpoint.problem_type,
            runs=RUNS if is_here(request.target) else 0, bench=bench, command=request.command, load=load,
        )  # fmt: skip
    pruned = work.checkpoint
    save_checkpoint(
        pruned.model, request.out, preprocessing=pruned.preprocessing, labels=pruned.labels, problem_type=pruned.problem_type
    )
    notes = (*inputs.notes, *dict.fromkeys(notes), *work.notes)
    if comparison and work.budget and request.max_drop:
        note = budget_note(request.max_drop, comparison.rows[-1], len(work.budget.evaluator.images))
        notes = (*notes, note) if note else notes
    return PrunedFile(path=request.out, report=work.report["pruning"], comparison=comparison, notes=notes)
