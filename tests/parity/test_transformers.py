"""Image classifiers and image processors of the installed transformers: edgevit computes and feeds the same, or refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")

import torch
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from edgevit.model.reading.defaults import PROCESSORS
from tests.parity.conftest import fed, images_of, lively, picture

T = transformers
TOLERANCE = 2e-4
SMALL = {"image_size": 64, "patch_size": 16, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 5}
VIT = {**SMALL, "intermediate_size": 128}
MODELS = {
    "ViT": (T.ViTForImageClassification, T.ViTConfig, VIT),
    "ViT wide": (T.ViTForImageClassification, T.ViTConfig, {**VIT, "image_size": [32, 128]}),
    "ViT without qkv bias": (T.ViTForImageClassification, T.ViTConfig, {**VIT, "qkv_bias": False}),
    "ViT with another epsilon": (T.ViTForImageClassification, T.ViTConfig, {**VIT, "layer_norm_eps": 1e-2}),
    "ViT-MSN": (T.ViTMSNForImageClassification, T.ViTMSNConfig, VIT),
    "DeiT": (T.DeiTForImageClassification, T.DeiTConfig, VIT),
    "DeiT with teacher": (T.DeiTForImageClassificationWithTeacher, T.DeiTConfig, VIT),
    "DINOv2": (T.Dinov2ForImageClassification, T.Dinov2Config, SMALL),
    "DINOv2 giant": (T.Dinov2ForImageClassification, T.Dinov2Config, {**SMALL, "use_swiglu_ffn": True}),
    "DINOv2 with registers": (T.Dinov2WithRegistersForImageClassification, T.Dinov2WithRegistersConfig, SMALL),
}
TOWER = {key: value for key, value in VIT.items() if key != "num_labels"}
TEXT = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
TOWERS = {
    "CLIP": (T.CLIPForImageClassification, T.CLIPConfig, {}),
    "CLIP of LAION": (T.CLIPForImageClassification, T.CLIPConfig, {"hidden_act": "gelu"}),
    "MetaCLIP 2": (T.MetaClip2ForImageClassification, T.MetaClip2Config, {}),
    "SigLIP": (T.SiglipForImageClassification, T.SiglipConfig, {}),
    "SigLIP without a head of its own": (T.SiglipForImageClassification, T.SiglipConfig, {"vision_use_head": False}),
}
ACTIVATIONS = ("gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "quick_gelu", "relu")


def saved(name: str, folder: Path, **changes: object):
    kind, config, fields = MODELS[name]
    model = lively(kind(config(**{**fields, **changes})))
    model.save_pretrained(folder)
    return model


@torch.inference_mode()
def error_of(model, checkpoint, **how: object) -> float:
    images = images_of(checkpoint.model)
    return float((model(images, **how).logits - checkpoint.model(images)).abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_logits(name: str, tmp_path: Path) -> None:
    """At the size of the weights."""
    model = saved(name, tmp_path)
    assert error_of(model, load_checkpoint(tmp_path)) < TOLERANCE


@pytest.mark.parametrize("name", TOWERS)
def test_logits_of_towers(name: str, tmp_path: Path) -> None:
    kind, config, changes = TOWERS[name]
    model = lively(kind(config(vision_config={**TOWER, **changes}, text_config=TEXT, num_labels=5)))
    model.save_pretrained(tmp_path)
    assert error_of(model, load_checkpoint(tmp_path)) < TOLERANCE


class Dinov3WithHead(T.DINOv3ViTModel):
    """DINOv3 has no classifier in transformers; people put a linear one on the class token, or on that and the mean."""

    def __init__(self, config, pooled: int) -> None:
        super().__init__(config)
        self.pooled, self.classifier = pooled, torch.nn.Linear(pooled * config.hidden_size, 5)

    def logits(self, images):
        tokens = self.forward(images).last_hidden_state
        features = [tokens[:, 0], tokens[:, 1 + self.config.num_register_tokens :].mean(1)]
        return self.classifier(torch.cat(features[: self.pooled], 1))


@pytest.mark.parametrize("changes", [
    {"use_relative_position_bias": True}, {"use_shared_relative_position_bias": True},
    {"use_relative_position_bias": True, "use_mean_pooling": False},
    {"use_relative_position_bias": True, "use_absolute_position_embeddings": True},
])  # fmt: skip
def test_beit(changes: dict, tmp_path: Path) -> None:
    model = lively(T.BeitForImageClassification(T.BeitConfig(**VIT, **changes)))
    model.save_pretrained(tmp_path)
    assert error_of(model, load_checkpoint(tmp_path)) < TOLERANCE


@pytest.mark.parametrize("pooled", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"num_register_tokens": 4}, {"use_gated_mlp": True, "hidden_act": "silu"},
                                     {"image_size": [32, 96]}, {"key_bias": True}])  # fmt: skip
def test_dinov3(changes: dict, pooled: int, tmp_path: Path) -> None:
    model = lively(Dinov3WithHead(T.DINOv3ViTConfig(**{**TOWER, **changes}), pooled))
    model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    images = images_of(checkpoint.model)
    with torch.inference_mode():
        assert float((model.logits(images) - checkpoint.model(images)).abs().max()) < TOLERANCE


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["ViT", "DINOv2"])
def test_activations(name: str, activation: str, tmp_path: Path) -> None:
    """The forms of GELU differ little, so the tolerance is small."""
    model = saved(name, tmp_path, hidden_act=activation)
    assert error_of(model, load_checkpoint(tmp_path)) < 2e-5


@pytest.mark.parametrize("activation", ["silu", "gelu_10", "relu2", "mish", "tanh"])
def test_activations_that_edgevit_has_not(activation: str, tmp_path: Path) -> None:
    saved("ViT", tmp_path, hidden_act=activation)
    with pytest.raises(CheckpointError, match=activation):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("size", [(48, 48), (96, 96), (32, 128), (48, 80)])
@pytest.mark.parametrize("name", ["ViT", "ViT-MSN", "DeiT", "DINOv2", "DINOv2 with registers"])
def test_positions_at_another_size(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """As each family interpolates them at run time."""
    model = saved(name, tmp_path)
    how = {} if name.startswith("DINOv2") else {"interpolate_pos_encoding": True}
    assert error_of(model, load_checkpoint(tmp_path, image_size=size), **how) < TOLERANCE


@pytest.mark.parametrize("name", ["DINOv2", "DINOv2 with registers"])
def test_dinov2_takes_its_positions_for_a_square(name: str, tmp_path: Path) -> None:
    """Trained at 32x128, its 16 positions are interpolated from 4x4 at run time, config.json or not."""
    model = saved(name, tmp_path, image_size=[32, 128])
    assert error_of(model, load_checkpoint(tmp_path, image_size=(32, 128))) < TOLERANCE


PROCESSOR_SETTINGS = [
    ("ViTImageProcessor", {}),
    ("ViTImageProcessor", {"size": 64}),
    ("ViTImageProcessor", {"size": {"height": 64, "width": 96}}),
    ("ViTImageProcessor", {"size": 64, "do_normalize": False}),
    ("ViTImageProcessor", {"size": 64, "do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}),
    ("ViTImageProcessor", {"size": 64, "rescale_factor": 1 / 127.5}),
    ("ViTImageProcessor", {"size": 80, "do_center_crop": True, "crop_size": 64}),
    ("DeiTImageProcessor", {}),
    ("DeiTImageProcessor", {"size": 80, "crop_size": 64}),
    ("DeiTImageProcessor", {"size": 64, "do_center_crop": False}),
    ("BitImageProcessor", {}),
    ("BitImageProcessor", {"size": 64, "crop_size": 64}),
    ("BitImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": 64}),
    ("BitImageProcessor", {"size": {"height": 64, "width": 96}, "do_center_crop": False}),
    ("BitImageProcessor", {"size": {"shortest_edge": 64}, "do_center_crop": False}),
    ("BitImageProcessor", {"size": 64, "default_to_square": True, "do_center_crop": False}),
    ("BitImageProcessor", {"size": {"shortest_edge": 80}, "crop_size": {"height": 64, "width": 80},
                           "image_mean": [0.485, 0.456, 0.406],
                           "image_std": [0.229, 0.224, 0.225]}),
    ("CLIPImageProcessor", {"size": 64, "crop_size": 64}),
    ("SiglipImageProcessor", {"size": {"height": 64, "width": 64}}),
    ("PvtImageProcessor", {"size": {"height": 64, "width": 64}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings"), PROCESSOR_SETTINGS)
@pytest.mark.parametrize("name", ["ViT", "DINOv2"])
@pytest.mark.parametrize("written", ["whole", "bare"])
def test_what_a_processor_feeds(name: str, kind: str, settings: dict, written: str, tmp_path: Path) -> None:
    """Size and pixels of transformers' own processor, from the file that it saves and from one with these settings alone."""
    model = saved(name, tmp_path)
    processor = getattr(T, kind)(**settings)
    if written == "whole":
        processor.save_pretrained(tmp_path)
    else:
        text = json.dumps({"image_processor_type": kind, **settings})
        (tmp_path / "preprocessor_config.json").write_text(text)
    image = picture(160, 160, 5)
    expected = T.AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")["pixel_values"]
    checkpoint = load_checkpoint(tmp_path)
    got = fed(checkpoint.preprocessing, image)
    assert got.shape == expected.shape
    assert checkpoint.model.config.image_size == tuple(expected.shape[2:])
    assert checkpoint.sized_by == "preprocessor_config.json"
    assert float((expected - got).abs().mean()) < 0.03 * float(expected.std())
    how = {} if name == "DINOv2" else {"interpolate_pos_encoding": True}
    assert error_of(model, checkpoint, **how) < TOLERANCE


