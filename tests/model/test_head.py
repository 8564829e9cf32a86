"""What a checkpoint's outputs mean, and what is said where it does not tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError, ConfigError
from edgevit.model import load_checkpoint, save_checkpoint
from edgevit.model.reading.head import loss_over_labels
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL
from tests.model import references as ref
from tests.model.test_checkpoint_settings import HF_CONFIG, PROCESSOR, folder


def hugging_face(where: Path, *, classes: int = 5, **config: object) -> Path:
    """A model folder whose head has so many outputs, random weights."""
    model = ref.randomise(ref.HfVit(), seed=1)
    state = model.state_dict()
    state["classifier.weight"], state["classifier.bias"] = (
        state["classifier.weight"][:classes],
        state["classifier.bias"][:classes],
    )
    folder(model, where, {**HF_CONFIG, **config}, PROCESSOR)
    save_file({key: value.clone() for key, value in state.items()}, where / "model.safetensors")
    return where


def notes_on_the_head(checkpoint) -> list[str]:
    return [note for note in checkpoint.notes if note.startswith("problem type")]


@pytest.mark.parametrize("problem_type", [SINGLE_LABEL, MULTI_LABEL])
def test_config_tells(problem_type: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(hugging_face(tmp_path, problem_type=problem_type))
    assert (checkpoint.problem_type, notes_on_the_head(checkpoint)) == (problem_type, [])


def test_nothing_told_is_a_softmax(tmp_path: Path) -> None:
    """As transformers' pipeline has it: softmax where problem_type is None and there are several labels."""
    checkpoint = load_checkpoint(hugging_face(tmp_path, problem_type=None))
    assert (checkpoint.problem_type, notes_on_the_head(checkpoint)) == (SINGLE_LABEL, [])


def test_user_tells(tmp_path: Path) -> None:
    path = hugging_face(tmp_path)
    asked = load_checkpoint(path, problem_type=MULTI_LABEL)
    assert (asked.problem_type, notes_on_the_head(asked)) == (MULTI_LABEL, [])
    hugging_face(tmp_path, problem_type=MULTI_LABEL)
    other = load_checkpoint(path, problem_type=SINGLE_LABEL)
    assert other.problem_type == SINGLE_LABEL
    assert notes_on_the_head(other) == [f"problem type: {SINGLE_LABEL} as asked for, not {MULTI_LABEL} of config.json"]


@pytest.mark.parametrize("stated", ["regression", "ordinal", 3, ["multi_label_classification"]])
def test_heads_of_another_kind_are_refused_with_the_next_step(stated: object, tmp_path: Path) -> None:
    path = hugging_face(tmp_path, problem_type=stated)
    with pytest.raises(CheckpointError, match=f"problem_type .*--problem-type {SINGLE_LABEL} or {MULTI_LABEL}") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert load_checkpoint(path, problem_type=MULTI_LABEL).problem_type == MULTI_LABEL


def test_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown problem type 'multilabel'\. Known: "):
        load_checkpoint(hugging_face(tmp_path), problem_type="multilabel")


@pytest.mark.parametrize("stated", [None, SINGLE_LABEL])
def test_one_output_is_one_label_with_a_note(stated: str | None, tmp_path: Path) -> None:
    """transformers' pipeline takes the sigmoid of one output, whatever problem_type says, regression aside."""
    checkpoint = load_checkpoint(hugging_face(tmp_path, classes=1, problem_type=stated, id2label={"0": "smoke"}))
    assert (checkpoint.problem_type, checkpoint.labels) == (MULTI_LABEL, ("smoke",))
    assert "one output" in notes_on_the_head(checkpoint)[0]


