"""What the sublayers of a model cost on a target, so that pruning saves time and not just arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgevit.cache import Kind
from edgevit.engine import backend, builder, open_session
from edgevit.engine.base import processor
from edgevit.engine.builder import BuildOptions
from edgevit.errors import EngineError, MissingPackageError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.measure import latency
from edgevit.model.macs import macs, sublayer_macs
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.numberformat import FORMATS
from edgevit.part import Part
from edgevit.plan.preflight import read_plan
from edgevit.plan.roofline import best_estimates
from edgevit.preprocess import Preprocessing
from edgevit.target import Target
from edgevit.vitconfig import BlockConfig, VitConfig
from edgevit.workbench import Workbench

TIMES = Kind("costs", __name__)
DEPTH = 3  # equal blocks of the models that are timed
STEPS = 6  # sizes between nothing and the whole
RUNS = 30  # timed inferences of each


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Times of one block's sublayers by size, in any unit that is the same everywhere."""

    source: str
    """Where they come from, for people."""
    attention: dict[int, float]
    """By heads; 0 is nothing but a bias."""
    mlp: dict[int, float]
    """By hidden neurons; 0 is nothing but a bias."""
    maps: tuple[float, float]
    """An affine map in the place of attention, and of the MLP."""
    ends: float
    """Patches and head."""

    def sublayer(self, config: VitConfig, index: int, kind: str, block: BlockConfig) -> float:
        """Of ``attention`` or ``mlp`` of block ``index``, had it the widths of ``block``; between known sizes interpolated.

        The last block carries fewer tokens on: it takes the share that its arithmetic is of another block's.
        """
        units, is_map, table, place = (
            (block.heads, block.attention_map, self.attention, 0) if kind == "attention" else
            (block.hidden, block.mlp_map, self.mlp, 1)
        )  # fmt: skip
        time = self.maps[place] if is_map else float(np.interp(units, sorted(table), [table[size] for size in sorted(table)]))
        full = sublayer_macs(_uniform(config, block), 0, kind, block)
        return time * sublayer_macs(config, index, kind, block) / full if full else time

    def total(self, config: VitConfig) -> float:
        """Of a whole model."""
        return self.ends + sum(
            self.sublayer(config, index, kind, block)
            for index, block in enumerate(config.blocks)
            for kind in ("attention", "mlp")
        )


def macs_only(config: VitConfig) -> Costs:
    """Multiply-accumulates: what there is where nothing can be measured."""
    return _costs("multiply-accumulates", config, lambda block: float(macs(_uniform(config, block))))


def measured(config: VitConfig, precision: str, bench: Workbench) -> Costs:
    """Milliseconds on this machine: small models of `DEPTH` blocks of every size, timed in turns on the target's engine.

    ``precision`` is fp32 or int8, in which every GEMM of the blocks is INT8 and attention is not. Sizes are in `sizes`.
    """
    blocks, engine, threads = _sizes(config), bench.engine, bench.threads
    version = f"{backend(engine).version} on {processor()}"
    key: dict[str, Any] = {"config": config.to_dict(), "engine": version, "precision": precision, "threads": threads}
    with bench.stage("measure layer times", total=RUNS) as stage:
        stored = bench.cache.find(TIMES, **key)
        stage.cached = stored is not None
        if stored is None:
            graphs = {str(number): _graph(config, block, engine, precision) for number, block in enumerate(blocks)}
            frames = np.zeros((1, *config.image_size, 3), np.uint8)
            with ExitStack() as stack:
                sessions = {
                    name: stack.enter_context(open_session(engine, graph, threads=threads)) for name, graph in graphs.items()
                }
                found = latency.measure_latency(sessions, frames, runs=RUNS, stage=stage)
            stored = json.dumps([found[name].p50_ms for name in graphs]).encode()
            bench.cache.store(TIMES, stored, **key)
    times = dict(zip(blocks, json.loads(stored), strict=True))
    return _costs(f"milliseconds, {precision} on {version}", config, times.__getitem__)


def timed_speedup(before: VitConfig, after: VitConfig, precision: str, bench: Workbench) -> float:
    """How many times as fast a model of shapes ``after`` is as one of ``before``, measured here in turns with random weights."""
    engine, threads = bench.engine, bench.threads
    graphs = {name: _random_graph(config, engine, precision) for name, config in (("before", before), ("after", after))}
    frames = np.zeros((1, *before.image_size, 3), np.uint8)
    with bench.stage("measure the speed-up", total=RUNS) as stage, ExitStack() as stack:
        sessions = {name: stack.enter_context(open_session(engine, graph, threads=threads)) for name, graph in graphs.items()}
        found = latency.measure_latency(sessions, frames, runs=RUNS, stage=stage)
    return found["before"].p50_ms / found["after"].p50_ms