@pytest.mark.parametrize("kind", PROCESSORS)
def test_processor_defaults(kind: str) -> None:
    """What edgevit takes for left-out settings is what the class has."""
    processor, ours = getattr(T, kind), PROCESSORS[kind]
    for key in ("do_resize", "do_rescale", "do_normalize", "default_to_square", "rescale_factor"):
        assert ours[key] == getattr(processor, key), key
    assert ours["do_center_crop"] == bool(getattr(processor, "do_center_crop", False))
    assert ours["resample"] == int(processor.resample)
    assert (tuple(ours["image_mean"]), tuple(ours["image_std"])) == (tuple(processor.image_mean), tuple(processor.image_std))
    size = ours["size"] if isinstance(ours["size"], dict) else {"height": ours["size"], "width": ours["size"]}
    assert size == processor.size
    if ours["do_center_crop"]:
        assert processor.crop_size == {"height": ours["crop_size"], "width": ours["crop_size"]}


@pytest.mark.parametrize("name", ["ViT", "ViT-MSN", "DeiT", "DINOv2"])
def test_default_processor_of_a_model(name: str, tmp_path: Path) -> None:
    """Without a preprocessor_config.json: mean, std, filter and crop are those of the processor that transformers maps it to."""
    model = saved(name, tmp_path)
    kind = IMAGE_PROCESSOR_MAPPING_NAMES[model.config.model_type]["torchvision"]
    processor, contract = getattr(T, kind), load_checkpoint(tmp_path).preprocessing
    assert (contract.mean, contract.std) == (tuple(processor.image_mean), tuple(processor.image_std))
    assert contract.size == (64, 64)
    assert contract.resize == ((73, 73) if kind == "DeiTImageProcessor" else (64, 64))
    assert contract.interpolation == {2: "linear", 3: "cubic"}[int(processor.resample)]


