"""Folders as people have them: a trainer's output, shards, adapters, one file of an unusual name, and what is no model at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from tests.model import references as ref
from tests.model.test_checkpoint_files import refusal
from tests.model.test_checkpoint_settings import HF_CONFIG, PROCESSOR, folder


def trainer_output(where: Path, *steps: int, best: int | None = None) -> Path:
    """What transformers' Trainer leaves: checkpoint-N folders with different weights, and the best one's name in each state."""
    for step in steps:
        path = where / f"checkpoint-{step}"
        path.mkdir(parents=True)
        folder(ref.randomise(ref.HfVit(), seed=step), path, HF_CONFIG)
        state = {"best_model_checkpoint": f"/home/them/out/checkpoint-{best}" if best else None}
        (path / "trainer_state.json").write_text(json.dumps(state))
        torch.save({}, path / "optimizer.pt")
    (where / "runs").mkdir()
    return where


def head_of(step: int) -> torch.Tensor:
    return ref.randomise(ref.HfVit(), seed=step).state_dict()["classifier.weight"]


def test_the_best_checkpoint_of_a_trainer(tmp_path: Path) -> None:
    """By trainer_state.json, whose paths are of another machine; the others are named."""
    checkpoint = load_checkpoint(trainer_output(tmp_path / "out", 90, 500, 1000, best=500))
    assert torch.equal(checkpoint.model.head.weight, head_of(500))
    expected = "weights: took checkpoint-500, the best by trainer_state.json; others: checkpoint-90, checkpoint-1000"
    assert expected in checkpoint.notes


def test_checkpoints_without_a_best_one(tmp_path: Path) -> None:
    """Guessing between them would be silent; the line names them, in the order of their steps, and the next command."""
    message = refusal(trainer_output(tmp_path / "out", 1000, 90, 500))
    assert "with checkpoint-90, checkpoint-500, checkpoint-1000;" in message
    assert message.endswith("Name one: " + str(tmp_path / "out" / "checkpoint-1000"))


def test_a_best_checkpoint_that_is_gone(tmp_path: Path) -> None:
    """save_total_limit deletes checkpoints; a path in the state never leads out of the folder."""
    out = trainer_output(tmp_path / "out", 90, 500, best=300)
    (out / "checkpoint-500" / "trainer_state.json").write_text('{"best_model_checkpoint": "../../elsewhere"}')
    assert "names no best one" in refusal(out)


def test_the_only_checkpoint_of_a_trainer(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(trainer_output(tmp_path / "out", 90))
    assert torch.equal(checkpoint.model.head.weight, head_of(90))
    assert any("the only checkpoint" in note for note in checkpoint.notes)


def test_a_saved_model_comes_before_its_checkpoints(tmp_path: Path) -> None:
    """trainer.save_model() writes the chosen one into the output folder itself."""
    out = trainer_output(tmp_path / "out", 90, 500)
    folder(ref.randomise(ref.HfVit(), seed=7), out, HF_CONFIG, PROCESSOR)
    assert torch.equal(load_checkpoint(out).model.head.weight, head_of(7))


@pytest.mark.parametrize("nested", [False, True])
def test_the_processor_of_the_output_folder(nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint without one is read with the one above it, also from within."""
    out = trainer_output(tmp_path / "out", 90)
    name = "processor_config.json" if nested else "preprocessor_config.json"
    (out / name).write_text(json.dumps({"image_processor": PROCESSOR} if nested else PROCESSOR))
    monkeypatch.chdir(out / "checkpoint-90")
    for path in (out / "checkpoint-90", Path()):
        checkpoint = load_checkpoint(path)
        assert checkpoint.preprocessing.std == (0.25,) * 3
        assert f"preprocessing: took {name} of out; checkpoint-90 has none" in checkpoint.notes


def test_a_processor_within_a_processor_config(tmp_path: Path) -> None:
    """transformers 5 may save it inside, and then prefers it."""
    path = folder(ref.HfVit(), tmp_path, HF_CONFIG, {**PROCESSOR, "image_std": [0.1] * 3})
    (path / "processor_config.json").write_text(json.dumps({"image_processor": PROCESSOR}))
    checkpoint = load_checkpoint(path)
    assert checkpoint.preprocessing.std == (0.25,) * 3
    assert checkpoint.sized_by == "processor_config.json"


