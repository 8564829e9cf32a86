"""Where costs come from: small models timed on this machine, or plans of a board's engine that are compiled here."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import numpy as np

from edgevit.cache import Kind
from edgevit.device.processor import processor
from edgevit.engine import backend, builder, open_session
from edgevit.engine.base import available_threads
from edgevit.engine.builder import BuildOptions
from edgevit.engine.here import is_here
from edgevit.engines import traits_of
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.export.merging import can_merge_in
from edgevit.measure import latency
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.numberformat import FORMATS
from edgevit.part import Part
from edgevit.plan.preflight import read_plan
from edgevit.plan.roofline import best_estimates
from edgevit.preprocess import Preprocessing
from edgevit.pruning.costs import DEPTH, Costs, costs_from, macs_only, timed_shapes
from edgevit.target import Target, load_target
from edgevit.vitconfig import VitConfig
from edgevit.workbench import Workbench

TIMES = Kind("costs", __name__)
RUNS = 30  # timed inferences of each, if they take no longer than
LIMIT = 30.0  # seconds, all models together


def costs_on(bench: Workbench, config: VitConfig, precision: str) -> Costs:
    """What layers of a model like ``config`` take on the bench's target.

    Those of an engine that compiles in a second are measured where this machine is the target; where the builder lists its
    kernels, they are estimated by the roofline of plans compiled here; without either, multiply-accumulates: another CPU's
    milliseconds would optimise for the wrong one.
    """
    target, traits = bench.target, traits_of(bench.engine)
    if traits.lists_kernels:
        board = load_target(target.boards[0]) if target.boards else target
        return estimated(config, board, precision, bench)
    return measured(config, precision, bench) if is_timed_here(bench) else macs_only(config)


def is_timed_here(bench: Workbench) -> bool:
    """Whether models for the bench's target can be timed on this machine as they are."""
    return is_here(bench.target) and not traits_of(bench.engine).ahead_of_time


def measured(config: VitConfig, precision: str, bench: Workbench) -> Costs:
    """Milliseconds on this machine: every model of `timed_shapes`, timed in turns on the target's engine.

    ``precision`` is fp32 or int8, in which every GEMM of the blocks is INT8 and attention is not.
    """
    engine, threads = bench.engine, bench.threads
    merging = can_merge_in(config, form_for(engine, precision))
    shapes = timed_shapes(config, merging=merging)
    version = f"{backend(engine).version} on {processor()}"
    key: dict[str, Any] = {"config": config.to_dict(), "engine": version, "precision": precision,
                           "threads": threads or available_threads()}  # fmt: skip
    with bench.stage("measure layer times", total=RUNS) as stage:
        stored = bench.cache.find(TIMES, **key)
        stage.cached = stored is not None
        if stored is None:
            graphs = {str(number): random_graph(shape, engine, precision) for number, shape in enumerate(shapes)}
            frames = np.zeros((1, *config.image_size, 3), np.uint8)
            with ExitStack() as stack:
                sessions = {
                    name: stack.enter_context(open_session(engine, graph, threads=threads)) for name, graph in graphs.items()
                }
                found = latency.measure_latency(sessions, frames, runs=RUNS, stage=stage, limit_s=LIMIT)
            stored = json.dumps([found[name].p50_ms for name in graphs]).encode()
            bench.cache.store(TIMES, stored, **key)
    times = dict(zip(shapes, json.loads(stored), strict=True))
    return costs_from(f"milliseconds, {precision} on {version}", config, times.__getitem__, merging=merging)


def estimated(config: VitConfig, board: Target, precision: str, bench: Workbench) -> Costs:
    """Milliseconds on ``board`` by the roofline of the plans that its engine's builder compiles on this machine.

    Without a builder, or without a known bandwidth, `macs_only`.
    """
    engine = board.engine()
    merging = can_merge_in(config, form_for(engine, precision))
    shapes = timed_shapes(config, merging=merging)
    try:
        version = backend(engine).version
        key: dict[str, Any] = {"config": config.to_dict(), "engine": version, "precision": precision, "board": board.to_dict()}
        with bench.stage(f"estimate layer times by {version}", total=len(shapes)) as stage:
            stored = bench.cache.find(TIMES, **key)
            stage.cached = stored is not None
            if stored is None:
                times = []
                for shape in shapes:
                    built = builder(engine).build(random_graph(shape, engine, precision), BuildOptions())
                    times += [found.milliseconds for found in best_estimates(read_plan(built, blocks=DEPTH).plan, [board])]
                    stage.advance()
                stored = json.dumps(times).encode()
                bench.cache.store(TIMES, stored, **key)
    except (EngineError, MissingPackageError):
        return macs_only(config)
    found_times = json.loads(stored)
    if len(found_times) < len(shapes):  # a plan that could not be read, or a board whose bandwidth is not known
        return macs_only(config)
    known = dict(zip(shapes, found_times, strict=True))
    source = f"milliseconds, {precision}, roofline of {board.name} for plans by {version}"
    return costs_from(source, config, known.__getitem__, merging=merging)


def timed_speedup(before: VitConfig, after: VitConfig, precision: str, bench: Workbench) -> float:
    """How many times as fast a model of shapes ``after`` is as one of ``before``, measured here in turns with random weights."""
    engine, threads = bench.engine, bench.threads
    graphs = {name: random_graph(config, engine, precision) for name, config in (("before", before), ("after", after))}
    frames = np.zeros((1, *before.image_size, 3), np.uint8)
    with bench.stage("measure the speed-up", total=RUNS) as stage, ExitStack() as stack:
        sessions = {name: stack.enter_context(open_session(engine, graph, threads=threads)) for name, graph in graphs.items()}
        found = latency.measure_latency(sessions, frames, runs=RUNS, stage=stage, limit_s=LIMIT)
    return found["before"].p50_ms / found["after"].p50_ms


def random_graph(config: VitConfig, engine: str, precision: str) -> bytes:
    """A model with random weights: what it takes depends on shapes alone."""
    import torch

    from edgevit.model.quantplan import QuantizedLinear, QuantPlan
    from edgevit.model.rounding import quantize_weight

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Vit(config)
    contract = Preprocessing(
        size=config.image_size, resize=config.image_size, mean=(0.0,) * config.channels, std=(1.0,) * config.channels,
        color="gray" if config.channels == 1 else "rgb",
    )  # fmt: skip
    plan = QuantPlan(model=fold(model.eval(), contract))
    to = FORMATS[precision]
    if to.scaled:
        for index, folded in enumerate(plan.model.blocks):
            for kind, linear in folded.linears.items():
                weight, scale = quantize_weight(linear.weight, to)
                plan.linears[Part(index, kind)] = QuantizedLinear(
                    weight=weight, weight_scale=scale, input_scale=0.03125, bias=linear.bias, format=to
                )
    return write_graph(plan, form_for(engine, precision))