def test_facebook_dinov2_folder(tmp_path: Path) -> None:
    """The settings that every DINOv2 of the hub has: 518 in config.json, 256 and 224 in its processor."""
    model = saved("DINOv2", tmp_path, image_size=518, patch_size=14)
    T.BitImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, image_mean=[0.485, 0.456, 0.406],
                        image_std=[0.229, 0.224, 0.225]).save_pretrained(tmp_path)  # fmt: skip
    checkpoint = load_checkpoint(tmp_path)
    assert (checkpoint.model.config.image_size, checkpoint.sized_by) == ((224, 224), "preprocessor_config.json")
    assert error_of(model, checkpoint) < TOLERANCE


@pytest.mark.parametrize("kind", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_shards(kind: str, tmp_path: Path) -> None:
    model = saved("ViT", tmp_path / "whole")
    if kind.startswith("model"):
        model.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    else:
        state, table = model.state_dict(), {}
        (tmp_path / "parts").mkdir()
        model.config.save_pretrained(tmp_path / "parts")
        for index, keys in enumerate((list(state)[::2], list(state)[1::2]), 1):
            name = f"pytorch_model-{index:05d}-of-00002.bin"
            torch.save({key: state[key] for key in keys}, tmp_path / "parts" / name)
            table |= dict.fromkeys(keys, name)
        (tmp_path / "parts" / kind).write_text(json.dumps({"metadata": {}, "weight_map": table}))
    assert len(list((tmp_path / "parts").glob("*-of-*"))) > 1
    assert error_of(model, load_checkpoint(tmp_path / "parts")) < TOLERANCE
    assert error_of(model, load_checkpoint(sorted((tmp_path / "parts").glob("*-of-*"))[0])) < TOLERANCE


OTHERS = {
    "IJepa": lambda: T.IJepaForImageClassification(T.IJepaConfig(**VIT)),
    "BEiT": lambda: T.BeitForImageClassification(T.BeitConfig(**VIT)),
    "DINOv3": lambda: T.DINOv3ViTForImageClassification(T.DINOv3ViTConfig(**VIT)),
    "YOLOS": lambda: T.YolosForObjectDetection(T.YolosConfig(**{**VIT, "image_size": [64, 64]}, num_detection_tokens=4)),
    "ViT-MAE": lambda: T.ViTMAEForPreTraining(T.ViTMAEConfig(**VIT)),
    "SigLIP 2, NaFlex": lambda: T.Siglip2ForImageClassification(
        T.Siglip2Config(vision_config={k: v for k, v in TOWER.items() if k != "image_size"}, text_config=TEXT)
    ),
    "CLIP, both towers": lambda: T.CLIPModel(T.CLIPConfig(vision_config=TOWER, text_config=TEXT)),
    "Swin": lambda: T.SwinForImageClassification(T.SwinConfig(image_size=64, embed_dim=32, depths=[1, 1], num_heads=[2, 2])),
    "AST": lambda: T.ASTForAudioClassification(T.ASTConfig(**{k: v for k, v in VIT.items() if k != "image_size"})),
    "VideoMAE": lambda: T.VideoMAEForVideoClassification(T.VideoMAEConfig(**VIT)),
    "ViT backbone": lambda: T.ViTModel(T.ViTConfig(**VIT)),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("with_config", [True, False])
def test_other_models_are_refused(other: str, with_config: bool, tmp_path: Path) -> None:
    """By config.json and by the keys alone, in one line."""
    try:
        model = OTHERS[other]()
    except (AttributeError, TypeError) as error:
        pytest.skip(f"transformers: {error}")
    model.save_pretrained(tmp_path)
    if not with_config:
        (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path, heads=2)
    assert "\n" not in str(caught.value)
    print(caught.value)
