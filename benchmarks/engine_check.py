"""Engines against torch over many shapes, and right INT8 engines against the simulation: what the check's bound rests on.

    python benchmarks/engine_check.py --shapes 200 --int8 40

FP32: the worst of a few frames, each inferred twice, in dB against the model's own torch module. INT8: the largest squared
error of a frame against the simulated plan, over the mean power of the quantization noise; `edgevit.engine.check.TIES` must
lie between what right engines reach and what wrong ones do.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgevit.device.processor import processor
from edgevit.engine import CPU_ENGINES, backend, open_session
from edgevit.engine.base import saturates
from edgevit.engine.check import TIES
from edgevit.export.graph import write_graph
from edgevit.model.folded import forward
from edgevit.model.quantplan import simulate
from edgevit.model.rewrites.folding import fold
from edgevit.vitconfig import BlockConfig
from tests.engine.shapes import PATCH, TOKENS, boundaries, drawn, worst
from tests.zoo import contract, frames, int8, vit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=int, default=200, help="FP32 shapes drawn by chance, beside those at the boundary")
    parser.add_argument("--int8", type=int, default=40, help="INT8 models drawn by chance")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}{', no VNNI' if saturates() else ''}; {', '.join(backend(name).version for name in CPU_ENGINES)}")
    fp32(options.shapes, options.seed)
    ties(options.int8, options.seed)


def fp32(count: int, seed: int) -> None:
    """The lowest dB by what the tokens are."""
    lowest: dict[str, dict[str, float]] = {engine: defaultdict(lambda: 400.0) for engine in CPU_ENGINES}
    cases = [*boundaries(), *drawn(seed, count)]
    for i, case in enumerate(cases):
        for engine in CPU_ENGINES:
            found = worst(case, engine, threads=1 + i % 3)
            lowest[engine][case.tokens] = min(lowest[engine][case.tokens], found)
            if found < 85:
                print(f"WRONG: {engine} {found:.1f} dB, {case}")
    print(f"\nFP32, {len(cases)} shapes, 1 to 3 threads: lowest dB against torch\n")
    print("| tokens | " + " | ".join(CPU_ENGINES) + " |\n|---|" + "---|" * len(CPU_ENGINES))
    for tokens in TOKENS:
        print(f"| {tokens} | " + " | ".join(f"{lowest[engine][tokens]:.0f}" for engine in CPU_ENGINES) + " |")


def ties(count: int, seed: int) -> None:
    """Quantiles of a frame's error over the noise."""
    chance, ratios = random.Random(seed), {engine: list[float]() for engine in CPU_ENGINES}
    for i in range(count):
        rows, columns = chance.choice(((2, 2), (1, 5), (3, 3), (4, 4), (1, 17), (7, 7)))
        block = BlockConfig(heads=chance.choice((1, 2, 3, 6)), hidden=chance.choice((16, 64, 300)))
        model = vit(
            seed + i, image_size=(PATCH * rows, PATCH * columns), patch_size=PATCH, width=chance.choice((16, 33, 48, 64, 192)),
            head_dim=chance.choice((8, 16, 32)), blocks=(block,) * chance.choice((2, 4, 12)),
            **TOKENS[chance.choice(list(TOKENS))],
        )  # fmt: skip
        folded = fold(model, contract(model.config))
        plan, images = int8(folded), frames(model.config, 8)
        batch = torch.from_numpy(images)
        expected, exact = simulate(plan, batch).numpy(), forward(folded, batch).numpy()
        noise = float(np.square(expected - exact).mean())
        for engine in CPU_ENGINES:
            with open_session(engine, write_graph(plan), threads=1) as session:
                ratios[engine].append(float(np.square(session.infer(images) - expected).mean(1).max()) / noise)
    print(f"\nINT8, {count} models: a frame's squared error against the simulation, over the noise; {TIES:g} are allowed\n")
    print("| engine | median | 90 % | largest | above |\n|---|---|---|---|---|")
    for engine, found in ratios.items():
        median, high = np.quantile(found, (0.5, 0.9))
        print(f"| {engine} | {median:.2g} | {high:.2g} | {max(found):.2g} | {sum(ratio > TIES for ratio in found)} of {count} |")


if __name__ == "__main__":
    main()
