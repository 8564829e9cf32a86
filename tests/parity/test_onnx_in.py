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
from edgevit.unreported import import_onnxruntime, unreported
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


def runtime(path: Path, images: Tensor) -> Tensor:
    """What ONNX Runtime makes of a graph."""
    session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


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
    try:
        path = export(model, images, tmp_path / "vit.onnx", dynamo=exporter == "dynamo", **options)
        exported = runtime(path, images)
    except Exception as reason:  # of the exporter, or of a graph that is not whole
        pytest.skip(f"not exported: {str(reason).partition(chr(10))[0][:80]}")
    with torch.inference_mode():
        wanted = model(images)
    if float((exported - wanted).abs().max()) > TOLERANCE * max(1.0, float(wanted.abs().max())):
        pytest.skip("the exporter's own mistake: ONNX Runtime gives something else for its graph")
    assert error(model, path, images, name, exporter) <= TOLERANCE


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_backbones(name: str, dynamo: bool, tmp_path: Path) -> None:
    """Features of models without a head."""
    make, take = BACKBONES[name]
    model = Logits(lively(make()), take).eval()
    images = images_like(model.model)
    path = export(model, images, tmp_path / "vit.onnx", dynamo=dynamo)
    if "CLIP" not in name:  # a projection is as good as a head
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
    checkpoint = load_checkpoint(path, headless=True)
    with torch.inference_mode():
        wanted, found = model(images), checkpoint.model(images)
        if wanted.ndim == 3:
            wanted = wanted[:, 0] if checkpoint.model.config.class_token else wanted.mean(1)
    largest = float((wanted - found).abs().max())
    RESULTS.append((f"backbone, {name}", "dynamo" if dynamo else "torchscript", largest))
    assert largest <= TOLERANCE * max(1.0, float(wanted.abs().max()))


def swapped(images: Tensor) -> Tensor:
    return images[:, [2, 1, 0]]


# What stands in front of a model: what it does, the images that it takes, and the preprocessing that comes of it.
FRONTS: dict[str, tuple[Callable[[Tensor], Tensor], str, tuple[float, ...], tuple[float, ...], str]] = {
    "0..1": (lambda x: (x - MEAN[:, None, None]) / STD[:, None, None], "float", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
             "rgb"),
    "0..255": (lambda x: (x / 255 - MEAN[:, None, None]) / STD[:, None, None], "bytes", (0.485, 0.456, 0.406),
               (0.229, 0.224, 0.225), "rgb"),
    "doubled": (lambda x: x * 2 - 1, "float", (0.5,) * 3, (0.5,) * 3, "rgb"),
    "uint8": (lambda x: x.float() / 127.5 - 1, "uint8", (0.5,) * 3, (0.5,) * 3, "rgb"),
    "uint8 raw": (lambda x: x.float() / 255, "uint8", (0.0,) * 3, (1.0,) * 3, "rgb"),
    "BGR in": (lambda x: (swapped(x) / 255 - MEAN[:, None, None]) / STD[:, None, None], "bytes", (0.485, 0.456, 0.406),
               (0.229, 0.224, 0.225), "rgb"),
    "BGR weights": (lambda x: (x / 255 - MEAN.flip(0)[:, None, None]) / STD.flip(0)[:, None, None], "bytes",
                    (0.406, 0.456, 0.485), (0.225, 0.224, 0.229), "bgr"),
    "split": (lambda x: torch.cat([(c - 0.1 * i) / (1 + i) for i, c in enumerate(x.split(1, 1))], 1), "float", (0.0, 0.1, 0.2),
              (1.0, 2.0, 3.0), "bgr"),
    "resized": (lambda x: nn.functional.interpolate(x / 255, (32, 32), mode="bilinear") * 2 - 1, "large", (0.5,) * 3, (0.5,) * 3,
                "rgb"),
}  # fmt: skip


