"""``edgevit prune`` as a library call: a pruned checkpoint on disk, and what it costs and gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.cache import Cache
from edgevit.commands.arguments import cache_of
from edgevit.commands.build_arguments import prune_request
from edgevit.commands.build_inputs import begin, read_inputs
from edgevit.commands.build_request import BuildRequest
from edgevit.commands.expected import require_memory
from edgevit.commands.prune_result import PruneResult
from edgevit.commands.steps import run_steps
from edgevit.engine import alternatives
from edgevit.engine.here import is_here, proxy_engine
from edgevit.engine.trusted import trusted_engine
from edgevit.errors import ConfigError
from edgevit.export.variants import fp32_variant
from edgevit.files.writing import require_writable
from edgevit.measure import machine
from edgevit.measure.compare import Candidate, compare
from edgevit.model.checkpoint import check_replaceable, save_checkpoint
from edgevit.progress import Progress
from edgevit.quantize.checked import checked_graph
from edgevit.quantize.samples import sample_frames

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from edgevit.commands.build_arguments import PruneOptions
    from edgevit.target import Target

RUNS = 60  # timed inferences of each


def prune(
    model: str | Path,
    *,
    data: str | Path,
    share: float | str | None = None,
    speedup: float | None = None,
    merge: float | str | None = None,
    max_drop: float | None = None,
    out: str | Path | None = None,
    eval_data: str | Path | None = None,
    eval_limit: int = 1024,
    target: str | Path | Target = "cpu",
    precision: str | None = None,
    class_order: str | None = None,
    threads: int | None = None,
    device: str = "auto",
    cache: Cache | bool = True,
    progress: Progress | None = None,
    command: str = "",
    **options: Unpack[PruneOptions],
) -> PruneResult:
    """Write a smaller checkpoint: heads, hidden neurons, halves of blocks and tokens removed, the rest refitted in closed form.

    >>> smaller = edgevit.prune("model/", data="train/", share=0.3)
    >>> edgevit.build(smaller.path, data="train/")

    Args:
        model: a checkpoint: .safetensors, .pt, .pth, or a folder of transformers or timm.
        data: images to prune on, a folder or an .npz; labels are not needed.
        share: of the multiply-accumulates to remove, 0 to 0.9, or ``auto``: what ``max_drop`` allows. One of ``share``,
            ``speedup``, ``merge`` and ``max_drop`` is needed.
        speedup: how many times as fast the model is to be, 1 to 10: measured where the target is this machine's CPU, else
            estimated. Whatever does least harm for it is removed: heads, neurons, sublayers, tokens.
        merge: how many tokens to merge: a share of the multiply-accumulates, or by hand, ``64@2,64@5``; ``none`` keeps a search
            from merging any.
        max_drop: percentage points of top-1 (several labels: of mAP; without labels: of agreement) that pruning may cost;
            0.5 where ``share="auto"`` stands alone.
        out: the .safetensors to write; MODEL-pruned.safetensors in the working folder by default.
        eval_data: images to measure accuracy on; what pruning leaves of ``data`` by default.
        eval_limit: images measured on at most.
        target: the device whose layer times count: a name in targets/, the path of a .toml file, or a `Target`.
        precision: ``int8``, ``fp16`` or ``fp32``: what layer times are taken in; INT8 if the target has it.
        class_order, threads, device, cache, progress, command, options: as `edgevit.build` takes them.

    Raises:
        TypeError: an argument is of a type that it cannot be.
        EdgevitError: whatever else a user can put right. Messages name an argument as the command line does.
    """
    request = prune_request(
        model, data=data, share=share, speedup=speedup, merge=merge, max_drop=max_drop, out=out, eval_data=eval_data,
        eval_limit=eval_limit, target=target, precision=precision, class_order=class_order,
        threads=threads, device=device, command=command, **options,
    )  # fmt: skip
    return prune_checkpoint(request, cache_of(cache), progress or Progress())


def prune_checkpoint(request: BuildRequest, cache: Cache, progress: Progress) -> PruneResult:
    """Prune ``request.model`` and write it to ``request.out``, an ordinary checkpoint. Raises EdgevitError as a build does."""
    if request.out.suffix != ".safetensors":
        msg = f"{request.out}: a checkpoint is written as .safetensors. Name it {request.out.name}.safetensors"
        raise ConfigError(msg)
    check_replaceable(request.out)
    require_writable(request.out, option="-o")
    load = machine.load()
    inputs, bench = read_inputs(request, progress), request.bench(cache, progress)
    require_memory(request, inputs)
    cache.check()
    frames = sample_frames(inputs.fitting, inputs.checkpoint.preprocessing)
    with bench.stage("check engine"):
        whole = checked_graph(fp32_variant(inputs.checkpoint, proxy_engine(bench)), inputs.checkpoint, frames)
        trusted = trusted_engine(alternatives(proxy_engine(bench)), [whole], threads=bench.threads)
    bench, notes = bench.on(trusted.engine), trusted.notes
    inputs, work = begin(request, inputs, bench)
    work = run_steps(request.smaller, work)
    leaves = work.between[-1][0]
    comparison = None
    if inputs.held_out is not None:
        with bench.stage("check engine"):
            graph = fp32_variant(work.checkpoint, proxy_engine(bench))
            pruned_graph = checked_graph(graph, work.checkpoint, frames, leaves)
            trusted = trusted_engine(alternatives(proxy_engine(bench)), [whole, pruned_graph], threads=bench.threads)
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
        pruned.model, request.out, preprocessing=pruned.preprocessing, labels=pruned.labels, problem_type=pruned.problem_type,
        text=pruned.text,
    )  # fmt: skip
    notes = (*inputs.notes, *dict.fromkeys(notes), *work.notes)
    if comparison and work.budget and (note := work.budget.note(comparison.rows[-1])):
        notes = (*notes, note)
    return PruneResult(path=request.out, report=dict(work.report), comparison=comparison, notes=notes)
