"""Accuracy and speed of pruned models over the share of multiply-accumulates removed, without and with recovery.

    python benchmarks/pruning.py MODEL --data DIR [--eval-data DIR] [--shares 0.1,0.2,0.3,0.4,0.5]
        [--methods none,bias,ridge,recover,tp-magnitude,tp-taylor] [--images 512] [--epochs 2] [--eval-limit 1024]
        [--latency] [--builder] [--out results.json] [--plot curve.png]

``none``, ``bias`` and ``ridge`` share one scoring pass and one allocation by the CPU's layer times; ``recover`` distils what
ridge left for ``--epochs`` on the same images. ``tp-*`` are Torch-Pruning's magnitude and first-order Taylor importance (labels
needed) with global pruning of hidden neurons in groups of 32, on the same model, as ``pip install torch-pruning`` gives it. All
are evaluated in FP32 on OpenVINO on images that none has seen. ``--latency`` quantizes what ridge left and times it in turns with
the unpruned INT8 model, on OpenVINO and on ONNX Runtime; ``--builder`` compiles both with TensorRT's builder and prints
kernels and bytes. Seconds are wall time of the whole method, scoring included.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from edgevit.cache import Cache
from edgevit.device.processor import processor
from edgevit.engine import open_session
from edgevit.engine.builder import BuildOptions
from edgevit.engine.tensorrt import build_engine
from edgevit.export.variants import fp32_variant, int8_from
from edgevit.images.dataset import ImageSet, load_images
from edgevit.measure import accuracy, latency
from edgevit.measure.evaluate import evaluate
from edgevit.model.checkpoint import Checkpoint, load_checkpoint
from edgevit.model.macs import macs
from edgevit.model.pixels import normalise
from edgevit.model.vit import Block, Vit
from edgevit.plan.preflight import read_plan
from edgevit.progress import Progress
from edgevit.pruning.distillation import RecoverSettings
from edgevit.pruning.first_pass import Scored, score
from edgevit.pruning.layer_times import measured
from edgevit.pruning.recover import recover
from edgevit.pruning.second_pass import prune
from edgevit.pruning.settings import PruneSettings
from edgevit.quantize.quantize import legal_for, quantization
from edgevit.recipe import load_recipe
from edgevit.vitconfig import BlockConfig
from edgevit.workbench import Workbench

METHODS = ("none", "bias", "ridge", "recover", "tp-magnitude", "tp-taylor")
ROUND_TO = 32
RUNS = 60


def main() -> None:
    options = arguments()
    checkpoint = load_checkpoint(options.model)
    data = load_images(options.data)
    images, rest = data.split(options.images, 0)
    held_out = load_images(options.eval_data) if options.eval_data else rest
    held_out = held_out.held_out(options.eval_limit, 0, images.fingerprints())
    shares = [float(share) for share in options.shares.split(",")]
    bench = Bench(checkpoint, images, held_out, options)
    rows = [bench.row("fp32", 0.0, checkpoint.model, 0.0)]
    rows += [bench.measure(method, share) for method in options.methods.split(",") for share in shares]
    if options.latency:
        rows += [bench.timed(share) for share in shares]
    if options.builder:
        rows += [bench.compiled(share) for share in (0.0, *shares)]
    show(rows)
    print(f"{len(held_out)} held-out images, {len(images)} to prune on; {processor()}; OpenVINO FP32")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2))
    if options.plot:
        plot(rows, options.plot)


class Bench:
    """One model, the same images for every method."""

    def __init__(self, checkpoint: Checkpoint, images: ImageSet, held_out: ImageSet, options: Any) -> None:
        self.checkpoint, self.images, self.held_out, self.options = checkpoint, images, held_out, options
        self.cache = Cache()
        self._scored: tuple[Scored, float] | None = None
        self._pruned: dict[float, tuple[Vit, float]] = {}
        self._reference = self._logits(fp32_variant(checkpoint).model)

    def measure(self, method: str, share: float) -> dict[str, Any]:
        """One method at one share of the MACs."""
        if method.startswith("tp-") and find_spec("torch_pruning") is None:
            return {"method": method, "share": share, "error": "pip install torch-pruning"}
        if method.startswith("tp-"):
            start = time.perf_counter()
            model = torch_pruning(self.checkpoint, self.images, share, method)
            return self.row(method, share, model, time.perf_counter() - start)
        if method == "recover":
            model, seconds = self.ridge(share)
            start = time.perf_counter()
            settings = RecoverSettings(epochs=self.options.epochs)
            model = recover(model, self.checkpoint, self.images, settings, Workbench(cache=self.cache)).model
            return self.row(f"recover {self.options.epochs}", share, model, seconds + time.perf_counter() - start)
        model, seconds = self.ridge(share) if method == "ridge" else self.closed_form(method, share)
        return self.row(method, share, model, seconds)

    def scored(self) -> tuple[Scored, float]:
        """The first pass, once for all shares, and its seconds."""
        if self._scored is None:
            start = time.perf_counter()
            costs = measured(self.checkpoint.model.config, "int8", Workbench())
            settings = PruneSettings(share=0.2, images=len(self.images))
            self._scored = score(self.checkpoint, self.images, settings, Workbench(), costs), time.perf_counter() - start
        return self._scored

    def ridge(self, share: float) -> tuple[Vit, float]:
        if share not in self._pruned:
            self._pruned[share] = self.closed_form("ridge", share)
        return self._pruned[share]

    def closed_form(self, compensation: str, share: float) -> tuple[Vit, float]:
        scored, seconds = self.scored()
        scored = replace(scored, settings=replace(scored.settings, compensation=compensation))
        start = time.perf_counter()
        return prune(scored, scored.cuts(share), Workbench()).model, seconds + time.perf_counter() - start

    def row(self, method: str, share: float, model: Vit, seconds: float) -> dict[str, Any]:
        logits = self._logits(fp32_variant(replace(self.checkpoint, model=model)).model)
        found = accuracy.measure_accuracy(logits, self._reference, self.held_out.targets_for(self.checkpoint.labels))
        removed = 1 - macs(model.config) / macs(self.checkpoint.model.config)
        line = {"method": method, "share": share, "removed": removed, "top1": found.top1, "agreement": found.agreement,
                "sqnr_db": found.sqnr_db, "seconds": seconds}  # fmt: skip
        print(line, flush=True)
        return line

    def timed(self, share: float) -> dict[str, Any]:
        """INT8 after pruning against INT8 as it was, in turns, on both CPU engines; accuracy of the two together."""
        pruned = replace(self.checkpoint, model=self.ridge(share)[0])
        pruned = replace(pruned, digest=f"{pruned.digest} pruned {share}")
        graphs = {"whole": self._int8(self.checkpoint), "pruned": self._int8(pruned)}
        frames = np.concatenate(list(self.held_out.subset(range(8)).prepared(self.checkpoint.preprocessing)))
        line: dict[str, Any] = {"method": "ridge, int8", "share": share}
        for engine in ("openvino", "onnxruntime"):
            sessions = {name: open_session(engine, graph) for name, graph in graphs.items()}
            with Progress().stage("time", total=RUNS) as stage:
                times = latency.measure_latency(sessions, frames, runs=RUNS, stage=stage)
            for session in sessions.values():
                session.close()
            line |= {f"{engine} whole ms": times["whole"].p50_ms, f"{engine} pruned ms": times["pruned"].p50_ms,
                     f"{engine} ratio": times["whole"].p50_ms / times["pruned"].p50_ms}  # fmt: skip
        for name, graph in graphs.items():
            found = accuracy.measure_accuracy(
                self._logits(graph), self._reference, self.held_out.targets_for(self.checkpoint.labels)
            )
            line |= {f"{name} top1": found.top1, f"{name} agreement": found.agreement}
        print(line, flush=True)
        return line

    def compiled(self, share: float) -> dict[str, Any]:
        """What TensorRT's builder makes of the INT8 graph."""
        checkpoint = self.checkpoint if not share else replace(self.checkpoint, model=self.ridge(share)[0])
        checkpoint = replace(checkpoint, digest=f"{self.checkpoint.digest} pruned {share}" if share else checkpoint.digest)
        graph = self._int8(checkpoint, "tensorrt")
        plan = read_plan(build_engine(graph, BuildOptions()), blocks=len(checkpoint.model.config.blocks))
        line = {"method": "tensorrt plan", "share": share} | plan.summary()
        print(line, flush=True)
        return line

    def _int8(self, checkpoint: Checkpoint, engine: str = "openvino") -> bytes:
        recipe = load_recipe("default")
        calibration, _ = self.images.split(recipe.calibrate.images, 0)
        result = legal_for(quantization(checkpoint, calibration, recipe, Workbench(cache=self.cache)), engine)
        return int8_from(result.plan, result.report, engine).model

    def _logits(self, model: bytes) -> np.ndarray:
        with Progress().stage("evaluate", total=len(self.held_out)) as stage:
            return evaluate(
                lambda: open_session("openvino", model), model, self.held_out, self.checkpoint.preprocessing,
                engine=f"openvino on {processor()}", cache=self.cache, stage=stage,
            )  # fmt: skip


