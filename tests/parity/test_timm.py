"""Every plain ViT of the installed timm, shrunk: edgevit computes its logits, or refuses it; nothing in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

timm = pytest.importorskip("timm")

import torch
from timm.models import save_for_hf

from edgevit.errors import CheckpointError, ConfigError
from edgevit.model import load_checkpoint
from tests.parity.conftest import fed, images_of, lively, picture

TOLERANCE = 2e-4
# One small model of every other kind in timm that shares names with a plain ViT.
OTHERS = (
    "vit_tiny_r_s16_p8_224", "vit_relpos_small_patch16_224", "vit_srelpos_small_patch16_224", "vit_relpos_medium_patch16_rpn_224",
    "eva02_tiny_patch14_224", "vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_224", "vit_small_patch16_rope_ape_224",
    "vit_small_patch16_dinov3", "vit_pe_core_tiny_patch16_384", "cait_xxs24_224", "deit_tiny_distilled_patch16_224",
    "xcit_nano_12_p16_224", "swin_tiny_patch4_window7_224", "mvitv2_tiny", "crossvit_tiny_240", "vit_small_patch16_18x2_224",
    "vit_dwee_patch16_reg1_gap_256", "vit_pwee_patch16_reg1_gap_256", "pit_ti_224", "levit_128s", "tnt_s_legacy_patch16_224",
    "convit_tiny", "efficientformer_l1", "poolformer_s12", "resnet18", "convnext_atto", "twins_svt_small", "visformer_tiny",
    "naflexvit_base_patch16_gap", "hiera_tiny_224", "mobilevit_xxs",
)  # fmt: skip
SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 5}


def plain_names() -> list[str]:
    return [name for module in ("vision_transformer", "deit") for name in timm.list_models(module=module)]


def saved(model, folder: Path, **model_args: object) -> Path:
    save_for_hf(model, str(folder), model_args=model_args, safe_serialization=True)
    return folder


@torch.inference_mode()
def error_of(model, folder: Path, **options: object) -> float:
    """Largest difference of a logit."""
    checkpoint = load_checkpoint(folder, **options)
    images = images_of(checkpoint.model)
    return float((model(images) - checkpoint.model(images)).abs().max())


def test_every_plain_vit(tmp_path: Path) -> None:
    """All entry points of VisionTransformer and DeiT with their own defaults: activation, epsilon, pooling, tokens, norms."""
    equal, refused = [], {}
    for name in plain_names():
        patch = 14 if "patch14" in name else 8 if "patch8" in name else 32 if "patch32" in name else 16
        try:
            model = lively(timm.create_model(name, img_size=4 * patch, patch_size=patch, **SMALL))
        except (TypeError, AssertionError, ValueError):
            continue  # this one cannot be shrunk so
        folder = saved(
            model, tmp_path / name, img_size=4 * patch, patch_size=patch, **{k: v for k, v in SMALL.items() if k != "num_classes"}
        )
        try:
            error = error_of(model, folder)
        except CheckpointError as refusal:
            refused[name] = str(refusal)
            continue
        assert error < TOLERANCE, f"{name}: {error}"
        equal.append(name)
    print(len(equal), "equal;", len(refused), "refused:", sorted(refused))
    assert len(equal) > 160
    others = ("rpn", "18x2", "_xp_", "dlittle", "dwee", "dpwee", "pwee", "test_vit4")
    assert [name for name in refused if not any(part in name for part in others)] == []


def test_every_eva(tmp_path: Path) -> None:
    """All entry points of timm's eva.py: EVA, EVA-02, DINOv3, RoPE ViTs, Perception Encoder, with their own defaults."""
    equal, refused = [], set()
    for name in timm.list_models(module="eva"):
        args = {"img_size": 56 if "patch14" in name else 64, "embed_dim": 64, "depth": 2, "num_heads": 2}
        try:
            model = lively(timm.create_model(name, num_classes=5, **args))
        except AssertionError:  # keys that several heads share, by block
            refused.add(name)
            continue
        try:
            error = error_of(model, saved(model, tmp_path / name, **args))
        except CheckpointError:
            refused.add(name)
            continue
        assert error < TOLERANCE, f"{name}: {error}"
        equal.append(name)
    print(len(equal), "equal;", len(refused), "refused:", sorted(refused))
    assert len(equal) > 55
    assert all("sapiens2" in name or "enormous" in name for name in refused)


NAMES = [name for name in timm.list_models() if name.startswith(("vit_", "deit", "eva02_", "beit"))]
OURS = ("vision_transformer", "deit", "eva", "beit")
"""Modules whose names are all tried by the tests around this."""


