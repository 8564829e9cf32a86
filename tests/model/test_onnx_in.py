"""ONNX files of ViTs, as true exporters wrote them (`tests.parity.onnx_fixtures`): weights, settings, and what torch answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from edgevit.model.pixels import normalise
from edgevit.preprocess import Preprocessing, prepare
from edgevit.problem import MULTI_LABEL, SINGLE_LABEL

FOLDER = Path(__file__).parent / "fixtures" / "onnx"
NAMES = sorted(path.name for path in FOLDER.glob("*"))
LABELS = ("crack", "scratch", "fine", "größer", "wall")


def frames_for(size: tuple[int, int]) -> np.ndarray:
    """Two frames uint8 [2, H, W, 3] BGR: noise, and a slope."""
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    slope = np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3).astype(np.uint8)
    return np.stack([noise, slope])


def images_for(size: tuple[int, int]) -> Tensor:
    """The same, normalised by mean and std of 0.5, as models take them."""
    contract = Preprocessing(size=size, resize=size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return normalise(torch.from_numpy(frames_for(size)), contract)


def answers_of(name: str) -> Tensor:
    return torch.tensor(json.loads((FOLDER / name / "logits.json").read_text()))


def test_there_are_six_exporters() -> None:
    assert len(NAMES) == 6


@pytest.mark.parametrize("name", NAMES)
def test_logits(name: str) -> None:
    """Of the torch model that was exported, to 1e-4; frames go through the preprocessing that the graph itself has."""
    checkpoint = load_checkpoint(FOLDER / name)
    images = images_for((32, 32))
    if name == "ultralytics_style":
        frames = np.stack([prepare(frame, checkpoint.preprocessing) for frame in frames_for((32, 32))])
        images = normalise(torch.from_numpy(frames), checkpoint.preprocessing)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(images), answers_of(name), rtol=0, atol=1e-4)
    assert checkpoint.family == "ONNX (ViT)"
    assert any(note.startswith("weights: taken out of the ONNX graph and proved") for note in checkpoint.notes)


def test_structure() -> None:
    """What the exported models are, beside their weights."""
    found = {name: load_checkpoint(FOLDER / name).model.config for name in NAMES}
    assert (found["timm"].registers, found["timm"].class_token, found["timm"].norm_eps) == (4, True, 1e-6)
    assert (found["dynamo"].gated, found["dynamo"].activation, found["dynamo"].pooling) == (True, "silu", ("class", "mean"))
    clip = found["onnxruntime_fused"]
    assert (clip.embedding_norm, clip.activation, clip.pooling, clip.norm_eps) == (True, "quick_gelu", ("mean",), 1e-5)
    assert found["torchscript"].activation == "gelu"
    assert found["optimum_style"].norm_eps == 1e-12
    assert {(config.patch_size, config.image_size, config.classes) for config in found.values()} == {(8, (32, 32), 5)}
    assert {config.blocks[0].heads for config in found.values()} == {2}


def test_what_lies_beside_a_graph() -> None:
    """optimum's folder: labels and preprocessing are those of its settings files, and the file in it is read as the folder is."""
    checkpoint = load_checkpoint(FOLDER / "optimum_style")
    assert checkpoint.labels == LABELS
    assert checkpoint.preprocessing.mean == (0.4, 0.5, 0.6)
    assert checkpoint.preprocessing.interpolation == "linear"
    again = load_checkpoint(FOLDER / "optimum_style" / "model.onnx")
    assert (again.labels, again.preprocessing, again.digest) == (checkpoint.labels, checkpoint.preprocessing, checkpoint.digest)


def test_what_is_in_a_graph() -> None:
    """Frames, BGR, uint8 NHWC; normalised, and a softmax: taken over, and said."""
    checkpoint = load_checkpoint(FOLDER / "ultralytics_style")
    assert checkpoint.labels == LABELS
    contract = checkpoint.preprocessing
    assert (contract.mean, contract.std, contract.color) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb")
    assert checkpoint.problem_type == SINGLE_LABEL
    notes = " ".join(checkpoint.notes)
    for said in ("ends in a softmax, which is left out", "mean and std are those in the graph", "turns the order of channels"):
        assert said in notes
    assert "ImageNet" not in notes


def test_weights_beside_a_graph_count_for_the_digest(tmp_path: Path) -> None:
    """They lie in a file of their own, of which the graph has the name."""
    shutil.copytree(FOLDER / "dynamo", tmp_path / "模型 é")
    (weights,) = (tmp_path / "模型 é").glob("*.data")
    first = load_checkpoint(tmp_path / "模型 é").digest
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    assert load_checkpoint(tmp_path / "模型 é").digest != first


