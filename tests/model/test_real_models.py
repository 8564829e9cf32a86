"""Small models by the true timm and transformers, as `tests.parity.fixtures` stored them, and what those answer."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgevit.engine import CPU_ENGINES, open_session
from edgevit.errors import CheckpointError
from edgevit.export.form import form_for
from edgevit.export.graph import write_graph
from edgevit.model import load_checkpoint
from edgevit.model.folded import forward
from edgevit.model.quantplan import QuantPlan
from edgevit.model.rewrites.folding import fold
from edgevit.preprocess import Preprocessing
from tests.zoo import normalised

FOLDER = Path(__file__).parent / "fixtures" / "real"
NAMES = sorted(path.name for path in FOLDER.glob("*"))


def frames_for(size: tuple[int, int]) -> np.ndarray:
    """Two frames uint8 [2, H, W, 3] BGR: noise, and a slope."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    slope = np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3).astype(np.uint8)
    return np.stack([noise, slope])


def images_for(size: tuple[int, int]) -> Tensor:
    """The same, normalised by mean and std of 0.5, as models take them."""
    contract = Preprocessing(size=size, resize=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return normalised(frames_for(size), contract)


def test_there_are_some() -> None:
    assert len(NAMES) == 18


@pytest.mark.parametrize("name", NAMES)
def test_logits(name: str) -> None:
    """Of the imported model, the folded one, and the graph on every engine."""
    checkpoint = load_checkpoint(FOLDER / name)
    wanted = torch.tensor(json.loads((FOLDER / name / "logits.json").read_text()))
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * float(wanted.abs().max())}
    size = checkpoint.model.config.image_size
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(images_for(size)), wanted, **tolerance)
    contract = Preprocessing(size=size, resize=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    frames = frames_for(size)
    folded = fold(checkpoint.model, contract)
    torch.testing.assert_close(forward(folded, torch.from_numpy(frames)), wanted, **tolerance)
    for engine in CPU_ENGINES:
        graph = write_graph(QuantPlan(model=folded), form_for(engine, "fp32"))
        with open_session(engine, graph) as session:
            torch.testing.assert_close(torch.from_numpy(np.array(session.infer(frames))), wanted, **tolerance)


@pytest.mark.parametrize(("name", "pattern", "change"), [
    ("beitv2_base_patch16_224", r"blocks\.1\..*bias_table", lambda x: x[:9]),
    ("huggingface_beit", r"beit\.(encoder\.layer|layers)\.\d+\.", None),
    ("vit_small_patch16_rope_mixed_ape_224", r"rope\.freqs", lambda x: x[:, :1]),
])  # fmt: skip
def test_parts_that_do_not_fit_are_told_in_a_line(name: str, pattern: str, change: Any, tmp_path: Path) -> None:
    """A table of another grid, no block at all, learnt frequencies of fewer blocks."""
    shutil.copytree(FOLDER / name, tmp_path / name)
    weights = load_file(tmp_path / name / "model.safetensors")
    hit = [key for key in weights if re.search(pattern, key)]
    assert hit
    for key in hit:
        tensor = weights.pop(key)
        if change is not None:
            weights[key] = change(tensor).contiguous()
    save_file(weights, tmp_path / name / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / name)
    assert "\n" not in str(caught.value)
