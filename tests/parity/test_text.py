"""Classes given as text: the towers of the installed transformers and open_clip, and what both libraries make of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")
pytest.importorskip("open_clip")

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from edgevit.errors import CheckpointError, ConfigError
from edgevit.model import load_checkpoint
from edgevit.textclasses import TextSource, read_embeddings
from tests.parity.conftest import images_of, lively, picture
from tests.parity.towers import OPEN, OPEN_TEXT, TOWER, Real, of_open_clip, towers

NAMES, PROMPTS = ("crack", "scratch", "fine"), ("a photo of a {}", "the {} there")
TOLERANCE = 1e-5
REAL = towers()


def saved(real: Real, folder: Path) -> Path:
    real.save(folder)
    return folder


def error_of(real: Real, checkpoint) -> float:
    images = images_of(checkpoint.model)
    wanted = real.logits(images, real.texts(NAMES, PROMPTS))
    return float((checkpoint.model(images) - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", [name for name in REAL if name != "open_clip_siglip_tower" and name != "open_clip_eva_tower"])
@torch.inference_mode()
def test_logits(name: str, tmp_path: Path) -> None:
    """By the text tower that lies beside the image tower."""
    checkpoint = load_checkpoint(saved(REAL[name], tmp_path / "tower"), texts=TextSource(classes=NAMES, prompts=PROMPTS))
    assert checkpoint.labels == NAMES
    assert error_of(REAL[name], checkpoint) < TOLERANCE
    assert not any(note.startswith("labels:") for note in checkpoint.notes)


@torch.inference_mode()
def test_timms_towers(tmp_path: Path) -> None:
    """Inside open_clip, by embeddings: a linear projection, the trunk's own head, attention pooling."""
    base = {"embed_dim": 12, "text_cfg": {**OPEN_TEXT, "width": 16}}
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
    others = {name: REAL[name] for name in ("open_clip_siglip_tower", "open_clip_eva_tower")}
    for kind, pool, proj in (("vit_base_patch16_224", "", "linear"), ("vit_pe_core_small_patch16_384", "map", "")):
        vision = {"image_size": 32, "timm_model_name": kind, "timm_pool": pool, "timm_proj": proj}
        others[kind] = of_open_clip({**base, "vision_cfg": vision}, small=small)
    for name, real in others.items():
        folder = saved(real, tmp_path / name)
        classes = TextSource(embeddings=folder / "e.npz")
        np.savez(folder / "e.npz", embeddings=real.texts(NAMES, PROMPTS).numpy(), labels=np.array(NAMES))
        assert error_of(real, load_checkpoint(folder, texts=classes)) < TOLERANCE, name


@torch.inference_mode()
def test_layer_scale_and_a_file_of_openais_keys(tmp_path: Path) -> None:
    """A file alone tells neither its activation nor its heads of other than 64."""
    real = of_open_clip({"embed_dim": 12, "vision_cfg": {**OPEN, "ls_init_value": 0.1}, "text_cfg": OPEN_TEXT})
    checkpoint = load_checkpoint(saved(real, tmp_path / "ls"), texts=TextSource(classes=NAMES, prompts=PROMPTS))
    assert error_of(real, checkpoint) < TOLERANCE
    vision, text = {**OPEN, "width": 64, "head_width": 64}, {**OPEN_TEXT, "width": 64, "heads": 1}
    real = of_open_clip({"embed_dim": 12, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True})
    weights = {name: value for name, value in real.model.state_dict().items() if name != "attn_mask"}
    torch.save(weights, tmp_path / "clip.pt")
    texts = TextSource(classes=NAMES, prompts=PROMPTS)
    with pytest.raises(CheckpointError, match="do not tell their activation"):
        load_checkpoint(tmp_path / "clip.pt", texts=texts)
    assert error_of(real, load_checkpoint(tmp_path / "clip.pt", texts=texts, activation="quick_gelu")) < TOLERANCE
    torch.save(weights | {"context_length": torch.tensor(12), "vocab_size": torch.tensor(9)}, tmp_path / "openai.pt")
    assert error_of(real, load_checkpoint(tmp_path / "openai.pt", texts=texts)) < TOLERANCE


