"""Small models by the true timm, transformers and open_clip, as `tests.parity.fixtures` stored them, and what those answer."""

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
from edgevit.problem import MULTI_LABEL
from edgevit.textclasses import TextSource
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


def texts_of(folder: Path) -> TextSource | None:
    """Of a tower: the embeddings that its own text tower made of three classes."""
    file = folder / "embeddings.npz"
    return TextSource(embeddings=file) if file.exists() else None


def test_there_are_some() -> None:
    assert len(NAMES) == 23
    assert sum(texts_of(FOLDER / name) is not None for name in NAMES) == 5


@pytest.mark.parametrize("name", NAMES)
def test_logits(name: str) -> None:
    """Of the imported model, the folded one, and the graph on every engine."""
    checkpoint = load_checkpoint(FOLDER / name, texts=texts_of(FOLDER / name))
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


@pytest.mark.parametrize("name", [name for name in NAMES if texts_of(FOLDER / name)])
def test_towers_of_texts(name: str) -> None:
    """What their scores are, and that without texts there is nothing to tell apart."""
    checkpoint = load_checkpoint(FOLDER / name, texts=texts_of(FOLDER / name))
    assert checkpoint.labels == ("crack", "scratch", "fine")
    assert checkpoint.text is not None
    assert (checkpoint.problem_type == MULTI_LABEL) is ("siglip" in name)
    assert checkpoint.text.scale == pytest.approx(np.exp(3.0))
    with pytest.raises(CheckpointError, match="Give its classes as text: --classes"):
        load_checkpoint(FOLDER / name)


@pytest.mark.parametrize(("name", "pattern", "change"), [
    ("beitv2_base_patch16_224", r"blocks\.1\..*bias_table", lambda x: x[:9]),
    ("huggingface_beit", r"beit\.(encoder\.layer|layers)\.\d+\.", None),
    ("vit_small_patch16_rope_mixed_ape_224", r"rope\.freqs", lambda x: x[:, :1]),
    ("huggingface_clip_tower", r"visual_projection", None),
    ("huggingface_clip_tower", r"visual_projection", lambda x: x[:7]),
    ("huggingface_siglip_tower", r"logit_bias", None),
    ("huggingface_siglip_tower", r"vision_model\.head\.", None),
    ("open_clip_tower", r"visual\.proj", None),
])  # fmt: skip
def test_parts_that_do_not_fit_are_told_in_a_line(name: str, pattern: str, change: Any, tmp_path: Path) -> None:
    """A table of another grid, no block at all, learnt frequencies of fewer blocks, a tower without its last parts."""
    shutil.copytree(FOLDER / name, tmp_path / name)
    (file,) = (tmp_path / name).glob("*.safetensors")
    weights = load_file(file)
    hit = [key for key in weights if re.search(pattern, key)]
    assert hit
    for key in hit:
        tensor = weights.pop(key)
        if change is not None:
            weights[key] = change(tensor).contiguous()
    save_file(weights, file)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / name, texts=texts_of(tmp_path / name))
    assert "\n" not in str(caught.value)
