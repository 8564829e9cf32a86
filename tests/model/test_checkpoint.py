"""Imported models compute what their sources compute: parity with independent references, and the saved format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgevit.errors import StorageError
from edgevit.model import Checkpoint, load_checkpoint, save_checkpoint
from edgevit.model.folded import forward
from edgevit.model.rewrites.folding import fold
from edgevit.model.vit import resize
from edgevit.preprocess import Preprocessing
from tests.model import references as ref

TOLERANCE = 1e-4
TIMM = json.loads((Path(__file__).parent / "fixtures" / "timm_keys.json").read_text())["models"]

# name: (reference, options of load_checkpoint, expected family)
CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "timm": (ref.TimmVit, {}, "timm"),
    "timm without qkv bias": (lambda: ref.TimmVit(qkv_bias=False), {}, "timm"),
    "timm gray": (lambda: ref.TimmVit(channels=1), {}, "timm"),
    "timm distilled": (lambda: ref.TimmVit(distilled=True), {}, "timm"),
    "timm deit3": (lambda: ref.TimmVit(scaled=True, embed_class=False), {}, "timm"),
    "timm dinov2": (lambda: ref.TimmVit(scaled=True), {}, "timm"),
    "timm dinov2 reg4": (lambda: ref.TimmVit(scaled=True, registers=4, embed_class=False), {}, "timm"),
    "timm registers with positions": (lambda: ref.TimmVit(registers=3), {}, "timm"),
    "timm average pooling": (lambda: ref.TimmVit(pool="avg"), {}, "timm"),
    "timm reg4 gap": (
        lambda: ref.TimmVit(pool="avg", class_token=False, registers=4, embed_class=False, scaled=True), {}, "timm"),
    "timm gap, norm before pooling": (lambda: ref.TimmVit(pool="avg", fc_norm=False, class_token=False), {}, "timm"),
    "timm clip": (lambda: ref.TimmVit(pre_norm=True), {}, "timm"),
    "timm clip quick_gelu": (
        lambda: ref.TimmVit(pre_norm=True, activation="quick_gelu"), {"activation": "quick_gelu"}, "timm"),
    "huggingface ViT": (ref.HfVit, {"heads": 4}, "huggingface ViT"),
    "huggingface ViT without qkv bias": (lambda: ref.HfVit(qkv_bias=False), {"heads": 4}, "huggingface ViT"),
    "huggingface DeiT": (lambda: ref.HfVit(distilled=True), {"heads": 4}, "huggingface DeiT"),
    "huggingface DeiT with teacher": (lambda: ref.HfVit(distilled=True, teacher=True), {"heads": 4}, "huggingface DeiT"),
    "huggingface DINOv2": (ref.HfDinov2, {"heads": 4}, "huggingface DINOv2"),
    "huggingface DINOv2 registers": (lambda: ref.HfDinov2(registers=4), {"heads": 4}, "huggingface DINOv2"),
    "torchvision": (ref.TorchvisionVit, {}, "torchvision"),
    "dinov2": (ref.Dinov2, {}, "dinov2"),
    "dinov2 registers": (lambda: ref.Dinov2(registers=4), {}, "dinov2"),
    "dinov2 head on the class token": (lambda: ref.Dinov2(head="head", mean=False), {}, "dinov2"),
    "tutorial": (ref.TutorialVit, {"image_size": 32}, "tutorial"),
    "tutorial without biases": (lambda: ref.TutorialVit(bias=False), {"image_size": 32}, "tutorial"),
    "tutorial with four heads": (lambda: ref.TutorialVit(heads=4), {"image_size": 32, "heads": 4}, "tutorial"),
    "tutorial gray": (lambda: ref.TutorialVit(channels=1), {"image_size": 32}, "tutorial"),
}  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, nn.Module, dict[str, Any], str]:
    """A reference with random weights, the options its import needs, and the family it belongs to."""
    build, options, family = CASES[request.param]
    return request.param, ref.randomise(build(), seed=7), options, family


@pytest.fixture
def weights(case: tuple[str, nn.Module, dict[str, Any], str], tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(case[1].state_dict(), path)
    return path


@torch.inference_mode()
def largest_error(reference: nn.Module, checkpoint: Checkpoint, name: str) -> float:
    """Largest logit difference on two random images of the checkpoint's size, printed for the record."""
    config = checkpoint.model.config
    images = torch.randn(2, config.channels, *config.image_size, generator=torch.Generator().manual_seed(1))
    expected, got = reference(images), checkpoint.model(images)
    error = float((expected - got).abs().max())
    print(f"{name} at {config.image_size}: max abs error {error:.1e} of {float(expected.abs().max()):.1f}")
    return error


