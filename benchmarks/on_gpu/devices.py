"""What torch computes on CUDA against the same on the CPU: training, whose result should not depend on where it ran."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.on_gpu.running import Report, SkippedError

SAME = 0.02
"""Mean squared difference of logits, of their mean square: how far CUDA may be from the CPU."""
ROUNDED = 0.1
"""The same where CUDA computes in bfloat16."""
EACH = 32
"""Images of a class."""


def prune(report: Report) -> None:
    """``prune --recover``: statistics, a refit in closed form, and two epochs of distillation."""
    _need_cuda()
    model, images, held_out = _material(report.work / "prune")
    options = ["--prune", "0.3", "--recover", "2", "--target", "raspberry-pi-5"]  # its engine, ONNX Runtime, checks the graph
    found = {}
    for device in ("cpu", "cuda"):
        out = report.work / "prune" / f"{device}.safetensors"
        _edgevit(
            report, device, "prune", model, "--data", images, "-o", out, *options, "--device", device, "--no-cache", "--json"
        )
        found[device] = _logits(out, held_out)
    _compare(report, found, SAME)


def finetune(report: Report) -> None:
    """``train --unfreeze``: a head by cross-validation, then two epochs of the last block, whose loss must be the CPU's."""
    _need_cuda()
    helped = _run(["train", "--help"])
    said = helped.stdout
    if helped.returncode:
        msg = f"train --help: {helped.stderr.strip()}"
        raise RuntimeError(msg)
    if "--unfreeze" not in said:
        msg = "train has no --unfreeze: not in this version"
        raise SkippedError(msg)
    model, images, held_out = _material(report.work / "finetune")
    options = ["--unfreeze", "1", "--epochs", "2", "--folds", "3"]
    found, told = {}, {}
    for device in ("cpu", "cuda"):
        out = report.work / "finetune" / device
        arguments = ("train", images, "--backbone", model, "-o", out, *options, "--device", device, "--no-cache", "--json")
        told[device] = _edgevit(report, device, *arguments)["fine_tuning"]
        found[device] = _logits(out, held_out)
    losses = {device: [point["loss"] for point in each["curve"] if "loss" in point] for device, each in told.items()}
    for device, values in losses.items():
        report.figure(f"loss by epoch on {device}", ", ".join(f"{value:.4f}" for value in values))
    first = losses["cpu"][0], losses["cuda"][0]
    if abs(first[0] - first[1]) > ROUNDED * first[0]:
        msg = f"the first epoch's loss is {first[1]:.4f} on CUDA and {first[0]:.4f} on the CPU"
        raise RuntimeError(msg)
    if told["cpu"]["judgement"]["helped"] == told["cuda"]["judgement"]["helped"]:
        _compare(report, found, ROUNDED)
    else:  # a close call, which a rounding may turn: what is written is then another model
        report.figure("fine-tuning is kept", "on one of both")


def _need_cuda() -> None:
    try:
        import torch
    except ImportError as error:
        msg = f"no torch: {error}"
        raise SkippedError(msg) from error
    if not torch.cuda.is_available():
        msg = f"torch {torch.__version__} has no CUDA here"
        raise SkippedError(msg)


def _material(folder: Path) -> tuple[Path, Path, Any]:
    """A tiny trained ViT, images to compute on, and others as tensors to compare on."""
    from edgevit.images.dataset import load_images
    from tests.support import trained, write_images

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images = write_images(folder / "images", EACH)
    held_out = write_images(folder / "held_out", EACH, first=500)
    return trained(folder / "model.safetensors"), images, load_images(held_out)


def _logits(path: Path, images: Any) -> Any:
    import numpy as np
    import torch

    from edgevit.model.checkpoint import load_checkpoint
    from edgevit.model.pixels import normalise

    read = load_checkpoint(path)
    frames = torch.from_numpy(np.concatenate(list(images.prepared(read.preprocessing))))
    with torch.no_grad():
        return read.model.eval()(normalise(frames, read.preprocessing)).double()


def _compare(report: Report, found: dict[str, Any], bound: float) -> None:
    here, there = found["cpu"], found["cuda"]
    apart = float((here - there).square().mean() / here.square().mean())
    report.figure("largest difference CUDA against CPU", float((here - there).abs().max()))
    report.figure("largest logit", float(here.abs().max()))
    report.figure("mean squared difference", 100 * apart, "% of the logits'")
    report.figure("the same class", 100 * float((here.argmax(-1) == there.argmax(-1)).double().mean()), "%")
    if not apart <= bound:
        msg = f"CUDA gives other logits than the CPU: {100 * apart:.2g} % apart, {100 * bound:g} % at most"
        raise RuntimeError(msg)


def _edgevit(report: Report, device: str, *arguments: object) -> Any:
    """What a command prints as JSON."""
    start = time.perf_counter()
    done = _run(list(map(str, arguments)))
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        msg = f"{arguments[0]} on {device}: {(done.stderr.strip().splitlines() or ['nothing was said'])[-1]}"
        raise RuntimeError(msg)
    report.figure(f"{arguments[0]} on {device}", time.perf_counter() - start, "s")
    return json.loads(done.stdout)


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgevit", *arguments], capture_output=True, text=True, check=False)
