"""What each step of quantization is worth: the default recipe with one thing changed at a time, and steps added one by one.

    python benchmarks/ablation.py MODEL --data DIR [--eval-data DIR] [--eval-limit 512] [--out FILE.json]

Logits of OpenVINO's INT8 graph against its FP32 graph. Runs that differ by less than about 0.7 dB are
equal: rounding flips alone move a twelve-block ViT that far.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.engine import open_session
from edgevit.export.graph import write_graph
from edgevit.export.variants import fp32_variant
from edgevit.images.dataset import load_images
from edgevit.measure.accuracy import measure_accuracy
from edgevit.model import load_checkpoint
from edgevit.model.rewrites.folding import fold
from edgevit.quantize.linears import quantize
from edgevit.quantize.quantize import BATCH
from edgevit.quantize.streaming import Streamed
from edgevit.recipe import load_recipe

PLAIN: dict[str, Any] = {
    "migration": (), "centring": False, "tails": (), "rounding": "nearest", "bias": "off", "attention": "off",
}  # fmt: skip
TAILS, EXPONENTS = (0.0, 0.25, 0.5, 1.0), (0.5, 0.65, 0.75, 0.85, 0.9, 0.95, 1.0)
STEPS: dict[str, dict[str, Any]] = {
    "min-max, nearest, no correction": PLAIN,
    "+ scale migration": {"migration": EXPONENTS},
    "+ centring": {"centring": True},
    "+ room for unseen images": {"tails": TAILS},
    "+ GPTQ rounding": {"rounding": "gptq"},
    "+ bias correction, layer by layer": {"bias": "layer"},
    "+ bias correction in network order": {"bias": "network"},
    "+ INT8 attention where it adds little (default)": {"attention": "auto"},
    "q and k in INT8 everywhere": {"attention": "scores"},
    "all of attention in INT8": {"attention": "full"},
    "percentile 99.99 ranges": {"attention": "off", "ranges": "percentile"},
    "entropy ranges": {"ranges": "entropy"},
    "MSE ranges": {"ranges": "mse"},
    "output-aware ranges": {"ranges": "output"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--eval-data", type=Path)
    parser.add_argument("--eval-limit", type=int, default=512)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    checkpoint, recipe = load_checkpoint(args.model), load_recipe("default")
    calibration, rest = load_images(args.data).split(recipe.calibrate.images, recipe.calibrate.seed)
    images = (load_images(args.eval_data) if args.eval_data else rest).held_out(args.eval_limit, 0, calibration.fingerprints())
    frames = np.concatenate(list(images.prepared(checkpoint.preprocessing, BATCH)))
    model = fold(checkpoint.model, checkpoint.preprocessing)
    reference, rows, settings = infer(fp32_variant(checkpoint).model, frames), [], recipe.quantize
    print(f"{len(calibration)} calibration images, {len(images)} held out\n")
    print("| step | SQNR dB | agreement | seconds |\n|---|---|---|---|")
    for name, change in STEPS.items():
        settings = replace(settings, **change)
        start, changed = time.perf_counter(), replace(recipe, quantize=settings)
        batches = calibration.prepared(checkpoint.preprocessing, BATCH)
        with Streamed(model, batches, images=len(calibration), recipe=changed) as known:
            plan = quantize(model, known, changed).plan
        seconds = time.perf_counter() - start
        found = measure_accuracy(infer(write_graph(plan), frames), reference, images.targets_for(checkpoint.labels))
        rows.append(
            {"step": name, "sqnr_db": found.sqnr_db, "agreement": found.agreement, "top1": found.top1, "seconds": seconds}
        )
        print(f"| {name} | {found.sqnr_db or np.inf:.1f} | {100 * found.agreement:.1f} % | {seconds:.0f} |", flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


def infer(model: bytes, frames: Any) -> Any:
    with open_session("openvino", model) as session:
        return np.concatenate([session.infer(frame[None]) for frame in frames])


if __name__ == "__main__":
    main()