def test_logits_equal_the_reference(case, weights: Path) -> None:
    """At the size of the weights."""
    name, reference, options, family = case
    checkpoint = load_checkpoint(weights, **options)
    assert checkpoint.family == family
    assert checkpoint.model.config.image_size == (32, 32)
    assert not checkpoint.model.training
    assert largest_error(reference, checkpoint, name) < TOLERANCE


@pytest.mark.parametrize("size", [(48, 48), (24, 56)], ids=["larger", "not square"])
def test_resized_logits_equal_the_reference(case, weights: Path, size: tuple[int, int]) -> None:
    """Position embeddings are interpolated by the family's own method; the contract follows the size."""
    name, reference, options, _ = case
    checkpoint = load_checkpoint(weights, **{**options, "image_size": size})
    assert checkpoint.model.config.image_size == checkpoint.preprocessing.size == size
    assert largest_error(reference, checkpoint, name) < TOLERANCE


def test_wrong_interpolation_would_show(tmp_path: Path) -> None:
    """The families' methods differ by far more than the tolerance, so parity tells them apart."""
    reference = ref.randomise(ref.TorchvisionVit(), seed=7)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    model = load_checkpoint(tmp_path / "w.safetensors").model
    model.config = replace(model.config, resample="bicubic")
    images = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert float((reference(images) - resize(model, (48, 48))(images)).abs().max()) > 100 * TOLERANCE


def test_folded_graph_equals_the_model(case, weights: Path) -> None:
    """Over uint8 BGR frames, the folded graph gives the reference's logits on the normalised image."""
    _, reference, options, _ = case
    checkpoint = load_checkpoint(weights, **options)
    colors = ("gray",) if checkpoint.model.config.channels == 1 else ("rgb", "bgr")
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    for color in colors:
        mean, std = ((0.4,), (0.3,)) if color == "gray" else ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
        contract = Preprocessing(size=(32, 32), resize=(32, 32), color=color, mean=mean, std=std)
        with torch.inference_mode():
            expected = reference(normalised(frames, contract))
        assert float((forward(fold(checkpoint.model, contract), frames) - expected).abs().max()) < TOLERANCE, color


def normalised(frames: Tensor, contract: Preprocessing) -> Tensor:
    """What a training pipeline makes of BGR frames [N, H, W, 3]: float [N, channels, H, W]."""
    blue, green, red = frames.float().div(255).unbind(-1)
    channels = {"rgb": (red, green, blue), "bgr": (blue, green, red), "gray": (0.299 * red + 0.587 * green + 0.114 * blue,)}
    images = torch.stack(channels[contract.color], dim=1)
    return (images - torch.tensor(contract.mean).view(-1, 1, 1)) / torch.tensor(contract.std).view(-1, 1, 1)


def test_saved_model_is_read_back_exactly(case, weights: Path, tmp_path: Path) -> None:
    """Weights to the bit, config, preprocessing and labels; nothing has to be assumed."""
    first = load_checkpoint(weights, **case[2])
    labels = ("défaut", "裂纹", "c", "d", "e")
    path = tmp_path / "模型 é.safetensors"
    save_checkpoint(first.model, path, preprocessing=first.preprocessing, labels=labels)
    second = load_checkpoint(path)
    assert (second.family, second.labels, second.notes) == ("edgevit", labels, ())
    assert (second.model.config, second.preprocessing) == (first.model.config, first.preprocessing)
    for key, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, weights.name])


