"""What a file may be: containers and prefixes that are opened, and bad input that gets one clear line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from edgevit.model.families.native import METADATA_KEY
from edgevit.model.reading.files import sha256
from tests.fuzz.limits import limited
from tests.model import references as ref
from tests.model.test_checkpoint import TIMM


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return ref.randomise(ref.TimmVit(), seed=5).state_dict()


def refusal(path: Path, **options: Any) -> str:
    """The message of the CheckpointError for ``path``: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def saved(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    path = folder / "w.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path


# --- containers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["state_dict", "model", "model_state_dict", "model_ema", "teacher", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.backbone."])
def test_containers_and_prefixes_are_opened(state, container: str | None, prefix: str, tmp_path: Path) -> None:
    """Training scripts wrap weights in many ways; the model is the same, whatever the folder is called."""
    path = tmp_path / "模型 é" / "best.pth"
    path.parent.mkdir()
    prefixed = {prefix + key: value for key, value in state.items()}
    torch.save({container: prefixed, "epoch": 3, "loss": torch.tensor(0.1)} if container else prefixed, path)
    model = load_checkpoint(path).model
    assert torch.equal(model.head.weight, state["head.weight"])


def test_averaged_weights_beside_the_model_are_noted(state, tmp_path: Path) -> None:
    """The average is taken, as timm's load_checkpoint does, and the option for the others is named."""
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "last.pth")
    notes = load_checkpoint(tmp_path / "last.pth").notes
    expected = "weights: took the averaged weights (EMA) in 'state_dict_ema', as timm does; --weights raw takes 'state_dict'"
    assert expected in notes


def test_counter_of_averaged_model_is_dropped(state, tmp_path: Path) -> None:
    """torch.optim.swa_utils.AveragedModel keeps n_averaged beside module.*."""
    torch.save({"n_averaged": torch.tensor(9), **{f"module.{k}": v for k, v in state.items()}}, tmp_path / "swa.pt")
    assert load_checkpoint(tmp_path / "swa.pt").family == "timm"


def test_head_outside_a_backbone(tmp_path: Path) -> None:
    """A classifier that wraps a DINOv2 backbone keeps its head beside ``backbone.``."""
    state = ref.randomise(ref.Dinov2(), seed=5).state_dict()
    wrapped = {key if key.startswith("linear_head") else f"backbone.{key}": value for key, value in state.items()}
    checkpoint = load_checkpoint(saved(wrapped, tmp_path))
    assert checkpoint.family == "dinov2"
    assert torch.equal(checkpoint.model.head.weight, state["linear_head.weight"])


def test_legacy_torch_files_and_digest(state, tmp_path: Path) -> None:
    """Files older than torch 1.6 are no zip archives; the digest is that of the file."""
    path = tmp_path / "old.bin"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(str(path)).digest == sha256(path)


