"""ONNX files by the true exporters, of the true timm, transformers and torchvision: edgevit gives what the torch model gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

timm = pytest.importorskip("timm")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import torch
import torchvision
import transformers as T
from torch import Tensor, nn

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from tests.parity.conftest import lively

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 1e-4
RESULTS: list[tuple[str, str, float]] = []
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
TINY = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2}  # fmt: skip
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 9}
TOWERS = {"vision_config": TINY, "text_config": TEXT, "num_labels": 5}


class Logits(nn.Module):
    """What exporters trace: one tensor in, one out."""

    def __init__(self, model: nn.Module, take: str = "logits") -> None:
        super().__init__()
        self.model, self.take = model, take

    def forward(self, images: Tensor) -> Tensor:
        found = self.model(images)
        return getattr(found, self.take, found)


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **SMALL | options)


def of_transformers(kind: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(T, kind)(getattr(T, config)(**TINY | {"num_labels": 5} | options))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "timm vit": of_timm("vit_tiny_patch16_224"),
    "timm deit": of_timm("deit_tiny_patch16_224"),
    "timm deit distilled": of_timm("deit_tiny_distilled_patch16_224"),
    "timm deit3": of_timm("deit3_small_patch16_224"),
    "timm dinov2 registers": of_timm("vit_small_patch14_reg4_dinov2"),
    "timm dinov2 giant, SwiGLU": of_timm("vit_giant_patch14_dinov2", mlp_ratio=4.0),
    "timm clip": of_timm("vit_base_patch32_clip_224"),
    "timm clip quickgelu": of_timm("vit_base_patch32_clip_quickgelu_224"),
    "timm siglip": of_timm("vit_base_patch16_siglip_224"),
    "timm siglip gap": of_timm("vit_base_patch16_siglip_gap_224"),
    "timm mean": of_timm("vit_tiny_patch16_224", global_pool="avg"),
    "timm no class token": of_timm("vit_tiny_patch16_224", class_token=False, global_pool="avg"),
    "timm reg4 gap": of_timm("vit_medium_patch16_reg4_gap_256"),
    "timm wide": of_timm("vit_tiny_patch16_224", img_size=(24, 48)),
    "timm gray": of_timm("vit_tiny_patch16_224", in_chans=1),
    "timm qk_norm": of_timm("vit_tiny_patch16_224", qk_norm=True),
    "timm no qkv bias": of_timm("vit_tiny_patch16_224", qkv_bias=False),
    "timm no positions": of_timm("vit_tiny_patch16_224", pos_embed="none"),
    "timm relu": of_timm("vit_tiny_patch16_224", act_layer="relu"),
    "timm gelu_tanh": of_timm("vit_tiny_patch16_224", act_layer="gelu_tanh"),
    "timm sub-LN": of_timm("vit_tiny_patch16_224", scale_attn_norm=True, scale_mlp_norm=True),
    "timm dynamic": of_timm("vit_tiny_patch16_224", dynamic_img_size=True),
    "timm aimv2": of_timm("aimv2_large_patch14_224", patch_size=8),
    "timm eva giant": of_timm("eva_giant_patch14_224", mlp_ratio=4.0),
    "timm eva02": of_timm("eva02_tiny_patch14_224"),
    "timm eva02 base": of_timm("eva02_base_patch14_224"),
    "timm dinov3": of_timm("vit_small_patch16_dinov3"),
    "timm rope": of_timm("vit_small_patch16_rope_224"),
    "timm rope mixed": of_timm("vit_small_patch16_rope_mixed_ape_224"),
    "timm beitv2": of_timm("beitv2_base_patch16_224"),
    "timm pe core": of_timm("vit_pe_core_small_patch16_384"),
    "transformers ViT": of_transformers("ViTForImageClassification", "ViTConfig"),
    "transformers DeiT": of_transformers("DeiTForImageClassification", "DeiTConfig"),
    "transformers DeiT distilled": of_transformers("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
    "transformers ViT-MSN": of_transformers("ViTMSNForImageClassification", "ViTMSNConfig"),
    "transformers DINOv2": of_transformers("Dinov2ForImageClassification", "Dinov2Config"),
    "transformers DINOv2 registers": of_transformers("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig"),
    "transformers DINOv2 SwiGLU": of_transformers("Dinov2ForImageClassification", "Dinov2Config", use_swiglu_ffn=True),
    "transformers CLIP": lambda: T.CLIPForImageClassification(T.CLIPConfig(**TOWERS)),
    "transformers SigLIP": lambda: T.SiglipForImageClassification(T.SiglipConfig(**TOWERS)),
    "transformers BEiT": of_transformers("BeitForImageClassification", "BeitConfig", use_shared_relative_position_bias=True),
    "torchvision ViT": lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 48, num_classes=5),
}  # fmt: skip
BACKBONES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "timm vit": (of_timm("vit_tiny_patch16_224", num_classes=0), ""),
    "timm mean": (of_timm("vit_tiny_patch16_224", num_classes=0, global_pool="avg"), ""),
    "transformers DINOv2": (of_transformers("Dinov2Model", "Dinov2Config"), "last_hidden_state"),
    "transformers DINOv2 pooled": (of_transformers("Dinov2Model", "Dinov2Config"), "pooler_output"),
    "transformers ViT": (of_transformers("ViTModel", "ViTConfig"), "last_hidden_state"),
    "transformers CLIP": (lambda: T.CLIPVisionModelWithProjection(T.CLIPVisionConfig(**TINY, projection_dim=12)), "image_embeds"),
    "transformers SigLIP": (lambda: T.SiglipVisionModel(T.SiglipVisionConfig(**TINY)), "last_hidden_state"),
}


def images_like(model: nn.Module, count: int = 2) -> Tensor:
    patches = next(module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    channels = patches.in_channels if isinstance(patches, nn.Conv2d) else 3
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or (32, 32)
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(7))


def export(model: nn.Module, images: Tensor, path: Path, *, dynamo: bool, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
            torch.onnx.export(model, (images,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, **options)
        else:
            axes = {"images": {0: "batch"}}
            torch.onnx.export(model, (images,), path, dynamo=False, input_names=["images"], dynamic_axes=axes, **options)
    return path


@torch.inference_mode()
def error(model: nn.Module, path: Path, images: Tensor, what: str, exporter: str, **options: Any) -> float:
    checkpoint = load_checkpoint(path, **options)
    wanted, found = model(images), checkpoint.model(images)
    largest = float((wanted - found.reshape(wanted.shape)).abs().max()) / max(1.0, float(wanted.abs().max()))
    RESULTS.append((what, exporter, largest))
    return largest


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    for what in dict.fromkeys(what for what, _, _ in RESULTS):
        row = ", ".join(f"{exporter} {value:.1e}" for name, exporter, value in RESULTS if name == what)
        print(f"{what:35} {row}")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("exporter", ["torchscript", "torchscript 14", "dynamo"])
def test_models(name: str, exporter: str, tmp_path: Path) -> None:
    """Of both exporters of torch, and an opset that has neither LayerNormalization nor Gelu."""
    model = Logits(lively(MODELS[name]())).eval()
    images = images_like(model.model)
    options = {"opset_version": 14} if "14" in exporter else {}
    path = export(model, images, tmp_path / "vit.onnx", dynamo=exporter == "dynamo", **options)
    assert error(model, path, images, name, exporter) <= TOLERANCE


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_backbones(name: str, dynamo: bool, tmp_path: Path) -> None:
    """Features of models without a head."""
    make, take = BACKBONES[name]
    model = Logits(lively(make()), take).eval()
    images = images_like(model.model)
    path = export(model, images, tmp_path / "vit.onnx", dynamo=dynamo)
    with pytest.raises(CheckpointError):
        if "CLIP" in name:
            raise CheckpointError  # a projection is as good as a head
        load_checkpoint(path)
    checkpoint = load_checkpoint(path, headless=True)
    with torch.inference_mode():
        wanted, found = model(images), checkpoint.model(images)
        if wanted.ndim == 3:
            wanted = wanted[:, 0] if checkpoint.model.config.class_token else wanted.mean(1)
    largest = float((wanted - found).abs().max())
    RESULTS.append((f"backbone, {name}", "dynamo" if dynamo else "torchscript", largest))
    assert largest <= TOLERANCE * max(1.0, float(wanted.abs().max()))


MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Wrapper(nn.Module):
    """Frames uint8 [N, H, W, 3] BGR to probabilities, as tools export that are to be called with a frame."""

    def __init__(self, model: nn.Module, *, ends: bool = True) -> None:
        super().__init__()
        self.model, self.ends = model, ends

    def forward(self, images: Tensor) -> Tensor:
        x = (images.flip(-1).float() / 255 - MEAN) / STD
        logits = self.model(x.permute(0, 3, 1, 2))
        return logits.softmax(-1) if self.ends else logits