@torch.inference_mode()
def test_an_image_tower_alone(tmp_path: Path) -> None:
    """``CLIPVisionModelWithProjection``, with the text tower of another folder, or embeddings, whose scale is assumed."""
    real = REAL["huggingface_clip_tower"]
    whole = saved(real, tmp_path / "whole")
    config = transformers.CLIPVisionConfig(**TOWER, projection_dim=12)
    tower = lively(transformers.CLIPVisionModelWithProjection(config))
    tower.load_state_dict({key: value for key, value in real.model.state_dict().items() if key.startswith("vis")})
    tower.save_pretrained(tmp_path / "tower")
    with pytest.raises(CheckpointError, match="holds no text tower"):
        load_checkpoint(tmp_path / "tower", texts=TextSource(classes=NAMES))
    by_other = load_checkpoint(tmp_path / "tower", texts=TextSource(classes=NAMES, prompts=PROMPTS, model=whole))
    assert error_of(real, by_other) < TOLERANCE
    np.savez(tmp_path / "e.npz", embeddings=real.texts(NAMES, PROMPTS).numpy(), labels=np.array(NAMES))
    alone = load_checkpoint(tmp_path / "tower", texts=TextSource(embeddings=tmp_path / "e.npz"))
    assert alone.text.scale == 100.0
    assert any("took 100" in note for note in alone.notes)
    images = images_of(alone.model)
    torch.testing.assert_close(
        alone.model(images) * real.model.logit_scale.exp() / 100, by_other.model(images), rtol=0, atol=1e-4
    )
    plain = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TOWER))
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="the projection into the space of texts"):
        load_checkpoint(tmp_path / "plain", texts=TextSource(embeddings=tmp_path / "e.npz"))


def test_without_a_tokenizer(tmp_path: Path) -> None:
    folder = saved(REAL["huggingface_clip_tower"], tmp_path / "tower")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, texts=TextSource(classes=NAMES))
    assert "\n" not in str(caught.value)
    assert "tokenizer" in str(caught.value)


@pytest.mark.parametrize(("source", "why"), [
    (TextSource(classes=("crack",)), "one class by itself"),
    (TextSource(classes=("crack", "crack")), "two classes are called"),
    (TextSource(classes=NAMES, prompts=("a photo",)), "write {} where the class stands"),
    (TextSource(classes=()), "name at least two"),
])  # fmt: skip
def test_what_is_no_classes(source: TextSource, why: str, tmp_path: Path) -> None:
    folder = saved(REAL["huggingface_clip_tower"], tmp_path / "tower")
    with pytest.raises(ConfigError, match=why):
        load_checkpoint(folder, texts=source)


def test_from_text_to_a_bundle_with_other_classes(tmp_path: Path) -> None:
    """By the commands: built with one set of classes, given another; and the same as if it had been built with that."""
    folder, photos = saved(REAL["huggingface_clip_tower"], tmp_path / "tower"), tmp_path / "photos"
    photos.mkdir()
    for i in range(24):
        picture(60, 80, i).save(photos / f"{i:02d}.png")

    def edgevit(*arguments: object) -> str:
        code = [sys.executable, "-c", "from edgevit.cli import main; main()", *map(str, arguments)]
        done = subprocess.run(code, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    how = ("--data", photos, "--eval-limit", 8, "--prompt", "a photo of a {}", "--no-cache")
    edgevit("build", folder, "--classes", "crack, wall", *how, "-o", "first")
    edgevit("embed", folder, "--classes", "crack, scratch, fine", "--prompt", "a photo of a {}", "-o", "e.npz")
    assert read_embeddings(tmp_path / "e.npz").labels == NAMES
    edgevit("classes", "first", "--set", "e.npz", "-o", "second")
    edgevit(
        "classes", "first", "--set", "crack, scratch, fine", "--text-model", folder, "--prompt", "a photo of a {}", "-o", "third"
    )
    edgevit("build", folder, "--classes", "crack, scratch, fine", *how, "-o", "built")
    for name in ("model.onnx", "reference.onnx"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "third" / name).read_bytes()
    assert (tmp_path / "second/reference.onnx").read_bytes() == (tmp_path / "built/reference.onnx").read_bytes()
    assert json.loads((tmp_path / "second/manifest.json").read_text())["labels"] == list(NAMES)


def test_the_guides_commands(tmp_path: Path) -> None:
    """docs/text.md as it stands, but for the camera."""
    guide = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
    saved(REAL["huggingface_clip_tower"], tmp_path / "clip")
    for folder in ("frames", "photos"):
        (tmp_path / folder).mkdir()
        for i in range(12):
            picture(60, 80, i).save(tmp_path / folder / f"{i:02d}.png")
    picture(60, 80, 3).save(tmp_path / "query.jpg")
    blocks = re.findall(r"```(sh|python)\n(.*?)```", guide, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    commands = [line.replace("run clip.edgevit 0", "run clip.edgevit test://?frames=5 --headless") for line in lines
                if line.startswith("edgevit ")]  # fmt: skip
    assert len(commands) == 7
    script = "import shlex, sys; from edgevit.cli import main; main(shlex.split(sys.argv[1])[1:])"
    for command in commands:
        done = subprocess.run([sys.executable, "-c", script, command], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    (search,) = (block for kind, block in blocks if kind == "python")
    done = subprocess.run([sys.executable, "-c", search], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split("'")[1] == "03.png", done.stderr


def test_a_text_tower_that_is_not_whole(tmp_path: Path) -> None:
    """Its config is there and its weights are not: transformers would make up random ones."""
    folder = saved(REAL["huggingface_clip_tower"], tmp_path / "tower")
    weights = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in weights.items() if "text_model.encoder" not in key}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(CheckpointError, match="holds no text tower"):
        load_checkpoint(folder, texts=TextSource(classes=NAMES))