def test_one_output_stated_to_be_a_label_needs_no_note(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(hugging_face(tmp_path, classes=1, problem_type=MULTI_LABEL, id2label={"0": "smoke"}))
    assert (checkpoint.problem_type, notes_on_the_head(checkpoint)) == (MULTI_LABEL, [])


def test_one_output_with_two_names_is_two_classes(tmp_path: Path) -> None:
    """softmax((0, x)) is (1 - sigmoid(x), sigmoid(x)), against torch on the one output."""
    path = hugging_face(tmp_path, classes=1, problem_type=None, id2label={"0": "LABEL_0"})
    one = load_checkpoint(path, problem_type=MULTI_LABEL)
    two = load_checkpoint(path, labels=("negative", "positive"))
    assert (two.problem_type, two.labels, two.model.config.classes) == (SINGLE_LABEL, ("negative", "positive"), 2)
    assert "'positive' against 'negative'" in notes_on_the_head(two)[0]
    assert not [note for note in two.notes if note.startswith("labels")], "they were given"
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32))
    with torch.no_grad():
        wanted, found = torch.sigmoid(one.model(images))[:, 0], torch.softmax(two.model(images), 1)
    assert (found[:, 1] - wanted).abs().max() < 1e-6
    assert load_checkpoint(path, labels=("negative", "positive"), problem_type=SINGLE_LABEL).labels == two.labels


def test_one_class_of_one_is_no_choice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"softmax is always 1.*--labels"):
        load_checkpoint(hugging_face(tmp_path, classes=1), problem_type=SINGLE_LABEL, labels=("smoke",))


def test_bare_weights_of_one_output(tmp_path: Path) -> None:
    state = ref.TimmVit().state_dict()
    state["head.weight"], state["head.bias"] = state["head.weight"][:1].clone(), state["head.bias"][:1].clone()
    save_file(state, tmp_path / "w.safetensors")
    checkpoint = load_checkpoint(tmp_path / "w.safetensors")
    assert checkpoint.problem_type == MULTI_LABEL
    assert "one output" in notes_on_the_head(checkpoint)[0]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"args": {"bce_loss": True, "lr": 0.1}}, "bce_loss=True"),
        ({"args": {"bce_loss": False, "lr": 0.1}}, ""),
        ({"hyper_parameters": {"criterion": "BCEWithLogitsLoss"}}, "criterion=BCEWithLogitsLoss"),
        ({"config": {"loss": "binary_cross_entropy"}}, "loss=binary_cross_entropy"),
        ({"args": {"loss": "cross_entropy"}}, ""),
        ({"args": "bce"}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_what_training_settings_say(content: object, wanted: str) -> None:
    assert loss_over_labels(content) == wanted


def test_binary_cross_entropy_is_told_and_not_taken_for_several_labels(tmp_path: Path) -> None:
    """timm's --bce-loss trains single-label models."""
    torch.save({"state_dict": ref.TimmVit().state_dict(), "args": {"bce_loss": True}}, tmp_path / "w.pth")
    checkpoint = load_checkpoint(tmp_path / "w.pth")
    assert checkpoint.problem_type == SINGLE_LABEL
    (note,) = notes_on_the_head(checkpoint)
    assert "bce_loss=True" in note
    assert f"--problem-type {MULTI_LABEL}" in note
    asked = load_checkpoint(tmp_path / "w.pth", problem_type=MULTI_LABEL)
    assert (asked.problem_type, notes_on_the_head(asked)) == (MULTI_LABEL, [])


def test_own_checkpoints_keep_it_and_older_ones_are_single_label(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(hugging_face(tmp_path, problem_type=MULTI_LABEL))
    path = tmp_path / "own.safetensors"
    save_checkpoint(
        checkpoint.model,
        path,
        preprocessing=checkpoint.preprocessing,
        labels=checkpoint.labels,
        problem_type=checkpoint.problem_type,
    )
    assert load_checkpoint(path).problem_type == MULTI_LABEL
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    settings = json.loads(header["__metadata__"]["edgevit"])
    del settings["problem_type"]
    header["__metadata__"]["edgevit"] = json.dumps(settings)
    older = json.dumps(header).encode()
    older += b" " * (-len(older) % 8)
    path.write_bytes(len(older).to_bytes(8, "little") + older + content[8 + size :])
    assert load_checkpoint(path).problem_type == SINGLE_LABEL
