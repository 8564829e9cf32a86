"""What the files beside the weights and the user's options settle: heads, size, labels, preprocessing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgevit.errors import CheckpointError, ConfigError
from edgevit.model import Checkpoint, load_checkpoint
from edgevit.model.families.timm_config import TimmConfig
from edgevit.preprocess import IMAGENET_MEAN, IMAGENET_STD
from tests.model import references as ref
from tests.model.test_checkpoint import TOLERANCE, largest_error

HF_CONFIG = {
    "num_attention_heads": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 32, "patch_size": 8,
    "id2label": {str(i): name for i, name in ((4, "e"), (0, "a"), (1, "b"), (3, "d"), (2, "c"))},
}  # fmt: skip
PROCESSOR = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
}  # fmt: skip
TIMM_CONFIG = {
    "architecture": "vit_tiny_patch8_32", "num_classes": 5, "global_pool": "token",
    "pretrained_cfg": {"input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
                       "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}  # fmt: skip


def folder(model: nn.Module, where: Path, config: dict[str, Any], processor: dict[str, Any] | None = None) -> Path:
    """A model folder with ``model``'s weights and the given settings."""
    save_file(model.state_dict(), where / "model.safetensors")
    (where / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if processor is not None:
        (where / "preprocessor_config.json").write_text(json.dumps(processor))
    return where


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A timm ViT of width 128, 8-pixel patches and 32-pixel images, nothing beside it."""
    path = tmp_path / "w.safetensors"
    save_file(ref.TimmVit().state_dict(), path)
    return path


# --- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights_name", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face_folder(weights_name: str, tmp_path: Path) -> None:
    """Heads, epsilon, labels and preprocessing come from the folder; nothing has to be assumed."""
    reference = ref.randomise(ref.HfVit(eps=1e-3), seed=1)
    folder(reference, tmp_path, {**HF_CONFIG, "layer_norm_eps": 1e-3}, PROCESSOR)
    if weights_name == "pytorch_model.bin":
        (tmp_path / "model.safetensors").unlink()
        torch.save(reference.state_dict(), tmp_path / weights_name)
    for path in (tmp_path, tmp_path / weights_name):
        checkpoint = load_checkpoint(path)
        assert checkpoint.labels == ("a", "b", "c", "d", "e")
        assert checkpoint.notes == ()
        assert checkpoint.model.config.norm_eps == 1e-3
        assert largest_error(reference, checkpoint, weights_name) < TOLERANCE


@pytest.mark.parametrize(("name", "expected"), [("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("relu", "relu")])
def test_hugging_face_activation(name: str, expected: str, tmp_path: Path) -> None:
    folder(ref.HfVit(), tmp_path, {**HF_CONFIG, "hidden_act": name}, PROCESSOR)
    assert load_checkpoint(tmp_path).model.config.activation == expected


def test_hugging_face_nonsense_in_config(tmp_path: Path) -> None:
    """A setting of the wrong type is named."""
    folder(ref.HfVit(), tmp_path, {**HF_CONFIG, "num_attention_heads": "four"})
    with pytest.raises(CheckpointError, match=r"'four' as the number of heads"):
        load_checkpoint(tmp_path)


def test_hugging_face_epsilon_that_is_no_number(tmp_path: Path) -> None:
    folder(ref.HfVit(), tmp_path, {**HF_CONFIG, "layer_norm_eps": [1]})
    with pytest.raises(CheckpointError, match="do not go together"):
        load_checkpoint(tmp_path)


def test_labels_that_do_not_fit_are_replaced_with_a_note(tmp_path: Path) -> None:
    folder(ref.HfVit(), tmp_path, {**HF_CONFIG, "id2label": {"0": "only"}}, PROCESSOR)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.labels == ("0", "1", "2", "3", "4")
    assert any("1 labels for 5 classes" in note for note in checkpoint.notes)


def test_timm_folder(tmp_path: Path) -> None:
    """Preprocessing as timm evaluates: floor(size / crop_pct), then a centre crop."""
    checkpoint = load_checkpoint(folder(ref.TimmVit(), tmp_path, {**TIMM_CONFIG, "label_names": list("vwxyz")}))
    contract = checkpoint.preprocessing
    assert (contract.size, contract.resize, contract.mode, contract.interpolation) == ((32, 32), (35, 35), "shortest", "cubic")
    assert (contract.mean, contract.std) == ((0.5,) * 3, (0.5,) * 3)
    assert checkpoint.labels == tuple("vwxyz")
    assert checkpoint.notes == ("heads: assumed head_dim 64, so 2; pass --heads to change",)


@pytest.mark.parametrize(("crop_mode", "mode"), [("squash", "squash"), ("border", "letterbox")])
def test_timm_crop_modes(crop_mode: str, mode: str, tmp_path: Path) -> None:
    config = {**TIMM_CONFIG, "pretrained_cfg": {**TIMM_CONFIG["pretrained_cfg"], "crop_mode": crop_mode, "crop_pct": 1.0}}
    contract = load_checkpoint(folder(ref.TimmVit(), tmp_path, config)).preprocessing
    assert (contract.mode, contract.resize) == (mode, (32, 32))


def test_timm_config_settles_pooling_activation_and_heads(tmp_path: Path) -> None:
    """What keys cannot tell: average pooling after a norm, quick GELU, another number of heads."""
    reference = ref.randomise(ref.TimmVit(pre_norm=True, activation="quick_gelu", pool="avg", fc_norm=False, heads=4), seed=1)
    config = {**TIMM_CONFIG, "architecture": "vit_x_clip_quickgelu_32", "global_pool": "avg", "model_args": {"num_heads": 4}}
    checkpoint = load_checkpoint(folder(reference, tmp_path, config))
    assert largest_error(reference, checkpoint, "timm folder") < TOLERANCE


@pytest.mark.parametrize("change", [{"global_pool": "max"}, {"model_args": {"act_layer": "silu"}}])
def test_timm_config_that_edgevit_cannot_follow(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'(max|silu)'"):
        load_checkpoint(folder(ref.TimmVit(), tmp_path, {**TIMM_CONFIG, **change}))


# --- preprocessing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 32}, ("squash", (32, 32), "linear")),
        ({"size": {"height": 32, "width": 32}, "resample": 3}, ("squash", (32, 32), "cubic")),
        ({"size": {"shortest_edge": 36}, "do_center_crop": True, "crop_size": 32}, ("shortest", (36, 36), "linear")),
        ({"size": 36, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}, "resample": 1},
         ("squash", (36, 36), "lanczos")),
        ({"size": [32, 32], "resample": 0}, ("squash", (32, 32), "nearest")),
        ({"size": 32, "default_to_square": False}, ("shortest", (32, 32), "linear")),
        ({"size": 32, "image_processor_type": "BitImageProcessor", "crop_size": 32}, ("shortest", (32, 32), "linear")),
        ({"size": 32, "feature_extractor_type": "DeiTFeatureExtractor", "crop_size": 24}, ("squash", (32, 32), "linear")),
        ({"size": {"shortest_edge": 32}, "resample": 4}, ("shortest", (32, 32), "area")),
        ({"do_resize": False}, ("squash", (32, 32), "linear")),
    ],
)  # fmt: skip
def test_hugging_face_resizing(settings: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path) -> None:
    """Every form of ``size``, of transformers 3 to 5."""
    contract = load_checkpoint(folder(ref.HfVit(), tmp_path, HF_CONFIG, {**PROCESSOR, **settings})).preprocessing
    assert contract.size == ((24, 24) if settings.get("crop_size") == 24 else (32, 32))
    assert (contract.mode, contract.resize, contract.interpolation) == expected


@pytest.mark.parametrize(
    ("settings", "factor", "mean", "std"),
    [
        ({}, 1 / 255, 0.5, 0.25),
        ({"rescale_factor": 1 / 127.5}, 1 / 127.5, 0.5, 0.25),
        ({"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, 1.0, 120.0, 60.0),
        ({"do_normalize": False}, 1 / 255, 0.0, 1.0),
    ],
)
def test_hugging_face_normalisation(settings: dict[str, Any], factor: float, mean: float, std: float, tmp_path: Path) -> None:
    """(pixel / 255 - mean) / std of the contract is what the processor computes, whatever its scale."""
    contract = load_checkpoint(folder(ref.HfVit(), tmp_path, HF_CONFIG, {**PROCESSOR, **settings})).preprocessing
    for pixel in (0.0, 17.0, 255.0):
        assert (pixel / 255 - contract.mean[0]) / contract.std[0] == pytest.approx((pixel * factor - mean) / std)


@pytest.mark.parametrize(
    "settings",
    [{"resample": 9}, {"size": {"longest_edge": 3}}, {"image_std": [0, 0, 0]}, {"image_mean": [1.0, 2.0]}, {"size": "big"}],
)
def test_processor_that_makes_no_sense(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="preprocessing settings beside it make no sense"):
        load_checkpoint(folder(ref.HfVit(), tmp_path, HF_CONFIG, {**PROCESSOR, **settings}))


def test_assumed_preprocessing_is_noted(weights: Path) -> None:
    """No metadata: squash and ImageNet, and a note that names the options."""
    checkpoint = load_checkpoint(weights)
    contract = checkpoint.preprocessing
    assert (contract.mode, contract.mean, contract.std) == ("squash", IMAGENET_MEAN, IMAGENET_STD)
    assert any("--resize-mode" in note for note in checkpoint.notes)


def test_gray_models_get_one_mean(tmp_path: Path) -> None:
    save_file(ref.TimmVit(channels=1).state_dict(), tmp_path / "w.safetensors")
    contract = load_checkpoint(tmp_path / "w.safetensors").preprocessing
    assert (contract.color, contract.mean, contract.std) == ("gray", (0.5,), (0.5,))


def test_single_fields_can_be_replaced(weights: Path) -> None:
    changes = {
        "mode": "shortest",
        "resize": 40,
        "interpolation": "cubic",
        "mean": [0.1, 0.2, 0.3],
        "std": (1, 1, 1),
        "color": "bgr",
    }
    contract = load_checkpoint(weights, preprocessing=changes).preprocessing
    assert (contract.mode, contract.resize, contract.mean) == ("shortest", (40, 40), (0.1, 0.2, 0.3))
    assert (contract.interpolation, contract.std, contract.color) == ("cubic", (1.0, 1.0, 1.0), "bgr")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"mod": "squash"}, "Did you mean 'mode'"), ({"mode": "squish"}, "squash"), ({"resize": 8}, "resize"),
     ({"std": "wide"}, "std cannot be 'wide'"),
     ({"color": "gray", "mean": 0.5, "std": 0.5}, "does not fit a model of 3 channels")],
)  # fmt: skip
def test_wrong_preprocessing_options(weights: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_checkpoint(weights, preprocessing=changes)


# --- heads, activation, size, labels -----------------------------------------------------------------------------------


def test_heads_are_assumed_or_given(weights: Path) -> None:
    checkpoint = load_checkpoint(weights)
    assert checkpoint.model.config.blocks[0].heads == 2
    assert "heads: assumed head_dim 64, so 2; pass --heads to change" in checkpoint.notes
    given = load_checkpoint(weights, heads=8)
    assert given.model.config.head_dim == 16
    assert not any(note.startswith("heads") for note in given.notes)


@pytest.mark.parametrize("heads", [3, 256, -1, 0])
def test_heads_that_do_not_divide(weights: Path, heads: int) -> None:
    with pytest.raises(ConfigError, match="do not divide the attention width 128"):
        load_checkpoint(weights, heads=heads)


def test_unusual_width_asks_for_heads(tmp_path: Path) -> None:
    save_file(ref.TimmVit(width=96).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="Pass --heads N"):
        load_checkpoint(tmp_path / "w.safetensors")
    assert load_checkpoint(tmp_path / "w.safetensors", heads=3).model.config.head_dim == 32


def test_vit_huge_has_sixteen_heads(tmp_path: Path) -> None:
    """Its heads are 80 wide in timm and torchvision alike: assuming 64 would be silently wrong."""
    save_file(ref.TimmVit(width=1280, heads=16, depth=1).state_dict(), tmp_path / "w.safetensors")
    assert load_checkpoint(tmp_path / "w.safetensors").model.config.blocks[0].heads == 16


def test_activation_option(weights: Path) -> None:
    assert load_checkpoint(weights, activation="relu").model.config.activation == "relu"
    with pytest.raises(ConfigError, match="Did you mean 'quick_gelu'"):
        load_checkpoint(weights, activation="quickgelu")


@pytest.mark.parametrize("size", [33, (32, 20), 0, -8])
def test_size_that_patches_do_not_divide(weights: Path, size: Any) -> None:
    with pytest.raises(ConfigError, match="not a multiple of the patch size 8"):
        load_checkpoint(weights, image_size=size)


def test_a_size_that_fits_exactly_is_what_the_weights_were_trained_at(tmp_path: Path) -> None:
    """16 positions are 4x4, unless the user says 16x64: then 2x8, read as they are, with a note where nothing is said."""
    state = ref.randomise(ref.TimmVit(), seed=1).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    wide, square = load_checkpoint(tmp_path / "w.safetensors", image_size=(16, 64)), load_checkpoint(tmp_path / "w.safetensors")
    assert torch.equal(wide.model.positions, state["pos_embed"][0, 1:])
    assert wide.model.config.image_size == (16, 64)
    assert any("if its 16 position embeddings are 4x4; else pass --image-size HEIGHTxWIDTH" in note for note in square.notes)
    assert not any("position embeddings are" in note for note in wide.notes)


def test_a_square_of_rows_that_is_none(tmp_path: Path) -> None:
    """3x5 patches and a class token make 16 rows: a square without one, unless the user says 24x40."""
    state = ref.randomise(ref.TimmVit(), seed=1).state_dict()
    state["pos_embed"] = state["pos_embed"][:, :16]
    save_file(state, tmp_path / "w.safetensors")
    wide, square = load_checkpoint(tmp_path / "w.safetensors", image_size=(24, 40)), load_checkpoint(tmp_path / "w.safetensors")
    assert torch.equal(wide.model.positions, state["pos_embed"][0, 1:])
    assert torch.equal(wide.model.prefix, state["cls_token"][0] + state["pos_embed"][0, :1])
    assert square.model.config.image_size == (32, 32)
    assert any("16 rows are a square, so taken for patches alone" in note for note in square.notes)


def rectangular(tmp_path: Path) -> Path:
    state = ref.TimmVit().state_dict()
    state["pos_embed"] = torch.randn(1, 3 * 6 + 1, 128)
    save_file(state, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_positions_that_are_no_square(tmp_path: Path) -> None:
    """Weights trained on 24x48 images need to be told so."""
    path = rectangular(tmp_path)
    with pytest.raises(CheckpointError, match="no square grid"):
        load_checkpoint(path)
    assert load_checkpoint(path, image_size=(24, 48)).model.config.image_size == (24, 48)


def test_size_without_positions(tmp_path: Path) -> None:
    """224 or the nearest multiple of the patch, with a note; any other if asked for."""
    save_file(ref.TutorialVit(patch=10).state_dict(), tmp_path / "w.safetensors")
    checkpoint = load_checkpoint(tmp_path / "w.safetensors")
    assert checkpoint.model.config.image_size == (220, 220)
    assert any(note.startswith("image size: assumed 220x220") for note in checkpoint.notes)
    assert load_checkpoint(tmp_path / "w.safetensors", image_size=60).model.config.image_size == (60, 60)


def test_size_without_positions_must_still_fit(tmp_path: Path) -> None:
    save_file(ref.TutorialVit().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="not a multiple of the patch size 8"):
        load_checkpoint(tmp_path / "w.safetensors", image_size=33)


def test_the_processor_decides_the_size_of_a_dinov2(tmp_path: Path) -> None:
    """Its weights are for 518 pixels, its processor delivers 224, and transformers interpolates positions to that."""
    processor = {**PROCESSOR, "size": {"shortest_edge": 18}, "do_center_crop": True, "crop_size": 16}
    path = folder(ref.HfDinov2(), tmp_path, HF_CONFIG, processor)
    for checkpoint in (load_checkpoint(path), load_checkpoint(path, image_size=16)):
        assert checkpoint.model.config.image_size == (16, 16)
        assert (checkpoint.preprocessing.size, checkpoint.preprocessing.resize) == ((16, 16), (18, 18))
        assert checkpoint.notes == ()


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"do_center_crop": True, "crop_size": {"height": 16, "width": 24}}, (16, 24)),
        ({"do_center_crop": True, "crop_size": 40}, (40, 40)),
        ({"do_center_crop": False, "crop_size": 16}, (40, 40)),
        ({"size": {"shortest_edge": 24}, "do_center_crop": False}, (24, 24)),
        ({"size": 24, "do_center_crop": False}, (24, 24)),
        # What the file leaves out, or gives as null, is BitImageProcessor's: a crop, of 224 pixels.
        ({"crop_size": 16}, (16, 16)),
        ({"do_center_crop": True, "crop_size": None}, (224, 224)),
    ],
)
def test_the_size_of_a_dinov2(settings: dict[str, Any], size: tuple[int, int], tmp_path: Path) -> None:
    """What its processor delivers, cropped or not, not the size that its position table was trained at."""
    processor = {**PROCESSOR, "size": {"height": 40, "width": 40}, **settings}
    checkpoint = load_checkpoint(folder(ref.HfDinov2(), tmp_path, HF_CONFIG, processor))
    assert checkpoint.model.config.image_size == checkpoint.preprocessing.size == size
    assert checkpoint.sized_by == "preprocessor_config.json"


def test_the_user_decides_before_the_processor(tmp_path: Path) -> None:
    """A size that is given wins over the crop, which keeps its share of the resized image."""
    processor = {**PROCESSOR, "size": {"shortest_edge": 18}, "do_center_crop": True, "crop_size": 16}
    checkpoint = load_checkpoint(folder(ref.HfDinov2(), tmp_path, HF_CONFIG, processor), image_size=32)
    assert checkpoint.model.config.image_size == (32, 32)
    assert (checkpoint.preprocessing.size, checkpoint.preprocessing.resize) == ((32, 32), (36, 36))


def test_a_dinov2_without_processor_has_the_size_of_its_weights(tmp_path: Path) -> None:
    assert load_checkpoint(folder(ref.HfDinov2(), tmp_path, HF_CONFIG)).model.config.image_size == (32, 32)


def test_a_crop_that_is_no_multiple_of_the_patch(tmp_path: Path) -> None:
    processor = {**PROCESSOR, "do_center_crop": True, "crop_size": 20}
    path = folder(ref.HfDinov2(), tmp_path, HF_CONFIG, processor)
    with pytest.raises(ConfigError, match=r"by preprocessor_config.json, 20x20 is not a .* that is: --image-size 16"):
        load_checkpoint(path)
    assert load_checkpoint(path, image_size=24).model.config.image_size == (24, 24)


def test_the_processor_decides_the_size_of_a_vit(tmp_path: Path) -> None:
    """What transformers' pipeline feeds; that its ViT then needs an option of its own is said."""
    processor = {**PROCESSOR, "size": {"shortest_edge": 18}, "do_center_crop": True, "crop_size": 16}
    reference = ref.randomise(ref.HfVit(), seed=1)
    checkpoint = load_checkpoint(folder(reference, tmp_path, HF_CONFIG, processor))
    assert (checkpoint.preprocessing.size, checkpoint.preprocessing.resize) == ((16, 16), (18, 18))
    assert any("interpolate_pos_encoding=True" in note and "--image-size 32x32" in note for note in checkpoint.notes)
    assert largest_error(reference, checkpoint, "processor's size") < TOLERANCE


def labels_of(checkpoint: Checkpoint) -> str:
    return "".join(checkpoint.labels)


def test_labels_given(weights: Path, tmp_path: Path) -> None:
    """As a sequence, a text file or JSON; the number must fit."""
    (tmp_path / "names.txt").write_text("\ufeffé\nb\n\nc\nd\ne\n", encoding="utf-8")
    (tmp_path / "list.json").write_text('["é", "b", "c", "d", "e"]', encoding="utf-8")
    (tmp_path / "dict.json").write_text('{"1": "b", "0": "é", "2": "c", "3": "d", "4": "e"}', encoding="utf-8")
    for labels in ("ébcde", tmp_path / "names.txt", tmp_path / "list.json", tmp_path / "dict.json"):
        assert labels_of(load_checkpoint(weights, labels=labels)) == "ébcde"
    with pytest.raises(ConfigError, match="got 2, but the model has 5"):
        load_checkpoint(weights, labels=["a", "b"])
    with pytest.raises(ConfigError, match="cannot be read as labels"):
        load_checkpoint(weights, labels=tmp_path / "missing.txt")


def test_package_is_light() -> None:
    """`edgevit.model` does not import torch before one of its names is used."""
    code = "import sys, edgevit.model as m; assert 'torch' not in sys.modules; m.Vit; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- timm's config.json --------------------------------------------------------------------------------------------------------

ARCHITECTURES = json.loads((Path(__file__).parent / "fixtures" / "timm_architectures.json").read_text())["models"]


def test_activation_and_epsilon_of_every_timm_architecture() -> None:
    """What timm's own entry points pass to their models, where they are plain ViTs."""
    plain = 0
    for name, (activation, eps) in ARCHITECTURES.items():
        settings = TimmConfig.of({"architecture": name})
        try:
            notes = settings.check("x")
        except CheckpointError:
            continue
        if activation != "silu" and not name.startswith("beit3"):  # gated MLPs, more norms: refused by their keys
            assert notes == (["architecture: " + repr(name) + " is not known here; read by its keys as a plain ViT"]
                             if name.startswith("aimv2") else []), name  # fmt: skip
            assert (settings.activation(), settings.norm_eps()) == (activation, eps), name
            plain += 1
    assert plain > 140


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "vit_base_patch16_rpn_224"}, "no plain ViT"),
        ({"architecture": "vit_small_patch16_parallel_18x2_224"}, "no plain ViT"),
        ({"model_args": {"norm_layer": "rmsnorm"}}, "asks for the norm 'rmsnorm'; edgevit knows LayerNorm"),
        ({"model_args": {"pool_include_prefix": True}, "global_pool": "avg"}, "mean over prefix tokens, too"),
        ({"model_args": {"block_fn": "ParallelScalingBlock"}}, "sets block_fn"),
        ({"model_args": {"depth_scale": 2}}, "sets 'depth_scale' .* unknown to edgevit"),
        ({"model_args": {"global_pool": "avgmax"}}, "the pooling 'avgmax'"),
    ],
)
def test_timm_settings_that_change_the_model(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Never passed over."""
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder(ref.TimmVit(), tmp_path, {**TIMM_CONFIG, **change}))


def test_timm_settings_that_change_nothing(tmp_path: Path) -> None:
    args = {
        "drop_path_rate": 0.1,
        "qk_norm": False,
        "norm_layer": None,
        "weight_init": "jax",
        "num_heads": 2,
        "act_layer": "GELU",
    }
    assert load_checkpoint(folder(ref.TimmVit(), tmp_path, {**TIMM_CONFIG, "model_args": args})).notes == (
        "labels: the checkpoint names none; classes go by number, pass --labels to change",
    )


def test_timm_defaults_where_its_config_is_silent(tmp_path: Path) -> None:
    """`timm.data.resolve_data_config`: bicubic, 0.875 from the centre, ImageNet's mean and std."""
    config = {"architecture": "vit_tiny_patch8_32", "pretrained_cfg": {"input_size": [3, 32, 32]}}
    contract = load_checkpoint(folder(ref.TimmVit(), tmp_path, config)).preprocessing
    assert (contract.mode, contract.resize, contract.interpolation) == ("shortest", (36, 36), "cubic")
    assert (contract.mean, contract.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_older_timm_config(tmp_path: Path) -> None:
    """Before timm 0.9 config.json was the pretrained_cfg itself, and its labels were called so."""
    config = {
        "architecture": "vit_tiny_patch8_32",
        **TIMM_CONFIG["pretrained_cfg"],
        "labels": list("vwxyz"),
        "global_pool": "token",
    }
    checkpoint = load_checkpoint(folder(ref.TimmVit(), tmp_path, config))
    assert (checkpoint.preprocessing.resize, checkpoint.labels) == ((35, 35), tuple("vwxyz"))


def test_timm_settings_come_before_a_processor(tmp_path: Path) -> None:
    """transformers, too, reads a timm model's preprocessing from config.json."""
    checkpoint = load_checkpoint(folder(ref.TimmVit(), tmp_path, TIMM_CONFIG, {**PROCESSOR, "size": 64}))
    assert (checkpoint.preprocessing.size, checkpoint.sized_by) == ((32, 32), "config.json")


def test_timm_dynamic_size(tmp_path: Path) -> None:
    """Only a model that takes any size is fed the recommended one."""
    pretrained = {**TIMM_CONFIG["pretrained_cfg"], "input_size": [3, 48, 48], "test_input_size": [3, 64, 64]}
    for dynamic, size in ((True, (48, 48)), (False, (32, 32))):
        config = {**TIMM_CONFIG, "pretrained_cfg": pretrained, "model_args": {"img_size": 32, "dynamic_img_size": dynamic}}
        checkpoint = load_checkpoint(folder(ref.TimmVit(), tmp_path, config))
        assert checkpoint.model.config.image_size == checkpoint.preprocessing.size == size
        assert any("64x64 for tests" in note for note in checkpoint.notes)


def test_rms_norm_by_its_keys(tmp_path: Path) -> None:
    """An RMSNorm has no bias; the line says so, not that a key is missing."""
    state = {key: value for key, value in ref.TimmVit().state_dict().items() if "norm" not in key or key.endswith("weight")}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="an RMSNorm, or a LayerNorm without bias"):
        load_checkpoint(tmp_path / "w.safetensors")


# --- transformers' config.json ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "ijepa"}, "model_type 'ijepa'"),
        ({"num_hidden_layers": 1}, "num_hidden_layers 1, the weights say 2"),
        ({"qkv_bias": False}, "qkv_bias False, the weights say True"),
        ({"hidden_size": 64}, "hidden_size 64"),
        ({"intermediate_size": 64}, "intermediate_size 64"),
        ({"hidden_act": "gelu_10"}, "'gelu_10'"),
    ],
)
def test_hugging_face_settings_of_another_model(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """transformers would go by config.json, and drop what does not fit."""
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder(ref.HfVit(), tmp_path, {**HF_CONFIG, **change}, PROCESSOR))