def estimated(config: VitConfig, board: Target, precision: str, bench: Workbench) -> Costs:
    """Milliseconds on ``board`` by the roofline of the plans that its engine's builder compiles on this machine.

    Without a builder, or without a known bandwidth, `macs_only`.
    """
    engine = board.engine()
    blocks = _sizes(config)
    try:
        version = backend(engine).version
        key: dict[str, Any] = {"config": config.to_dict(), "engine": version, "precision": precision, "board": board.to_dict()}
        with bench.stage(f"estimate layer times by {version}", total=len(blocks)) as stage:
            stored = bench.cache.find(TIMES, **key)
            stage.cached = stored is not None
            if stored is None:
                times = []
                for block in blocks:
                    built = builder(engine).build(_graph(config, block, engine, precision), BuildOptions())
                    times += [found.milliseconds for found in best_estimates(read_plan(built, blocks=DEPTH).plan, [board])]
                    stage.advance()
                stored = json.dumps(times).encode()
                bench.cache.store(TIMES, stored, **key)
    except (EngineError, MissingPackageError):
        return macs_only(config)
    found_times = json.loads(stored)
    if len(found_times) < len(blocks):  # a plan that could not be read, or a board whose bandwidth is not known
        return macs_only(config)
    known = dict(zip(blocks, found_times, strict=True))
    return _costs(f"milliseconds, {precision}, roofline of {board.name} for plans by {version}", config, known.__getitem__)


def _costs(source: str, config: VitConfig, time: Callable[[BlockConfig], float]) -> Costs:
    """From the times of models of `DEPTH` equal blocks."""
    whole = _whole(config)
    total = time(whole)

    def saved(block: BlockConfig) -> float:
        return (total - time(block)) / DEPTH

    everything = saved(replace(whole, heads=0)), saved(replace(whole, hidden=0))
    attention = {heads: everything[0] - saved(replace(whole, heads=heads)) for heads in _heads(config)}
    mlp = {hidden: everything[1] - saved(replace(whole, hidden=hidden)) for hidden in _hidden(config)}
    maps = (everything[0] - saved(replace(whole, heads=0, attention_map=True)),
            everything[1] - saved(replace(whole, hidden=0, mlp_map=True)))  # fmt: skip
    ends = max(0.0, total - DEPTH * sum(everything))
    return Costs(
        source=source, attention=_rising(attention), mlp=_rising(mlp), maps=(max(0.0, maps[0]), max(0.0, maps[1])), ends=ends
    )


def _rising(times: dict[int, float]) -> dict[int, float]:
    """Times that never fall as sizes grow: what noise there is does not make a wider layer look cheaper."""
    names = sorted(times)
    return dict(zip(names, np.maximum.accumulate([times[name] for name in names]).tolist(), strict=True))


def _whole(config: VitConfig) -> BlockConfig:
    return BlockConfig(heads=max(block.heads for block in config.blocks), hidden=max(block.hidden for block in config.blocks))


def _heads(config: VitConfig) -> tuple[int, ...]:
    whole = _whole(config).heads
    return tuple(sorted({round(whole * step / STEPS) for step in range(STEPS + 1)}))


def _hidden(config: VitConfig) -> tuple[int, ...]:
    whole = _whole(config).hidden
    return tuple(sorted({whole, *(round(whole * step / STEPS / 32) * 32 for step in range(STEPS))}))


def _sizes(config: VitConfig) -> list[BlockConfig]:
    """Every block whose time `_costs` asks for."""
    whole = _whole(config)
    found = [replace(whole, heads=heads) for heads in _heads(config)] + [
        replace(whole, hidden=hidden) for hidden in _hidden(config)
    ]
    found += [replace(whole, heads=0, attention_map=True), replace(whole, hidden=0, mlp_map=True)]
    return list(dict.fromkeys(found))


def _uniform(config: VitConfig, block: BlockConfig) -> VitConfig:
    """`DEPTH` such blocks, which all carry every token on."""
    return replace(config, blocks=(replace(block, merged=0),) * DEPTH, pooling=("mean",), layer_scale=False, classes=1)


def _graph(config: VitConfig, block: BlockConfig, engine: str, precision: str) -> bytes:
    return _random_graph(_uniform(config, block), engine, precision)


def _random_graph(config: VitConfig, engine: str, precision: str) -> bytes:
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