# --- files that are no checkpoint --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text", "neither a safetensors nor a torch file"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "neither a safetensors nor a torch file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PK\x03\x04" + bytes(200), "damaged or truncated"),
        (b"\x80\x02" + bytes(200), "a pickle that is damaged"),
        (b"\xff\xff\xff\x07\x00\x00\x00\x00{" + bytes(200), "damaged or truncated"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{" + bytes(200), "neither a safetensors nor a torch file"),
    ],
    ids=["empty", "text", "jpg", "git lfs", "zip", "pickle", "long header", "huge header"],
)
def test_files_that_are_no_checkpoint(content: bytes, expected: str, tmp_path: Path) -> None:
    """Whatever the name says, the content decides."""
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert expected in refusal(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_files(state, name: str, share: float, tmp_path: Path) -> None:
    """An interrupted download."""
    path = tmp_path / name
    save_file(state, path) if name.endswith("safetensors") else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged" in refusal(path)


class Exploit:
    """A pickle that would run a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/edgevit-was-exploited"),))


@pytest.mark.parametrize("whole", [torch.nn.Linear(2, 2), {"state_dict": Exploit()}], ids=["whole model", "exploit"])
def test_pickles_that_need_code_are_refused(whole: Any, tmp_path: Path) -> None:
    """Nothing in a file is executed; the message says what to save instead."""
    torch.save(whole, tmp_path / "whole.pt")
    message = refusal(tmp_path / "whole.pt")
    assert "would run code" in message
    assert "torch.save(model.state_dict(), path)" in message
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Exploit()))
    refusal(tmp_path / "plain.pkl")
    assert not Path("/tmp/edgevit-was-exploited").exists()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    """The message names what was looked for."""
    assert "no such file" in refusal(tmp_path / "nothing.pt")
    assert "model.safetensors nor pytorch_model.bin" in refusal(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "names no shards" in refusal(tmp_path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3)], ids=["empty", "no tensors", "list", "tensor"])
def test_torch_files_without_weights(content: Any, tmp_path: Path) -> None:
    """A torch file that holds something else."""
    torch.save(content, tmp_path / "x.pt")
    assert "no named tensors" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_config(state, text: str, tmp_path: Path) -> None:
    """config.json beside the weights is not JSON, or not an object."""
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"config": {}, "preprocessing": {}, "labels": []}', "null"])
def test_damaged_native_metadata(state, text: str, tmp_path: Path) -> None:
    """The settings that edgevit saved were tampered with."""
    save_file(state, tmp_path / "w.safetensors", metadata={METADATA_KEY: text})
    assert "damaged" in refusal(tmp_path / "w.safetensors")


# --- weights that do not fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(state, value: float, tmp_path: Path) -> None:
    """A diverged training; the key is named."""
    state["blocks.1.mlp.fc1.weight"][3, 4] = value
    assert "'blocks.1.mlp.fc1.weight' holds NaN or infinite" in refusal(saved(state, tmp_path))


def test_missing_key(state, tmp_path: Path) -> None:
    """Named, with the shape that was expected."""
    del state["blocks.1.attn.proj.weight"]
    assert "'blocks.1.attn.proj.weight' of shape [128, 128] is missing" in refusal(saved(state, tmp_path))


def test_extra_key(state, tmp_path: Path) -> None:
    """A weight that nothing would use changes the result when left out."""
    state["adapter.weight"] = torch.zeros(3)
    assert "'adapter.weight' is no part of a timm ViT" in refusal(saved(state, tmp_path))


def test_wrong_shape(state, tmp_path: Path) -> None:
    """Named, with both shapes."""
    state["norm.weight"] = torch.zeros(64)
    assert "'norm.weight' has shape [64], expected [128]" in refusal(saved(state, tmp_path))


def test_integer_weights(state, tmp_path: Path) -> None:
    """A model that was quantized already."""
    state["blocks.0.mlp.fc1.weight"] = torch.zeros(256, 128, dtype=torch.int8)
    assert "torch.int8" in refusal(saved(state, tmp_path))


def test_distillation_head_without_its_token(state, tmp_path: Path) -> None:
    state.update({"head_dist.weight": torch.zeros(5, 128), "head_dist.bias": torch.zeros(5)})
    assert "do not go together" in refusal(saved(state, tmp_path))


def test_patches_that_are_not_square(state, tmp_path: Path) -> None:
    state["patch_embed.proj.weight"] = torch.zeros(128, 3, 8, 16)
    assert "8x16" in refusal(saved(state, tmp_path))


def test_multispectral_model(state, tmp_path: Path) -> None:
    state["patch_embed.proj.weight"] = torch.zeros(128, 12, 8, 8)
    assert "12 channels" in refusal(saved(state, tmp_path))


def test_gated_mlp_by_shape(state, tmp_path: Path) -> None:
    """timm's SwiGLUPacked has the names of a plain MLP; all blocks have it or none, and transformers' ViT never has."""
    state["blocks.0.mlp.fc2.weight"] = torch.zeros(128, 128)
    assert "SwiGLU" in refusal(saved(state, tmp_path))
    other = ref.randomise(ref.HfVit(), 0).state_dict()
    name = next(key for key in other if key.endswith("0.output.dense.weight") and "attention" not in key)
    other[name] = other[name][:, ::2].clone()
    assert "SwiGLU" in refusal(saved(other, tmp_path))


@pytest.mark.parametrize(
    ("model", "head"),
    [(ref.TimmVit, "head"), (ref.HfVit, "classifier"), (ref.Dinov2, "linear_head"), (ref.TorchvisionVit, "heads.head")],
)
def test_backbones_without_a_head(model: Any, head: str, tmp_path: Path) -> None:
    """Nothing to classify with; the message says where training is shown."""
    state = {key: value for key, value in model().state_dict().items() if not key.startswith(f"{head}.")}
    assert "no classification head" in refusal(saved(state, tmp_path), heads=2)


def test_dinov2_head_on_several_blocks(tmp_path: Path) -> None:
    """The four-block heads of the DINOv2 hub see five times the width."""
    state = ref.Dinov2().state_dict()
    state["linear_head.weight"] = torch.zeros(5, 5 * 128)
    assert "several blocks" in refusal(saved(state, tmp_path))


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("layers.0.blocks.0.attn.relative_position_bias_table", "Swin"),
        ("swin.embeddings.norm.weight", "Swin"),
        ("blocks.0.attn.relative_position_bias_table", "BEiT"),
        ("blocks.0.attn.q_bias", "BEiT"),
        ("blocks.0.gamma_1", "BEiT"),
        ("blocks.0.attn.inner_attn_ln.weight", "EVA-02"),
        ("rope_embed.periods", "rotary"),
        ("stages.0.blocks.0.conv_dw.weight", "ConvNeXt"),
        ("convnext.encoder.stages.0.layers.0.dwconv.weight", "ConvNeXt"),
        ("patch_embed.backbone.stem.conv.weight", "hybrid"),
        ("layer1.0.conv1.weight", "convolutional"),
        ("blocks.0.attn.qkv.lora_A.default.weight", "LoRA"),
        ("visual.transformer.resblocks.0.ln_1.weight", "CLIP"),
        ("vision_model.encoder.layers.0.mlp.fc1.weight", "CLIP"),
        ("decoder_blocks.0.norm1.weight", "autoencoder"),
        ("bert.encoder.layer.0.output.dense.weight", "not a ViT that edgevit knows; first keys: bert.encoder"),
    ],
)
def test_other_models_are_refused_by_name(key: str, kind: str, tmp_path: Path) -> None:
    """The key that gives a model away is named, and what it says."""
    message = refusal(saved({key: torch.zeros(2)}, tmp_path))
    assert kind in message
    assert key in message


def test_norms_of_queries_in_some_blocks_are_refused(state, tmp_path: Path) -> None:
    state["blocks.0.attn.q_norm.weight"] = torch.zeros(64)
    state["blocks.0.attn.q_norm.bias"] = torch.zeros(64)
    assert "attn.q_norm" in refusal(saved(state, tmp_path))


def test_timm_siglip_pools_by_attention(tmp_path: Path) -> None:
    """Real keys of timm's vit_base_patch16_siglip_224."""
    state = {key: torch.zeros(shape) for key, shape in TIMM["vit_base_patch16_siglip_224"].items()}
    config = load_checkpoint(saved(state, tmp_path)).model.config
    assert (config.pooling, config.pool_heads, config.class_token) == (("patch_attention",), 12, False)


def test_activation_that_edgevit_lacks(tmp_path: Path) -> None:
    """config.json's activation is named."""
    save_file(ref.HfVit().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"hidden_act": "silu", "num_attention_heads": 4}))
    with pytest.raises(CheckpointError, match="'silu'"):
        load_checkpoint(tmp_path)


STRANGE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a view of 3,000,000,000 values on 4 bytes": lambda _: torch.zeros(1).expand(3_000_000_000),
    "a tensor without values": lambda value: value.to("meta"),
    "a sparse tensor": lambda value: value.to_sparse(),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_tensors_without_all_their_values(kind: str, tmp_path: Path) -> None:
    """Before anything is made of them: 4 bytes can claim 12 GB."""
    state = ref.randomise(ref.HfVit(), seed=0).state_dict()
    key = "classifier.weight"
    torch.save(state | {key: STRANGE[kind](state[key])}, tmp_path / "m.pt")
    with limited(20, 2**30):
        message = refusal(tmp_path / "m.pt")
    assert f"{key!r} is {kind}" in message
