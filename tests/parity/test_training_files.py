"""Checkpoints as training frameworks write them, read as their own loaders read them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

timm = pytest.importorskip("timm")

import numpy as np
import torch

from edgevit.model import load_checkpoint
from tests.parity.conftest import lively


def vit(seed: int = 0):
    return lively(
        timm.models.VisionTransformer(img_size=32, patch_size=16, embed_dim=64, depth=2, num_heads=1, num_classes=5), seed
    )


def same(model, path: Path, **options: object) -> bool:
    state = load_checkpoint(path, **options).model.state_dict()
    return torch.equal(state["head.weight"], model.state_dict()["head.weight"])


def test_timm_checkpoint_saver(tmp_path: Path) -> None:
    """Arguments as a Namespace, EMA beside the model: the average is taken, as timm's load_checkpoint takes it."""
    from timm.utils import CheckpointSaver, ModelEmaV3

    model, ema = vit(1), ModelEmaV3(vit(2))
    args = argparse.Namespace(model="vit_tiny_patch16_224", lr=1e-3, mean=(0.5,) * 3, output=Path("out"), seed=np.int64(3))
    saver = CheckpointSaver(
        model, torch.optim.SGD(model.parameters(), 0.1), args=args, model_ema=ema, checkpoint_dir=str(tmp_path)
    )
    saver.save_checkpoint(3, metric=np.float64(71.5))
    path = next(tmp_path.glob("checkpoint-*"))
    loaded = vit(3)
    timm.models.load_checkpoint(loaded, str(path), weights_only=False)
    assert same(loaded, path)
    assert same(ema.module, path)
    assert same(ema.module, path, weights="ema")
    assert same(model, path, weights="raw")


def test_swa(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(vit(1))
    averaged.update_parameters(vit(2))
    torch.save(averaged.state_dict(), tmp_path / "swa.pt")
    assert same(averaged.module, tmp_path / "swa.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "wrap", [torch.compile, torch.nn.DataParallel, lambda model: torch.nn.DataParallel(torch.compile(model))]
)
def test_wrapped_modules(wrap, tmp_path: Path) -> None:
    torch.save({"state_dict": wrap(vit(1)).state_dict()}, tmp_path / "w.pt")
    assert same(vit(1), tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_activation_checkpointing(tmp_path: Path) -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = vit(1)
    for index, block in enumerate(model.blocks):
        model.blocks[index] = checkpoint_wrapper(torch.compile(block))
    torch.save(dict(torch.nn.Module.state_dict(model)), tmp_path / "w.pt")
    assert same(vit(1), tmp_path / "w.pt")