class Front(nn.Module):
    def __init__(self, model: nn.Module, front: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.front = model, front

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.front(images))


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_preprocessing_in_the_graph(front: str, dynamo: bool, tmp_path: Path) -> None:
    """Becomes the contract; the weights stay those of the model behind it."""
    change, kind, mean, std, color = FRONTS[front]
    model = lively(of_timm("vit_tiny_patch16_224")())
    size = (48, 64) if kind == "large" else (32, 32)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3))
    images = images if kind == "float" else (images * 255).to(torch.uint8) if kind == "uint8" else images * 255
    path = export(Front(model, change).eval(), images, tmp_path / "vit.onnx", dynamo=dynamo)
    checkpoint = load_checkpoint(path)
    contract = checkpoint.preprocessing
    assert contract.mean == pytest.approx(mean, abs=1e-5)
    assert contract.std == pytest.approx(std, abs=1e-5)
    assert (contract.color, contract.size) == (color, (32, 32))
    plain = images_like(model)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(plain), model(plain), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["timm vit", "timm dinov2 registers", "transformers CLIP", "transformers DINOv2", "timm siglip"])
def test_optimized_graphs(name: str, tmp_path: Path) -> None:
    """By onnxruntime.transformers, by ONNX Runtime itself, and in half precision."""
    onnxruntime = import_onnxruntime()
    with unreported():
        from onnxruntime.transformers import float16, optimizer

    model = Logits(lively(MODELS[name]())).eval()
    images = images_like(model.model)
    path = export(model, images, tmp_path / "vit.onnx", dynamo=False)
    fused = optimizer.optimize_model(str(path), model_type="vit", num_heads=2, hidden_size=32, opt_level=0)
    fused.save_model_to_file(str(tmp_path / "fused.onnx"))
    assert error(model, tmp_path / "fused.onnx", images, name, "optimizer") <= TOLERANCE
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "extended.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert error(model, tmp_path / "extended.onnx", images, name, "extended") <= TOLERANCE
    onnx.save(float16.convert_float_to_float16(onnx.load(path)), tmp_path / "half.onnx")
    assert error(model, tmp_path / "half.onnx", images, name, "half, against the float model") <= 5e-3  # its weights are rounded


@pytest.mark.parametrize("name", ["timm vit", "transformers DINOv2", "torchvision ViT"])
@pytest.mark.parametrize("axes", [None, {"images": {0: "batch", 2: "height", 3: "width"}}], ids=["fixed batch", "any size"])
def test_shapes(name: str, axes: dict | None, tmp_path: Path) -> None:
    """A batch of four, and no more or less; any batch of any size."""
    model = Logits(lively(MODELS[name]())).eval()
    images = images_like(model.model, 4)
    torch.onnx.export(model, (images,), tmp_path / "vit.onnx", dynamo=False, input_names=["images"], dynamic_axes=axes)
    exporter = "fixed batch" if axes is None else "any size"
    assert error(model, tmp_path / "vit.onnx", images, name, exporter) <= TOLERANCE


OTHERS = {
    "resnet18": "convolutional network", "convnext_atto": "convolutional network", "mobilevit_xxs": "mixture of convolutions",
    "swin_tiny_patch4_window7_224": "model in stages", "mixer_s16_224": "no attention", "cait_xxs24_224": "no plain ViT",
    "convit_tiny": "no plain ViT", "xcit_nano_12_p16_224": "mixture", "vit_small_patch16_18x2_224": "no plain ViT",
    "vit_tiny_r_s16_p8_224": "", "pit_ti_224": "mixture", "twins_svt_small": "mixture",
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_other_models_are_refused(other: str, tmp_path: Path) -> None:
    """In a line that says what it looks like."""
    model = timm.create_model(other, num_classes=5).eval()
    images = torch.randn(1, *model.default_cfg["input_size"])
    export(model, images, tmp_path / "other.onnx", dynamo=False)
    with pytest.raises(CheckpointError, match=OTHERS[other]) as caught:
        load_checkpoint(tmp_path / "other.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", ["ResPostBlock", "ParallelScalingBlock", "ParallelThingsBlock"])
def test_other_blocks_are_refused(block: str, tmp_path: Path) -> None:
    """timm's blocks with norms behind the branches, or with branches beside each other."""
    kind = getattr(timm.models.vision_transformer, block)
    model = lively(of_timm("vit_tiny_patch16_224", block_fn=kind)())
    path = export(model, images_like(model), tmp_path / "vit.onnx", dynamo=False)
    with pytest.raises(CheckpointError, match="no plain ViT"):
        load_checkpoint(path)