def torch_pruning(checkpoint: Checkpoint, images: ImageSet, share: float, method: str) -> Vit:
    """Hidden neurons removed by Torch-Pruning until ``share`` of the MACs is gone."""
    import torch_pruning as tp

    config = checkpoint.model.config
    hidden = replace(config, blocks=tuple(replace(block, hidden=ROUND_TO) for block in config.blocks))
    most = 1 - macs(hidden) / macs(config)
    model = Vit(config)
    model.load_state_dict(checkpoint.model.state_dict())
    example = torch.zeros(1, config.channels, *config.image_size)
    taylor = method == "tp-taylor"
    importance = tp.importance.GroupTaylorImportance() if taylor else tp.importance.GroupMagnitudeImportance(p=2)
    if taylor:
        backward(model, checkpoint, images)
    outputs = [module for name, module in model.named_modules()
               if isinstance(module, torch.nn.Linear) and not name.endswith("fc1")]  # fmt: skip
    pruner = tp.pruner.MetaPruner(
        model, example, importance=importance, global_pruning=True, pruning_ratio=min(0.97, share / most),
        ignored_layers=[*outputs, model.patch_embedding], round_to=ROUND_TO,
    )  # fmt: skip
    pruner.step()
    own = [cast("Block", block) for block in model.blocks]
    blocks = tuple(BlockConfig(heads=block.heads, hidden=cast("torch.nn.Linear", block.fc1).out_features) for block in own)
    result = Vit(replace(config, blocks=blocks))
    result.load_state_dict(model.state_dict())
    return result.eval()


