"""Makes tests/model/fixtures/real: small random models by the true timm, transformers and open_clip, and what they answer.

    .venv-parity/bin/python -m tests.parity.fixtures [NAME...]

Each is a hub folder as those libraries save it, with ``logits.json``: the answer to `tests.model.test_real_models.images_for`.
Towers have ``embeddings.npz``, too, what their own text tower makes of three classes. The ordinary tests read them, where none of
these libraries is installed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import transformers as T
from timm.models import save_for_hf

from edgevit.textclasses import embeddings_bytes, text_classes
from tests.model.test_real_models import FOLDER, images_for
from tests.parity.conftest import lively
from tests.parity.towers import towers

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
TIMM = (
    "vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3_qkvb", "eva02_tiny_patch14_224", "eva02_base_patch14_224",
    "eva02_base_patch16_clip_224", "vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_ape_224",
    "vit_medium_patch16_rope_reg1_gap_256", "vit_pe_core_small_patch16_384", "eva_giant_patch14_224",
    "vit_base_patch16_siglip_224", "vit_giant_patch14_reg4_dinov2", "beitv2_base_patch16_224",
)  # fmt: skip
TOWER = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}


class Dinov3(T.DINOv3ViTModel):
    """With a linear head on the class token, which transformers has not."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.classifier = torch.nn.Linear(config.hidden_size, 5)


def of_timm(name: str) -> tuple[torch.nn.Module, Callable]:
    args = SMALL | ({"mlp_ratio": 4.0} if "giant" in name else {})  # an even number of hidden neurons
    model = timm.create_model(name, num_classes=5, **args)

    def save(folder: Path) -> None:
        save_for_hf(model, str(folder), model_args=args, safe_serialization=True)
        (folder / "pytorch_model.bin").unlink(missing_ok=True)

    return model, save


def of_transformers() -> dict[str, torch.nn.Module]:
    towers = {"vision_config": TOWER, "text_config": TEXT, "num_labels": 5}
    return {
        "huggingface_clip": T.CLIPForImageClassification(T.CLIPConfig(**towers)),
        "huggingface_siglip": T.SiglipForImageClassification(T.SiglipConfig(**towers)),
        "huggingface_beit": T.BeitForImageClassification(
            T.BeitConfig(**TOWER, num_labels=5, use_shared_relative_position_bias=True)
        ),
        "huggingface_dinov3": Dinov3(T.DINOv3ViTConfig(**TOWER, num_register_tokens=4)),
        "huggingface_dinov3_gated": Dinov3(T.DINOv3ViTConfig(**TOWER, use_gated_mlp=True, hidden_act="silu")),
    }


@torch.inference_mode()
def write(name: str, save: Callable[[Path], object], answer: Callable) -> None:
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save(folder)
    logits = answer(images_for((32, 32)))
    (folder / "logits.json").write_text(json.dumps([[round(float(value), 7) for value in row] for row in logits]) + "\n")
    print(name, sum(path.stat().st_size for path in folder.iterdir()), file=sys.stderr)


def main() -> None:
    for name in TIMM:
        model, save = of_timm(name)
        write(name, save, lively(model))
    for name, tower in towers().items():
        texts = tower.texts(("crack", "scratch", "fine"), ("a photo of a {}", "the {} there"))
        classes = text_classes(("crack", "scratch", "fine"), texts.numpy(), name)

        def save_both(folder, tower=tower, classes=classes):
            tower.save(folder)
            (folder / "embeddings.npz").write_bytes(embeddings_bytes(classes))

        write(name, save_both, lambda images, tower=tower, texts=texts: tower.logits(images, texts))
    for name, model in of_transformers().items():

        def answer(images, model=model):
            if isinstance(model, Dinov3):
                return model.classifier(model(images).last_hidden_state[:, 0])
            return model(images).logits

        lively(model)
        write(name, model.save_pretrained, answer)


if __name__ == "__main__":
    main()
