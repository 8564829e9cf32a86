"""Peak memory and time of calibration against the number of images: it must not grow with them.

    python benchmarks/calibration_memory.py MODEL DATA [--images 64 512] [--recipe default]

Each count runs in a process of its own; the figure is the process's peak resident memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        calibrate(args.model, args.data, args.recipe, args.here)
        return
    for count in args.images:
        subprocess.run(
            [sys.executable, __file__, args.model, args.data, "--recipe", args.recipe, "--here", str(count)], check=True
        )


def calibrate(model: Path, data: Path, recipe_name: str, count: int) -> None:
    from edgevit.images.dataset import load_images
    from edgevit.model import load_checkpoint
    from edgevit.model.rewrites.folding import fold
    from edgevit.quantize.linears import collect, quantize
    from edgevit.quantize.quantize import BATCH
    from edgevit.recipe import load_recipe

    recipe = load_recipe(recipe_name)
    recipe = replace(recipe, calibrate=replace(recipe.calibrate, images=count))
    checkpoint = load_checkpoint(model)
    images, _ = load_images(data).split(count, recipe.calibrate.seed)
    folded = fold(checkpoint.model, checkpoint.preprocessing)
    start = time.perf_counter()
    statistics = collect(folded, images.prepared(checkpoint.preprocessing, BATCH), images=len(images), recipe=recipe)
    collected = time.perf_counter()
    quantize(folded, statistics, recipe)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = f"{collected - start:.1f} s to collect, {time.perf_counter() - collected:.1f} s to quantize"
    print(f"{len(images)} images: peak {peak:.0f} MiB, {seconds}", flush=True)


if __name__ == "__main__":
    main()
