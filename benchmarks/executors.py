"""How many images a second are evaluated by 1, 2, ... workers, and what a stated model says of more.

    python benchmarks/executors.py [--model deit_t|deit_s|vit_b|dinov2_s] [--images 256] [--workers 1,2] [--rounds 3] [--ray]

Weights and images are random: speed does not depend on them. Every arrangement evaluates the same images of one model, with
nothing cached and its workers warm, in turns with the others; each computes with one thread. ``--ray`` adds a Ray cluster of one
CPU a node that is started here, on loopback. Two arrangements must give the same logits to the last bit, or this ends.

The model is Amdahl's: a share s of the time of one worker is the coordinator's own (digests of images, tasks, results) and stays
as it is; the rest is divided. s is measured here in CPU time, which neighbours on the machine do not stretch: that of this
process beside one worker, over that of doing everything in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch

from edgevit.cli.console import table
from edgevit.device.processor import processor
from edgevit.executor.base import Executor
from edgevit.executor.processes import Processes
from edgevit.executor.serial import Serial
from edgevit.export.graph import write_graph
from edgevit.images.dataset import ImageSet
from edgevit.measure import evaluate, machine
from edgevit.measure.shards import Evaluation, evaluate_sharded
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import Vit
from edgevit.preprocess import Preprocessing
from edgevit.vitconfig import BlockConfig, VitConfig
from edgevit.workbench import Workbench

MODELS = {"deit_t": (192, 3, 16), "deit_s": (384, 6, 16), "vit_b": (768, 12, 16), "dinov2_s": (384, 6, 14)}
SIDE = 224
MORE = (4, 8, 16, 64)
"""Workers that the model is asked about."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="deit_s")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard", type=int, default=32, help="images of a shard; edgevit's own is 128")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    evaluate.CHUNK = chosen.shard
    counts = [int(part) for part in chosen.workers.split(",")]
    wanted, images = _model(chosen.model), _images(chosen.images)
    load = machine.load()
    with ExitStack() as stack:
        executors: dict[str, Executor] = {"this process": stack.enter_context(Serial())}
        executors |= {f"{count} processes": stack.enter_context(Processes(count)) for count in counts}
        if chosen.ray:
            executors |= stack.enter_context(_ray(counts))
        times, cpu = _measure(executors, wanted, images, chosen.rounds)
    alone, beside = cpu["this process"], cpu.get("1 processes")
    serial = statistics.median(beside) / statistics.median(alone) if beside else None
    _print(chosen, times, serial, load)
    if chosen.json is not None:
        found = {"seconds": times, "cpu_seconds": cpu, "serial_share": serial, "images": chosen.images}
        chosen.json.write_text(json.dumps(found, indent=2))


def _measure(
    executors: dict[str, Executor], wanted: Evaluation, images: ImageSet, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each arrangement in every round, and the CPU seconds of this process."""
    times: dict[str, list[float]] = {name: [] for name in executors}
    own: dict[str, list[float]] = {name: [] for name in executors}
    logits = None
    for turn in range(rounds + 1):  # the first starts workers and compiles
        for name, executor in executors.items():
            begin, cpu = time.perf_counter(), time.process_time()
            (found,) = evaluate_sharded([wanted], images, executor, Workbench())
            if turn:
                times[name].append(time.perf_counter() - begin)
                own[name].append(time.process_time() - cpu)
            if logits is not None and not np.array_equal(found, logits):
                sys.exit(f"{name} gave other logits")
            logits = found
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return times, own


def _print(chosen: argparse.Namespace, times: dict[str, list[float]], serial: float | None, load: float) -> None:
    one = statistics.median(times["1 processes"]) if serial is not None else statistics.median(times["this process"])
    rows = []
    for name, own in times.items():
        middle = statistics.median(own)
        ratios = [base / mine for base, mine in zip(times.get("1 processes", times["this process"]), own, strict=True)]
        rows.append((name, f"{chosen.images / middle:.1f}", f"{one / middle:.2f}x", f"{min(ratios):.2f} to {max(ratios):.2f}"))
    table("Evaluation, the same logits to the last bit", ("", "images/s", "against 1 process", "by round"), rows)
    if serial is not None:
        told = [(f"{n} workers", f"{1 / (serial + (1 - serial) / n):.1f}x") for n in MORE]
        table(f"Not measured: Amdahl with a serial share of {100 * serial:.2f} %", ("", "against 1"), told)
        print(f"at most {1 / serial:.0f}x, when this process does nothing but hand out and collect.")
    print(
        f"{chosen.model} in FP32, openvino, {chosen.images} random images of {SIDE} pixels, {chosen.shard} a shard; one thread "
        f"a worker; {chosen.rounds} rounds, in turns, workers warm; {processor()}, {os.cpu_count()} CPUs, load {load:g} before."
    )


def _model(name: str) -> Evaluation:
    width, heads, patch = MODELS[name]
    block = BlockConfig(heads=heads, hidden=4 * width)
    torch.manual_seed(0)
    vit = Vit(VitConfig(image_size=(SIDE, SIDE), patch_size=patch, classes=1000, blocks=(block,) * 12, width=width, head_dim=64))
    contract = Preprocessing(size=(SIDE, SIDE), resize=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3)
    graph = write_graph(QuantPlan(model=fold(vit.eval(), contract)))
    return Evaluation(name=name, engine="openvino", model=graph, contract=contract)


def _images(count: int) -> ImageSet:
    frames = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    return ImageSet(source="random", names=tuple(map(str, range(count))), class_names=(), targets=None, array=frames)


@contextmanager
def _ray(counts: list[int]) -> Iterator[dict[str, Executor]]:
    """An executor of each size on a cluster of as many nodes as the largest needs, which is ended afterwards."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    from ray.cluster_utils import Cluster

    from edgevit.executor.ray_cluster import RayCluster

    node = {"node_ip_address": "127.0.0.1", "num_cpus": len(counts)}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    for _ in range(max(counts) - 1):
        cluster.add_node(**node)
    try:
        with ExitStack() as stack:
            yield {f"{n} on Ray": stack.enter_context(RayCluster(cluster.address, workers=n)) for n in counts}
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
