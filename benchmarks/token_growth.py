"""How a frame's time grows with its tokens, and what merging takes off it: latency alone, weights are random.

    python benchmarks/token_growth.py [--models deit_t,deit_s,vit_b,vit_l,dinov2_s,dinov2_s_448] [--merge 0.25,0.35]
        [--engine openvino] [--threads 2] [--runs 20] [--boards jetson-orin-nano-8gb]

INT8 of every model without merging and with each share of its multiply-accumulates merged away, in turns, one model after the
other. ``--boards`` also compiles for TensorRT, which needs its builder (docs/tensorrt.md says how to have one without a GPU):
kernels, megabytes moved, and the roofline's milliseconds in every power mode.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import numpy as np

from edgevit.cli.console import ConsoleProgress
from edgevit.device.processor import processor
from edgevit.engine import backend, builder, open_session
from edgevit.engine.builder import BuildOptions
from edgevit.measure import machine
from edgevit.measure.latency import measure_latency
from edgevit.model.macs import macs
from edgevit.plan.preflight import read_plan
from edgevit.plan.roofline import estimates
from edgevit.pruning.layer_times import random_graph
from edgevit.target import load_target
from edgevit.tokens.settings import merged_config, merges_for_share, merges_in, merges_text
from edgevit.vitconfig import BlockConfig, VitConfig

MODELS = {
    "deit_t": (192, 3, 12, 16, 224), "deit_s": (384, 6, 12, 16, 224), "vit_b": (768, 12, 12, 16, 224),
    "vit_l": (1024, 16, 24, 16, 224), "dinov2_s": (384, 6, 12, 14, 224), "dinov2_s_448": (384, 6, 12, 14, 448),
}  # fmt: skip
"""Width, heads, blocks, patch and image size."""


def main() -> None:
    args = parse_arguments()
    shares = [float(text) for text in args.merge.split(",")]
    print(f"{backend(args.engine).version} on {processor()}, {args.threads or 'all'} threads, load {machine.load():.1f}, "
          f"{args.runs} inferences of each in turns")  # fmt: skip
    print("| model | tokens | merged | GMAC | p50 ms | over none |\n|---|---|---|---|---|---|")
    for name in args.models.split(","):
        shapes = [plain(name), *(merged(plain(name), share) for share in shares)]
        for shape, milliseconds, ratio in timed(shapes, args):
            left = shape.tokens_into(len(shape.blocks) - 1)
            tokens = f"{shape.tokens}" if left == shape.tokens else f"{shape.tokens} to {left}"
            said = merges_text(merges_in(shape)) or "-"
            print(f"| {name} | {tokens} | {said} | {macs(shape) / 1e9:.2f} | {milliseconds:.1f} | {ratio:.2f}x |", flush=True)
    for board in filter(None, args.boards.split(",")):
        planned(board, args.models.split(","), shares)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"comma-separated, of {','.join(MODELS)}")
    parser.add_argument("--merge", default="0.25,0.35", help="shares of the multiply-accumulates, comma-separated")
    parser.add_argument("--engine", default="openvino", choices=["openvino", "onnxruntime"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--boards", default="", help="targets of TensorRT, comma-separated")
    return parser.parse_args()


def plain(name: str) -> VitConfig:
    width, heads, blocks, patch, side = MODELS[name]
    return VitConfig(
        image_size=(side, side), patch_size=patch, width=width, head_dim=width // heads, classes=1000,
        blocks=(BlockConfig(heads=heads, hidden=4 * width),) * blocks,
    )  # fmt: skip


def merged(config: VitConfig, share: float) -> VitConfig:
    return merged_config(config, merges_for_share(config, share))


def timed(shapes: list[VitConfig], args: argparse.Namespace) -> list[tuple[VitConfig, float, float]]:
    """Each with its milliseconds, and how many times as fast it is as the first."""
    frames = np.zeros((1, *shapes[0].image_size, 3), np.uint8)
    with ExitStack() as stack:
        graphs = {str(number): random_graph(shape, args.engine, "int8") for number, shape in enumerate(shapes)}
        sessions = {
            name: stack.enter_context(open_session(args.engine, graph, threads=args.threads)) for name, graph in graphs.items()
        }
        stage = stack.enter_context(ConsoleProgress().stage("measure latency", total=args.runs))
        found = measure_latency(sessions, frames, runs=args.runs, stage=stage)
    times = [found[str(i)].p50_ms for i in range(len(shapes))]
    return [(shape, time, times[0] / time) for shape, time in zip(shapes, times, strict=True)]


def planned(board: str, names: list[str], shares: list[float]) -> None:
    """The table of one board."""
    target = load_target(board)
    engine, heads = target.engine(), list[str]()
    for name in names:
        for shape in (plain(name), *(merged(plain(name), share) for share in shares)):
            built = builder(engine).build(random_graph(shape, engine, "int8"), BuildOptions())
            plan = read_plan(built, blocks=len(shape.blocks)).plan
            modes = estimates(plan, target)
            if not heads:
                heads = [item.mode for item in modes]
                print(f"\n{target.description}, by {built.version}, INT8, attention in FP16; ms by the roofline, not measured")
                print(
                    f"| model | merged | kernels | fused | MB | {' | '.join(heads)} |\n|---|---|---|---|---|{'---|' * len(heads)}"
                )
            times = " | ".join(f"{item.milliseconds:.2f}" for item in modes)
            print(f"| {name} | {merges_text(merges_in(shape)) or '-'} | {len(plan.kernels)} | {plan.fused_attention} | "
                  f"{plan.megabytes:.1f} | {times} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
