"""ONNX files that are no float ViT, or not whole, or not honest: one line each that says what and the next step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgevit.errors import CheckpointError
from edgevit.model import load_checkpoint
from tests.fuzz.limits import limited
from tests.model.test_onnx_in import FOLDER

PLAIN = FOLDER / "torchscript" / "model.onnx"
Change = Callable[[onnx.ModelProto], None]


def refusal(path: Path, **options: object) -> str:
    """The message of the CheckpointError for ``path``: one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message or path.name in str(path)
    return message


def changed(path: Path, change: Change) -> Path:
    model = onnx.load(PLAIN)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def initializer(model: onnx.ModelProto, shape: tuple[int, ...] | None = None) -> TensorProto:
    return next(
        tensor for tensor in model.graph.initializer if shape in (None, tuple(tensor.dims)) and len(tensor.raw_data) > 1024
    )


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("bool_masked_pos", TensorProto.FLOAT, [1, 16]))


def quantized(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("DynamicQuantizeLinear", ["images"], ["q", "s", "z"]))


def integer_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4), np.int8), "weight_quantized"))


def custom(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Secret", [model.graph.output[0].name], ["x"], domain="org.custom"))


def old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def own(model: onnx.ModelProto) -> None:
    model.producer_name = "edgevit"


def not_finite(model: onnx.ModelProto) -> None:
    tensor = initializer(model)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[5] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def short(model: onnx.ModelProto) -> None:
    tensor = initializer(model)
    tensor.raw_data = tensor.raw_data[:-8]


def boastful(model: onnx.ModelProto) -> None:
    tensor = initializer(model)
    tensor.dims[0] = 1 << 40


def escaping(model: onnx.ModelProto, location: str) -> None:
    tensor = initializer(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def hidden_in_a_node(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["x"], value=tensor))


def looping(model: onnx.ModelProto) -> None:
    """A Loop whose result the head reads."""
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "", last.input[0]], ["looped"], body=body))
    last.input[0] = "looped"


def other_activation(model: onnx.ModelProto) -> None:
    """What an MLP reads is clipped: no activation of edgevit's."""
    node = next(node for node in model.graph.node if node.op_type == "Erf")
    node.op_type = "Softplus"


def branches_of_another_order(model: onnx.ModelProto) -> None:
    """The second norm of the first block reads what the first reads: attention and MLP beside each other."""
    means = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    first, second = means[0].input[0], means[2].input[0]
    for node in model.graph.node:
        if node.op_type in ("ReduceMean", "Sub"):
            node.input[0] = first if node.input[0] == second else node.input[0]


REFUSED: dict[str, tuple[Change, str]] = {
    "two inputs": (two_inputs, r"it has 2 inputs \(images, bool_masked_pos\)"),
    "quantized": (quantized, r"quantized already \(DynamicQuantizeLinear\).* Give the float model that it was made from"),
    "integer weights": (integer_weights, "quantized already .*weight_quantized"),
    "a custom operator": (custom, r"it uses org\.custom\.Secret"),
    "an old opset": (old, "it is of opset 6"),
    "edgevit's own": (own, "a graph that edgevit wrote"),
    "NaN": (not_finite, "NaN or infinite"),
    "a tensor too short": (short, "says .* and holds .* bytes: damaged"),
    "a huge claim": (boastful, "says .* and holds .* bytes: damaged"),
    "a file beside it that is not there": (lambda m: escaping(m, "weights.bin"), r"weights\.bin: missing"),
    "a file outside": (lambda m: escaping(m, "../secret.bin"), "from outside its folder"),
    "an absolute path": (lambda m: escaping(m, "/etc/passwd"), "from outside its folder"),
    "a path of Windows": (lambda m: escaping(m, "..\\secret.bin"), "from outside its folder"),
    "a link outside": (lambda m: escaping(m, "link.bin"), "from outside its folder"),
    "a constant in another file": (hidden_in_a_node, "a node takes a constant from another file"),
    "a loop": (looping, "the operator Loop"),
    "another activation": (other_activation, r"an activation that edgevit has not \(Softplus"),
    "branches beside each other": (branches_of_another_order, "block 0, MLP: it reads .*blocks beside each other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    change, message = REFUSED[name]
    folder = tmp_path / "größer 模型"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = changed(folder / "vit.onnx", change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x08\x08\x12\x07pytorch", b"\xff" * 64, b"version https://git-lfs.github.com/spec"]
)
def test_no_graph(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vit.onnx").write_bytes(content)
    assert str(tmp_path / "vit.onnx") in refusal(tmp_path / "vit.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated(share: float, tmp_path: Path) -> None:
    whole = PLAIN.read_bytes()
    (tmp_path / "vit.onnx").write_bytes(whole[: int(share * len(whole))])
    assert "Download or export it again" in refusal(tmp_path / "vit.onnx")


def test_truncated_weights_beside_a_graph(tmp_path: Path) -> None:
    folder = tmp_path / "dynamo"
    shutil.copytree(FOLDER / "dynamo", folder)
    (weights,) = folder.glob("*.data")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not all there"):
        load_checkpoint(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"missing: the weights of model\.onnx lie in it"):
        load_checkpoint(folder)


@limited(seconds=60)
def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    """Whatever a byte of the graph's structure becomes: an error of the file, or a model that is what ONNX Runtime computes."""
    whole, generator, messages = PLAIN.read_bytes(), np.random.default_rng(0), list[str]()
    for number in range(25):
        content = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            content[place] ^= int(generator.integers(1, 256))
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as refused:
            messages.append(str(refused))
        else:
            assert any("proved" in note for note in checkpoint.notes)
    assert messages
    assert not any("\n" in message for message in messages)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(3 if i == 0 else 8, 8, 3, 2, 1), nn.ReLU()) for i in range(4)))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.filterwarnings("ignore")
def test_a_convolutional_network(tmp_path: Path) -> None:
    torch.onnx.export(Convolutions().eval(), (torch.randn(1, 3, 32, 32),), tmp_path / "cnn.onnx", dynamo=False)
    assert "it looks like a convolutional network (4 Conv, no attention)" in refusal(tmp_path / "cnn.onnx")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("norm_first", "message"), [(True, ""), (False, "this is a post-norm transformer")])
def test_order_of_norms(norm_first: bool, message: str, tmp_path: Path) -> None:
    """torch's own encoder, with patches cut by a convolution and a mean: read where norms come first."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 24, activation="gelu", batch_first=True, norm_first=norm_first)
            self.patches, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 5)
            self.positions = nn.Parameter(torch.randn(16, 16))
            self.body = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(self.patches(x).flatten(2).transpose(1, 2) + self.positions).mean(1))

    torch.manual_seed(0)
    model, images = Encoder().eval(), torch.randn(1, 3, 32, 32)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        torch.onnx.export(model, (images,), tmp_path / "encoder.onnx", dynamo=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    if message:
        assert message in refusal(tmp_path / "encoder.onnx")
        return
    with torch.inference_mode():
        torch.testing.assert_close(load_checkpoint(tmp_path / "encoder.onnx").model(images), model(images), rtol=0, atol=1e-5)