def backward(model: Vit, checkpoint: Checkpoint, images: ImageSet) -> None:
    """Gradients of the cross entropy over all images, summed into the parameters."""
    targets, start = images.targets_for(checkpoint.labels), 0
    assert targets is not None
    for batch in images.prepared(checkpoint.preprocessing, 8):
        logits = model(normalise(torch.from_numpy(batch), checkpoint.preprocessing))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets[start : start + len(batch)])).backward()
        start += len(batch)


def show(rows: list[dict[str, Any]]) -> None:
    console = Console(width=150)
    for names, kind in (
        (("method", "removed", "top1", "agreement", "sqnr_db", "seconds"), "agreement"),
        (
            ("method", "share", "openvino ratio", "onnxruntime ratio", "whole top1", "pruned top1", "pruned agreement"),
            "openvino ratio",
        ),
        (("method", "share", "kernels", "megabytes", "int8_share"), "kernels"),
    ):
        table, chosen = Table(*names), [row for row in rows if kind in row]
        for row in chosen:
            table.add_row(*(f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names))
        if chosen:
            console.print(table)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Top-1, or agreement without labels, over the share removed."""
    import matplotlib.pyplot as plt

    rows = [row for row in rows if "agreement" in row]
    key = "top1" if rows[0]["top1"] is not None else "agreement"
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for method in dict.fromkeys(row["method"] for row in rows[1:]):
        own = [rows[0], *(row for row in rows if row["method"] == method)]
        axes.plot([100 * row["removed"] for row in own], [100 * row[key] for row in own], marker="o", label=method)
    axes.set(xlabel="multiply-accumulates removed, %", ylabel=f"{key}, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--eval-data", type=Path)
    parser.add_argument("--shares", default="0.1,0.2,0.3,0.4,0.5")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--eval-limit", type=int, default=1024)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--builder", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
