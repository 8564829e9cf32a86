"""What a build costs: seconds and peak memory by stage, for models from DeiT-T to ViT-H, beside other quantizers.

    python benchmarks/build_cost.py [--models deit_t,dinov2_s,vit_b,vit_l,vit_h] [--images 64] [--target cpu]
        [--recipes default,fast] [--peers nncf,ort] [--memory GIGABYTES] [--csv FILE] [--plot FILE.html]
    python benchmarks/build_cost.py --rows FILE.csv,... --plot FILE.html    # of earlier runs

Weights and images are random: neither time nor memory depends on them. Every build and every peer runs in a process of its own,
nothing is found in a cache. Memory is the largest resident set of the process, stage by stage; ``--memory`` bounds
the address space of each (ulimit -v), and what does not fit is told. Peers quantize the FP32 graph that edgevit wrote.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS = {
    "deit_t": (192, 3, 12, 16), "deit_s": (384, 6, 12, 16), "dinov2_s": (384, 6, 12, 14), "vit_b": (768, 12, 12, 16),
    "vit_l": (1024, 16, 24, 16), "vit_h": (1280, 16, 32, 14),
}  # fmt: skip
"""Width, heads, blocks, patch size."""
SIDE = 224
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>What a build costs</title><style>
:root {{ color-scheme: light dark }} body {{ max-width: 900px; margin: 20px auto; font: 14px sans-serif }}
svg {{ width: 100%; font-size: 13px }}
svg text {{ fill: currentColor }} .grid, .axis {{ stroke: #999 }} rect.other {{ fill: #0072b2 }}
</style></head><body><h1>What a build costs</h1>{body}</body></html>"""
PEERS = ("nncf", "ort")