# --- no processor ----------------------------------------------------------------------------------------------------------

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# transformers 5.24: image_mean, image_std, resample, size and crop_size of the class that AutoImageProcessor maps each to.
DEFAULTS = {
    "ViTImageProcessor": (lambda: ref.HfVit(), ((0.5,) * 3, (0.5,) * 3), "squash", (32, 32), "linear"),
    "DeiTImageProcessor": (lambda: ref.HfVit(distilled=True), ((0.5,) * 3, (0.5,) * 3), "squash", (37, 37), "cubic"),
    "BitImageProcessor": (lambda: ref.HfDinov2(), CLIP, "shortest", (32, 32), "cubic"),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_transformers_defaults_without_a_processor(name: str, tmp_path: Path) -> None:
    """At the weights' own size, with a note that names the class, its values and the options."""
    build, values, mode, box, interpolation = DEFAULTS[name]
    checkpoint = load_checkpoint(folder(build(), tmp_path, HF_CONFIG))
    contract = checkpoint.preprocessing
    assert (contract.mean, contract.std) == values
    assert (contract.size, contract.mode, contract.resize, contract.interpolation) == ((32, 32), mode, box, interpolation)
    (note,) = [note for note in checkpoint.notes if note.startswith("preprocessing")]
    assert f"took transformers' default for it, {name}: " in note
    assert "--mean" in note


@pytest.mark.parametrize("model", [ref.HfDinov2, ref.Dinov2])
def test_dinov2_without_a_processor_is_used_at_224(model: Any, tmp_path: Path) -> None:
    """Its position table is for 518 pixels, the last stage of its pretraining; nobody feeds it that."""
    reference = model(patch=14, grid=37)
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    checkpoint = load_checkpoint(tmp_path / "w.safetensors", heads=2)
    assert checkpoint.model.config.image_size == checkpoint.preprocessing.size == (224, 224)
    assert any("--image-size 518 takes that" in note for note in checkpoint.notes)
    assert load_checkpoint(tmp_path / "w.safetensors", heads=2, image_size=518).model.config.image_size == (518, 518)


# --- shards ----------------------------------------------------------------------------------------------------------------


def shards(where: Path, suffix: str = ".safetensors", seed: int = 5) -> Path:
    """A folder with a model in two files and their index."""
    reference = ref.randomise(ref.HfVit(), seed=seed)
    state, table = reference.state_dict(), {}
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    for index, keys in enumerate((list(state)[::2], list(state)[1::2]), 1):
        name = f"{stem}-{index:05d}-of-00002{suffix}"
        part = {key: state[key].clone() for key in keys}
        save_file(part, where / name) if suffix == ".safetensors" else torch.save(part, where / name)
        table |= dict.fromkeys(keys, name)
    (where / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": table}))
    (where / "config.json").write_text(json.dumps(HF_CONFIG))
    (where / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return where


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_one_model(suffix: str, tmp_path: Path) -> None:
    """By folder, by index, and by one of them, with their folder's settings."""
    path = shards(tmp_path, suffix)
    index, part = next(path.glob("*.index.json")), sorted(path.glob("*-of-*"))[1]
    for given in (path, index, part):
        checkpoint = load_checkpoint(given)
        assert torch.equal(checkpoint.model.head.weight, head_of(5))
        assert checkpoint.labels == ("a", "b", "c", "d", "e")
    assert any(f"{part.name} is a part of a model" in note for note in checkpoint.notes)


def test_the_digest_of_shards(tmp_path: Path) -> None:
    """Every one of them counts."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = shards(tmp_path / "a"), shards(tmp_path / "b", seed=6)
    digest = load_checkpoint(first).digest
    assert digest != load_checkpoint(second).digest
    last = sorted(second.glob("*-of-*"))[1]
    last.write_bytes((first / last.name).read_bytes())
    assert load_checkpoint(second).digest not in (digest, "")


def test_a_missing_shard(tmp_path: Path) -> None:
    gone = sorted(shards(tmp_path).glob("*-of-*"))[0]
    gone.unlink()
    assert f"{gone}: missing (1 of 2 shards)" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "c:\\x.bin", "config.json"])
def test_shards_that_lie_elsewhere(name: str, tmp_path: Path) -> None:
    """An index cannot lead out of its folder, or to what are no weights."""
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "names a file outside its folder, or no weights" in refusal(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_without_shards(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert "names no shards" in refusal(tmp_path)


def test_shards_that_overlap(tmp_path: Path) -> None:
    first, second = sorted(shards(tmp_path).glob("*-of-*"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(CheckpointError, match="no shard of one model"):
        load_checkpoint(tmp_path)


# --- other folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_adapters(name: str, tmp_path: Path) -> None:
    """A LoRA alone, by folder and by file: the base model is named, and how to merge them."""
    save_file({"base_model.model.vit.lora_A.weight": torch.zeros(2, 2)}, tmp_path / name)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "google/vit-base-patch16-224"}')
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(CheckpointError, match=r"an adapter \(LoRA\), which changes google/vit-base.*merge_and_unload"):
            load_checkpoint(path)


@pytest.mark.parametrize("name", ["best.pth", "weights.safetensors", "last.ckpt", "pytorch_model.pth"])
def test_one_file_of_any_name(name: str, tmp_path: Path) -> None:
    """The only weights in a folder, beside what a trainer keeps; read with the folder's settings."""
    state = ref.randomise(ref.HfVit(), seed=5).state_dict()
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(state, tmp_path / name)
    for other in ("optimizer.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin", "scheduler.pt"):
        torch.save({}, tmp_path / other)
    (tmp_path / "config.json").write_text(json.dumps(HF_CONFIG))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.labels == ("a", "b", "c", "d", "e")
    torch.save(state, tmp_path / "another.pt")
    if name != "pytorch_model.pth":
        assert "another.pt" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("pytorch_model_fsdp_0/__0_0.distcp", "accelerate merge-weights"),
        ("global_step9/mp_rank_00_model_states.pt", "zero_to_fp32.py"),
    ],
)
def test_checkpoints_in_parts_of_other_kinds(file: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-9" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert expected in refusal(tmp_path / "checkpoint-9")