def test_a_limit_to_the_longest_side_is_noted(tmp_path: Path) -> None:
    processor = {**PROCESSOR, "size": {"shortest_edge": 32, "longest_edge": 40}}
    notes = load_checkpoint(folder(ref.HfVit(), tmp_path, HF_CONFIG, processor)).notes
    assert any("its limit to the other side is left out" in note for note in notes)


def test_an_unknown_processor_is_noted(tmp_path: Path) -> None:
    processor = {**PROCESSOR, "image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875}
    notes = load_checkpoint(folder(ref.HfVit(), tmp_path, HF_CONFIG, processor)).notes
    assert any("ConvNextImageProcessor is not known here" in note for note in notes)
    assert any("crop_pct" in note for note in notes)


def test_where_the_size_comes_from(tmp_path: Path) -> None:
    """By the user, the processor, config.json or the weights."""
    processor = folder(ref.HfVit(), tmp_path, HF_CONFIG, PROCESSOR)
    assert load_checkpoint(processor).sized_by == "preprocessor_config.json"
    assert load_checkpoint(processor, image_size=32).sized_by == "--image-size"
    (tmp_path / "preprocessor_config.json").unlink()
    assert load_checkpoint(processor).sized_by == "config.json"
    (tmp_path / "config.json").unlink()
    assert load_checkpoint(processor, heads=4).sized_by == "the weights' positions"
