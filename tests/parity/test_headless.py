"""Models without a head, which give their features: those of the installed timm, transformers and open_clip."""

from __future__ import annotations

from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")
timm = pytest.importorskip("timm")
pytest.importorskip("open_clip")

import torch
import torch.nn.functional as F

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from tests.parity.conftest import images_of, lively
from tests.parity.towers import TOWER, towers

T = transformers
TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}


def of_timm(name: str):
    model = lively(timm.create_model(name, num_classes=0, **TIMM))

    def save(folder: Path) -> None:
        timm.models.save_for_hf(model, str(folder), model_args={**TIMM, "num_classes": 0}, safe_serialization=True)

    return save, model


def of_transformers(model):
    lively(model)
    return model.save_pretrained, lambda images: model(pixel_values=images).last_hidden_state[:, 0]


def of_a_tower(name: str):
    real = towers()[name]
    return real.save, lambda images: F.normalize(real.features(images), dim=-1)


MODELS = {
    "vit_small_patch14_dinov2": lambda: of_timm("vit_small_patch14_dinov2"),
    "vit_small_patch16_dinov3": lambda: of_timm("vit_small_patch16_dinov3"),
    "vit_base_patch16_siglip_224": lambda: of_timm("vit_base_patch16_siglip_224"),
    "Dinov2Model": lambda: of_transformers(T.Dinov2Model(T.Dinov2Config(**TOWER))),
    "ViTModel": lambda: of_transformers(T.ViTModel(T.ViTConfig(**TOWER))),
    "DINOv3ViTModel": lambda: of_transformers(T.DINOv3ViTModel(T.DINOv3ViTConfig(**TOWER, num_register_tokens=4))),
    "CLIPModel": lambda: of_a_tower("huggingface_clip_tower"),
    "SiglipModel": lambda: of_a_tower("huggingface_siglip_tower"),
    "open_clip": lambda: of_a_tower("open_clip_tower"),
    "open_clip's SigLIP": lambda: of_a_tower("open_clip_siglip_tower"),
}


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_features(name: str, tmp_path: Path) -> None:
    save, features = MODELS[name]()
    save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"no classification head|classes as text"):
        load_checkpoint(tmp_path / "model")
    checkpoint = load_checkpoint(tmp_path / "model", headless=True)
    images = images_of(checkpoint.model)
    wanted = features(images)
    torch.testing.assert_close(checkpoint.model(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    torch.testing.assert_close(checkpoint.model.features(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert any(note.startswith("head: there is none") for note in checkpoint.notes)
