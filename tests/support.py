"""What fixtures and tests share: drawn images, and edgevit in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
CLASSES = ("disc", "square", "stripes")
SIDE = 32  # pixels of a small model's input

# Runs the command as the installed script does; SIGINT as in a terminal, even where this test's own parent ignores it.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgevit.cli import main
main(prog_name="edgevit")
"""

# Hides packages from the imports that follow, as if they were not installed.
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def picture(kind: str, seed: int) -> np.ndarray:
    """A drawing of one of the classes, uint8 [40, 40, 3] BGR; the same for the same seed."""
    import cv2

    random = np.random.default_rng([CLASSES.index(kind), seed])
    ground, ink = random.integers(20, 90), random.integers(150, 240, 3).tolist()
    image = np.full((40, 40, 3), ground, np.uint8)
    x, y, r = random.integers(16, 24), random.integers(16, 24), random.integers(8, 13)
    if kind == "disc":
        cv2.circle(image, (int(x), int(y)), int(r), ink, thickness=-1)
    elif kind == "square":
        cv2.rectangle(image, (int(x - r), int(y - r)), (int(x + r), int(y + r)), ink, thickness=3)
    else:
        image[int(x) % 6 :: 6] = ink
        image[int(x) % 6 + 1 :: 6] = ink
    return np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def write_images(folder: Path, each: int, *, first: int = 0) -> Path:
    """``folder/<class>/<number>.png``, ``each`` of every class, numbered (and drawn) from ``first``."""
    import cv2

    for kind in CLASSES:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + each):
            encoded = cv2.imencode(".png", picture(kind, seed))[1]
            (folder / kind / f"{seed:03d}.png").write_bytes(encoded.tobytes())
    return folder


def trained(path: Path, **changes: Any) -> Path:
    """A checkpoint of a ViT of 2 blocks, trained for a second on drawings 1000 to 1039 of each class; ``changes`` of config."""
    import torch
    import torch.nn.functional as F

    from edgevit.model.checkpoint import save_checkpoint
    from edgevit.model.vit import Vit
    from edgevit.preprocess import Preprocessing, prepare
    from edgevit.vitconfig import BlockConfig, VitConfig

    contract = Preprocessing(size=(SIDE, SIDE), resize=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3)
    plain: dict[str, Any] = {"blocks": (BlockConfig(heads=2, hidden=64),) * 2, "width": 32, "head_dim": 16}
    config = VitConfig(image_size=(SIDE, SIDE), patch_size=8, classes=len(CLASSES), **(plain | changes))
    frames = np.stack([prepare(picture(kind, seed), contract) for kind in CLASSES for seed in range(1000, 1040)])
    targets = torch.arange(len(CLASSES)).repeat_interleave(40)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.from_numpy(frames[..., ::-1].copy()).float().permute(0, 3, 1, 2) / 255
        images = (images - 0.5) / 0.25
        model = Vit(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(80):
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    save_checkpoint(model.eval(), path, preprocessing=contract, labels=CLASSES)
    return path


def small_graph(size: tuple[int, int], classes: int) -> bytes:
    """The bytes of an ONNX model from frames uint8 [N, height, width, 3] to logits [N, classes], with 10 kB of weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.tile(np.arange(256, dtype=np.uint8), 40), "weights")
    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *size, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
    nodes = [helper.make_node("Cast", ["frames"], ["logits"], to=TensorProto.FLOAT)]
    model: bytes = onnx.helper.make_model(helper.make_graph(nodes, "small", [frames], [logits], [weights])).SerializeToString()
    return model


def built(model: Path, folder: Path, **options: Any) -> Path:
    """A bundle of ``model`` for this machine's processor, ``folder/tiny.edgevit``; ``options`` are `BuildRequest`'s."""
    from edgevit.cache import Cache
    from edgevit.commands import build
    from edgevit.progress import Progress
    from edgevit.recipe import load_recipe
    from edgevit.target import load_target

    out = folder / "tiny.edgevit"
    request = build.BuildRequest(
        model=model, target=load_target("cpu"), recipe=load_recipe("default"), out=out, threads=1, **options
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "RUNS", 5)
        build.run_build(request, Cache(enabled=False), Progress())
    return out


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which is one JSON document."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        """Standard output, which is JSON lines."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def python(code: str, *arguments: object, without: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Python in a process of its own, on a checkout's ``edgevit``, as if the packages ``without`` were not installed."""
    return subprocess.Popen(
        [sys.executable, "-c", (BLOCK.format(packages=set(without)) if without else "") + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
    )