def test_imported_model_trains(tmp_path: Path) -> None:
    """Its parameters take gradients."""
    save_file(ref.TimmVit().state_dict(), tmp_path / "w.safetensors")
    model = load_checkpoint(tmp_path / "w.safetensors").model
    model(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(p.requires_grad for p in model.parameters())
    assert model.head.weight.grad is not None


def test_save_refuses_what_does_not_fit(tmp_path: Path) -> None:
    """Wrong number of labels: the file would be useless."""
    save_file(ref.TimmVit().state_dict(), tmp_path / "w.safetensors")
    checkpoint = load_checkpoint(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="5 classes"):
        save_checkpoint(checkpoint.model, tmp_path / "x.safetensors", preprocessing=checkpoint.preprocessing, labels=["a"])
    with pytest.raises(StorageError, match="cannot write"):
        save_checkpoint(
            checkpoint.model, tmp_path / "no" / "x.safetensors", preprocessing=checkpoint.preprocessing, labels=checkpoint.labels
        )


@pytest.mark.parametrize("name", [name for name in TIMM if "siglip_224" not in name])
def test_real_timm_keys_are_recognised(name: str, tmp_path: Path) -> None:
    """Key names and shapes of timm's own models, one block deep: every key is used, the image size is theirs."""
    tensors = {key: torch.zeros(shape) for key, shape in TIMM[name].items()}
    save_file(tensors, tmp_path / "w.safetensors")
    checkpoint = load_checkpoint(tmp_path / "w.safetensors")
    config = checkpoint.model.config
    assert checkpoint.family == "timm"
    assert config.image_size[0] == (518 if "dinov2" in name else int(name[-3:]))
    assert config.registers == (4 if "reg4" in name else 0)
    assert config.embedding_norm == ("clip" in name)
    assert config.norm_eps == (1e-5 if "clip" in name else 1e-6)
    assert config.pooling == (("class", "distillation") if "distilled" in name else ("mean",) if "gap" in name else ("class",))
    assert config.layer_scale == any(part in name for part in ("dinov2", "deit3", "reg4"))


def test_newer_transformers_names(tmp_path: Path) -> None:
    """transformers 5 renames the blocks of ViT; the model is the same."""
    reference = ref.randomise(ref.HfVit(), seed=3)
    new = {
        "encoder.layer.": "layers.", "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj", "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
    }  # fmt: skip
    state = {}
    for key, value in reference.state_dict().items():
        for old, name in new.items():
            key = key.replace(old, name)
        state[key] = value
    assert "vit.layers.1.attention.o_proj.bias" in state
    save_file(state, tmp_path / "w.safetensors")
    assert largest_error(reference, load_checkpoint(tmp_path / "w.safetensors", heads=4), "transformers 5") < TOLERANCE


def test_older_torchvision_names(tmp_path: Path) -> None:
    """torchvision 0.12 called the MLP layers linear_1 and linear_2."""
    reference = ref.randomise(ref.TorchvisionVit(), seed=3)
    state = {k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for k, v in reference.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    assert largest_error(reference, load_checkpoint(tmp_path / "w.safetensors"), "torchvision 0.12") < TOLERANCE


def test_chunked_dinov2_names(tmp_path: Path) -> None:
    """With block_chunks the second block may be the second of the first chunk or the first of the second."""
    reference = ref.randomise(ref.Dinov2(), seed=3)
    state = {
        k.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): v for k, v in reference.state_dict().items()
    }
    assert "blocks.1.1.attn.qkv.weight" in state
    save_file(state, tmp_path / "w.safetensors")
    assert largest_error(reference, load_checkpoint(tmp_path / "w.safetensors"), "chunked dinov2") < TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    """Weights keep their values and are float32 afterwards."""
    reference = ref.randomise(ref.TimmVit(), seed=3).to(dtype)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    model = load_checkpoint(tmp_path / "w.safetensors").model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.head.weight, load_file(tmp_path / "w.safetensors")["head.weight"].float())