def changed(name: str, path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A fixture with something about its graph changed, all in one file."""
    model = onnx.load(FOLDER / name / "model.onnx")
    change(model)
    onnx.save(model, path)
    return path


def behind_logits(operator: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        last = model.graph.output[0].name
        model.graph.node.append(helper.make_node(operator, [last], ["scores"]))
        model.graph.output[0].name = "scores"

    return change


@pytest.mark.parametrize(("operator", "problem_type"), [("Sigmoid", MULTI_LABEL), ("Softmax", SINGLE_LABEL)])
def test_ends_are_left_out_and_tell_the_problem(operator: str, problem_type: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(changed("torchscript", tmp_path / "vit.onnx", behind_logits(operator)))
    assert checkpoint.problem_type == problem_type
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.model(images_for((32, 32))), answers_of("torchscript"), rtol=0, atol=1e-4)


def without_head(model: onnx.ModelProto) -> None:
    """Ends at what the head reads."""
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=last.input[0]))


def test_a_backbone_gives_its_features(tmp_path: Path) -> None:
    """Without a head it is no classifier, and the refusal says what it is good for."""
    path = changed("torchscript", tmp_path / "backbone.onnx", without_head)
    with pytest.raises(CheckpointError, match=r"no classifier .*edgevit train PHOTOS --backbone"):
        load_checkpoint(path)
    checkpoint = load_checkpoint(path, headless=True)
    whole = load_checkpoint(FOLDER / "torchscript").model
    with torch.inference_mode():
        features = whole.features(images_for((32, 32)))
        torch.testing.assert_close(checkpoint.model(images_for((32, 32))), features, rtol=0, atol=1e-5)
    assert any("the 16 features themselves" in note for note in checkpoint.notes)


def test_another_size(tmp_path: Path) -> None:
    """A graph for one size is proved at that, and its positions are then interpolated as of any other checkpoint."""
    shutil.copy(FOLDER / "torchscript" / "model.onnx", tmp_path / "vit.onnx")
    checkpoint = load_checkpoint(tmp_path / "vit.onnx", image_size=48)
    assert checkpoint.model.config.image_size == checkpoint.preprocessing.size == (48, 48)
    assert (load_checkpoint(tmp_path / "vit.onnx").sized_by, checkpoint.sized_by) == ("the ONNX graph", "--image-size")


def test_a_changed_constant_is_no_silent_mistake(tmp_path: Path) -> None:
    """A graph whose scores are not divided as a ViT's are gives what it gives, or is refused: never something else."""

    def louder(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Softmax":
                scale = numpy_helper.from_array(np.float32(1.5), f"{node.name}/scale")
                model.graph.initializer.append(scale)
                node.input[0], scaled = f"{node.input[0]}/scaled", node.input[0]
                model.graph.node.append(helper.make_node("Mul", [scaled, scale.name], [f"{scaled}/scaled"]))

    checkpoint = load_checkpoint(changed("torchscript", tmp_path / "vit.onnx", louder))
    assert any("proved" in note for note in checkpoint.notes)
    with torch.inference_mode():
        off = (checkpoint.model(images_for((32, 32))) - answers_of("torchscript")).abs().max()
    assert off > 1e-3


def test_batch_norm_in_front_of_the_head(tmp_path: Path) -> None:
    """As linear probes of MAE have it: a scale and a shift of features."""
    generator = np.random.default_rng(0)
    values = {name: generator.uniform(0.5, 1.5, 16).astype(np.float32) for name in ("weight", "bias", "mean", "variance")}

    def change(model: onnx.ModelProto) -> None:
        last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
        model.graph.node.append(helper.make_node("BatchNormalization", [last.input[0], *values], ["normed"], epsilon=1e-3))
        last.input[0] = "normed"

    whole = load_checkpoint(FOLDER / "torchscript").model
    model = load_checkpoint(changed("torchscript", tmp_path / "vit.onnx", change)).model
    weight, bias, mean, variance = (torch.from_numpy(value) for value in values.values())
    with torch.inference_mode():
        normed = (whole.features(images_for((32, 32))) - mean) / (variance + 1e-3).sqrt() * weight + bias
        torch.testing.assert_close(model(images_for((32, 32))), whole.head(normed), rtol=0, atol=1e-4)


def test_positions_at_another_size_are_noted() -> None:
    """A graph tells them at its own size alone."""
    checkpoint = load_checkpoint(FOLDER / "timm", image_size=64)
    assert any(note.startswith("image size: the graph is for 32x32; its positions are interpolated") for note in checkpoint.notes)