def test_names_of_other_modules_are_refused_in_a_line(tmp_path: Path) -> None:
    """Hybrids and relative positions of another kind: of 253 names 27."""
    others = [name for name in NAMES if timm.models.model_entrypoint(name).__module__.rpartition(".")[2] not in OURS]
    for name in others:
        try:
            model = timm.create_model(name, num_classes=5, embed_dim=64, depth=1, num_heads=1)
        except AssertionError:  # this one cannot be shrunk so
            model = timm.create_model(name, num_classes=5, depth=1)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved(model, tmp_path / name))
        assert "\n" not in str(caught.value)
        shutil.rmtree(tmp_path / name)
    print(len(NAMES), "names;", len(others), "of other modules refused")
    assert len(others) < 30


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
@pytest.mark.parametrize("name", timm.list_models(module="beit"))
def test_every_beit(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """Relative position bias, at the size that its tables are for, and at no other."""
    args = {"img_size": size, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2}
    model = lively(timm.create_model(name, num_classes=5, **args))
    saved(model, tmp_path, **args)
    assert error_of(model, tmp_path) < TOLERANCE
    with pytest.raises(ConfigError, match="relative position biases"):
        load_checkpoint(tmp_path, image_size=(128, 128))


@pytest.mark.parametrize("size", [(48, 48), (96, 96), (32, 96)])
@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3", "vit_small_patch16_rope_224",
                                  "vit_small_patch16_rope_mixed_224", "eva02_small_patch14_224", "vit_pe_core_small_patch16_384",
                                  "vit_medium_patch16_rope_reg1_gap_256"])  # fmt: skip
def test_rotary_positions_at_another_size(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """As a model of timm made for that size has them, absolute positions resampled as timm resamples them."""
    small = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    old = lively(timm.create_model(name, num_classes=5, img_size=64, patch_size=16, **small))
    new = timm.create_model(name, num_classes=5, img_size=size, patch_size=16, **small).eval()
    new.load_state_dict(timm.models.eva.checkpoint_filter_fn(old.state_dict(), new))
    saved(old, tmp_path, img_size=64, patch_size=16, **small)
    assert error_of(new, tmp_path, image_size=size) < TOLERANCE


OPTIONS = {
    "avg": {"global_pool": "avg"},
    "avg without fc_norm": {"global_pool": "avg", "fc_norm": False},
    "no class token": {"class_token": False, "global_pool": "avg"},
    "token with fc_norm": {"fc_norm": True},
    "registers": {"reg_tokens": 3},
    "registers without positions": {"reg_tokens": 4, "no_embed_class": True},
    "no_embed_class": {"no_embed_class": True},
    "no_embed_class, avg": {"no_embed_class": True, "global_pool": "avg", "class_token": False},
    "LayerScale": {"init_values": 0.1},
    "pre_norm": {"pre_norm": True},
    "no final norm": {"final_norm": False},
    "no qkv bias": {"qkv_bias": False},
    "no positions": {"pos_embed": "none"},
    "gelu_tanh": {"act_layer": "gelu_tanh"},
    "quick_gelu": {"act_layer": "quick_gelu"},
    "relu": {"act_layer": "relu"},
    "LayerNorm by name": {"norm_layer": "layernorm"},
    "LayerNormFp32": {"norm_layer": "layernormfp32"},
    "wide": {"img_size": (32, 80)},
    "wide, a square count": {"img_size": (32, 128)},
    "wide, a square with the token": {"img_size": (48, 80)},
    "mlp_ratio": {"mlp_ratio": 2.66667},
    "dropout": {"drop_rate": 0.1, "drop_path_rate": 0.1},
    "gray": {"in_chans": 1},
    "dynamic": {"dynamic_img_size": True},
    "map": {"global_pool": "map", "class_token": False},
    "map of patches": {"global_pool": "map"},
    "map of all tokens": {"global_pool": "map", "pool_include_prefix": True},
    "qk_norm": {"qk_norm": True},
    "scaled norms": {"scale_attn_norm": True, "scale_mlp_norm": True},
}  # fmt: skip
REFUSED = {
    "max": {"global_pool": "max"},
    "avgmax": {"global_pool": "avgmax"},
    "prefix pooling": {"global_pool": "avg", "pool_include_prefix": True},
    "silu": {"act_layer": "silu"},
    "rmsnorm": {"norm_layer": "rmsnorm"},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "vit_base_patch32_clip_224", "deit3_small_patch16_224"])
def test_options(name: str, arch: str, tmp_path: Path) -> None:
    args = {"img_size": 64, "patch_size": 16, **SMALL, **OPTIONS[name]}
    model = lively(timm.create_model(arch, **args))
    folder = saved(model, tmp_path, **{key: value for key, value in args.items() if key != "num_classes"})
    assert error_of(model, folder) < TOLERANCE


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_edgevit_has_not(name: str, tmp_path: Path) -> None:
    """One line that names the option."""
    args = {"img_size": 64, "patch_size": 16, **SMALL, **REFUSED[name]}
    model = lively(timm.create_model("vit_tiny_patch16_224", **args))
    folder = saved(model, tmp_path, **{key: value for key, value in args.items() if key != "num_classes"})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert "is missing" not in str(caught.value)


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_gap_224", "vit_base_patch32_siglip_gap_256",
                                  "vit_so400m_patch14_siglip_gap_224",
                                  "vit_so400m_patch16_siglip_gap_256", "vit_large_patch16_siglip_gap_256",
                                  "vit_large_patch16_siglip_gap_512", "vit_giantopt_patch16_siglip_gap_256"])  # fmt: skip