def main() -> None:
    args = parse_arguments()
    if args.inside:
        print(json.dumps(INSIDE[args.inside[0]](*args.inside[1:])))
        return
    if args.rows:
        files = [Path(path).read_text().splitlines() for path in args.rows.split(",")]
        write_plot([row for lines in files for row in csv.DictReader(lines)], args.plot)
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        for name in args.models.split(","):
            run("make", name, folder, args.images)
            for recipe in args.recipes.split(","):
                done = run("build", folder, args.target, recipe, args.images, memory=args.memory)
                rows.append(told(name, recipe, done))
            for peer in filter(None, args.peers.split(",")):
                rows.append(told(name, peer, run("peer", folder, peer, args.images, memory=args.memory)))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["model", "what", "stage", "seconds", "peak_mib"])
            writer.writeheader()
            writer.writerows(row for each in rows for row in each)
    if args.plot:
        write_plot([row for each in rows for row in each], args.plot)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="deit_t,dinov2_s,vit_b", help=f"comma-separated, of {','.join(MODELS)}")
    parser.add_argument("--images", type=int, default=64, help="calibration images")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--recipes", default="default")
    parser.add_argument("--peers", default="", help=f"comma-separated, of {','.join(PEERS)}")
    parser.add_argument("--memory", type=float, help="address space of each process, in GB")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path, help="a page with seconds by stage, and peak memory")
    parser.add_argument("--rows", help="comma-separated CSVs of earlier runs: only plotted")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(what: str, *arguments: object, memory: float | None = None) -> list[dict[str, Any]] | None:
    """Stages of ``what``, in a process of its own; None if it failed, whose last line is then told."""

    def bound() -> None:
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (int(memory * 1e9),) * 2)

    done = subprocess.run([sys.executable, __file__, "--inside", what, *map(str, arguments)], preexec_fn=bound,
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        print((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        return None
    stages: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return stages


def told(model: str, what: str, stages: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """One line for people, and rows for a file."""
    if stages is None:
        print(f"{model}, {what}: did not finish", flush=True)
        return []
    parts = ", ".join(f"{stage['stage']} {stage['seconds']:.0f} s ({stage['peak_mib'] / 1024:.1f} GiB)" for stage in stages)
    seconds, peak = sum(stage["seconds"] for stage in stages), max(stage["peak_mib"] for stage in stages)
    print(f"{model}, {what}: {seconds:.0f} s, peak {peak / 1024:.2f} GiB: {parts}", flush=True)
    return [{"model": model, "what": what, **stage} for stage in stages]


def write_plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds by stage, and the peak of each build, as a page."""
    from edgevit.report.plots import Bar, bars, stacks

    seconds: dict[str, dict[str, float]] = {}
    peaks: dict[str, float] = {}
    for row in rows:
        name = f"{row['model']}, {row['what']}"
        stages = seconds.setdefault(name, {})
        stage = row["stage"].split(" with ")[0].split(" on ")[0].removesuffix(" fp32").removesuffix(" int8")
        stages[stage] = stages.get(stage, 0.0) + float(row["seconds"])
        peaks[name] = max(peaks.get(name, 0.0), float(row["peak_mib"]) / 1024)
    order = list(dict.fromkeys(stage for stages in seconds.values() for stage in stages))
    plots = {"Seconds by stage": stacks(seconds, order, "s", "Seconds by stage"),
             "Peak memory, GiB": bars([Bar(name=name, value=peak, text=f"{peak:.1f}") for name, peak in peaks.items()],
                                      "GiB", "Peak memory")}  # fmt: skip
    body = "".join(f"<h2>{title}</h2>{plot}" for title, plot in plots.items())
    path.write_text(PAGE.format(body=body), encoding="utf-8")


class Stopwatch:
    """Seconds and the largest resident set since the last stage ended."""

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []
        self._began = time.perf_counter()
        self._reset()

    def stage(self, name: str) -> None:
        """What went before was ``name``; stages of one name are added up."""
        now, peak = time.perf_counter(), _status("VmHWM")
        known = next((stage for stage in self.stages if stage["stage"] == name), None)
        if known is None:
            known = {"stage": name, "seconds": 0.0, "peak_mib": 0.0}
            self.stages.append(known)
        known["seconds"] += now - self._began
        known["peak_mib"] = max(known["peak_mib"], peak)
        self._began = now
        self._reset()

    def _reset(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew (proc(5))


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def make(name: str, folder: str, images: str) -> list[dict[str, Any]]:
    """A checkpoint with random weights, and random pictures, half of which are left to measure on."""
    import cv2
    import numpy as np
    import torch

    from edgevit.model.checkpoint import save_checkpoint
    from edgevit.model.vit import Vit
    from edgevit.preprocess import Preprocessing
    from edgevit.vitconfig import BlockConfig, VitConfig

    width, heads, blocks, patch = MODELS[name]
    config = VitConfig(
        image_size=(SIDE, SIDE), patch_size=patch, width=width, head_dim=width // heads, classes=1000,
        blocks=(BlockConfig(heads=heads, hidden=4 * width),) * blocks,
    )  # fmt: skip
    torch.manual_seed(0)
    contract = Preprocessing(size=(SIDE, SIDE), resize=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3)
    save_checkpoint(Vit(config), Path(folder) / "model.safetensors", preprocessing=contract, labels=[str(i) for i in range(1000)])
    random = np.random.default_rng(0)
    for i in range(int(images) + 16):
        picture = cv2.resize(random.integers(0, 256, (8, 8, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        (Path(folder) / "images").mkdir(exist_ok=True)
        cv2.imwrite(f"{folder}/images/{i:04d}.png", picture)
    return []


def build(folder: str, target: str, recipe: str, images: str) -> list[dict[str, Any]]:
    """The stages of a build as progress names them, from a process that has just started."""
    from dataclasses import replace

    watch = Stopwatch()
    import edgevit
    from edgevit.progress import Progress, Stage
    from edgevit.recipe import load_recipe

    class Watched(Progress):
        def begin(self, stage: Stage) -> None:
            watch.stage("between")

        def end(self, stage: Stage) -> None:
            watch.stage(stage.name)

    settings = load_recipe(recipe)
    settings = replace(settings, calibrate=replace(settings.calibrate, images=int(images)))
    edgevit.build(f"{folder}/model.safetensors", data=f"{folder}/images", target=target, recipe=settings, cache=False,
                  out=f"{folder}/{recipe}.edgevit", progress=Watched())  # fmt: skip
    return watch.stages


def peer(folder: str, name: str, images: str) -> list[dict[str, Any]]:
    """Another quantizer on the same FP32 graph; writing that is not part of it."""
    import numpy as np
    from speed import PEERS as QUANTIZERS

    from edgevit.export.variants import fp32_variant
    from edgevit.images.dataset import load_images
    from edgevit.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(Path(folder) / "model.safetensors")
    drawn, _ = load_images(Path(folder) / "images").split(int(images), 0)
    frames, graph = np.concatenate(list(drawn.prepared(checkpoint.preprocessing))), fp32_variant(checkpoint).model
    del checkpoint
    watch = Stopwatch()
    QUANTIZERS[name](graph, frames, None)
    watch.stage("quantize")
    return watch.stages


INSIDE: dict[str, Any] = {"make": make, "build": build, "peer": peer}


if __name__ == "__main__":
    main()