def test_siglip_activation(name: str, tmp_path: Path) -> None:
    """GELU, or its tanh form: the difference is small, so the tolerance is."""
    patch = 14 if "patch14" in name else 32 if "patch32" in name else 16
    model = lively(timm.create_model(name, img_size=4 * patch, mlp_ratio=4, **SMALL))
    saved(
        model, tmp_path, img_size=4 * patch, mlp_ratio=4, **{key: value for key, value in SMALL.items() if key != "num_classes"}
    )
    assert error_of(model, tmp_path) < 2e-5


@pytest.mark.parametrize("cfg", [
    {"input_size": (3, 64, 64), "crop_pct": 0.8, "interpolation": "bicubic"},
    {"input_size": (3, 64, 64), "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"},
    {"input_size": (3, 64, 64), "crop_pct": 0.8, "crop_mode": "border"},
    {"input_size": (3, 64, 64), "crop_pct": None, "interpolation": None, "mean": None, "std": None},
    {"input_size": (3, 64, 96), "crop_pct": 0.8},
])  # fmt: skip
def test_data_config(cfg: dict, tmp_path: Path) -> None:
    """Sizes, crop, mean and std are those of timm's own resolve_model_data_config; the pixels differ by resampling alone."""
    size = cfg["input_size"][1:]
    model = lively(timm.create_model("vit_tiny_patch16_224", img_size=size, **SMALL))
    model.pretrained_cfg = {**model.pretrained_cfg, **cfg}
    saved(model, tmp_path, img_size=size, **{key: value for key, value in SMALL.items() if key != "num_classes"})
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(loaded)
    transform = timm.data.create_transform(**data, is_training=False)
    checkpoint = load_checkpoint(tmp_path)
    image = picture(128, 160, 3) if cfg.get("crop_mode") else picture(150, 150, 3)
    expected, got = transform(image)[None], fed(checkpoint.preprocessing, image)
    assert expected.shape == got.shape
    assert float((expected - got).abs().mean()) < 0.02
    assert checkpoint.sized_by == "config.json"


def test_dynamic_size_is_the_recommended_one(tmp_path: Path) -> None:
    """A model that takes any size is fed timm's input_size, and interpolates its positions to it."""
    model = lively(timm.create_model("vit_tiny_patch16_224", img_size=64, dynamic_img_size=True, **SMALL))
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 96, 96)}
    saved(
        model,
        tmp_path,
        img_size=64,
        dynamic_img_size=True,
        **{key: value for key, value in SMALL.items() if key != "num_classes"},
    )
    data = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path}", pretrained=True))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.model.config.image_size == tuple(data["input_size"][1:])
    assert error_of(model, tmp_path) < TOLERANCE


@pytest.mark.parametrize("size", [(96, 96), (64, 96), (32, 32)])
def test_resampled_positions(size: tuple[int, int], tmp_path: Path) -> None:
    """As timm's checkpoint_filter_fn resamples them for a model of another size."""
    old = lively(timm.create_model("vit_tiny_patch16_224", img_size=128, **SMALL))
    torch.save(old.state_dict(), tmp_path / "w.pth")
    new = timm.create_model("vit_tiny_patch16_224", img_size=size, **SMALL)
    new.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(old.state_dict(), new))
    assert error_of(new.eval(), tmp_path / "w.pth", image_size=size) < TOLERANCE


@pytest.mark.parametrize("size", [(64, 96), (32, 128), (48, 80), (64, 128)])
@pytest.mark.parametrize("options", [{}, {"no_embed_class": True}, {"reg_tokens": 4}], ids=str)
def test_wide_state_dicts(size: tuple[int, int], options: dict, tmp_path: Path) -> None:
    """The size that the user gives and that fits exactly is the native one."""
    model = lively(
        timm.models.VisionTransformer(img_size=size, patch_size=16, embed_dim=64, depth=2, num_heads=1, num_classes=5, **options)
    )
    torch.save(model.state_dict(), tmp_path / "w.pth")
    assert error_of(model, tmp_path / "w.pth", image_size=size) < TOLERANCE


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("other", OTHERS)
def test_other_models_are_refused_or_right(other: str, with_config: bool, tmp_path: Path) -> None:
    """By config.json and by their keys alone: never a wrong result."""
    if not timm.is_model(other):
        pytest.skip("not in this timm")
    model = lively(timm.create_model(other, num_classes=5))
    saved(model, tmp_path)
    if not with_config:
        (tmp_path / "config.json").unlink()
    try:
        checkpoint = load_checkpoint(tmp_path, heads=None if with_config else 6 if "small" in other else 3)
    except (CheckpointError, ConfigError) as refusal:
        print(refusal)
        return
    images = images_of(checkpoint.model, 1)
    with torch.inference_mode():
        assert float((model(images) - checkpoint.model(images)).abs().max()) < TOLERANCE, other
