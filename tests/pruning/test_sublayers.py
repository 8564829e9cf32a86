"""What is cut is really gone, and what is left computes what the whole model does with the rest masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from edgevit.engine import CPU_ENGINES, open_session
from edgevit.export.graph import write_graph
from edgevit.model.folded import FoldedVit, Linear, forward, plain_linear
from edgevit.model.macs import macs
from edgevit.model.merging import Tokens
from edgevit.model.quantplan import QuantPlan
from edgevit.part import Part, Sublayer
from edgevit.pruning.sublayers import Cut, channels_of, cut_block, cut_model, reads, sublayers, units, writer, writes
from tests.zoo import PLAIN, ZOO, folded, frames

GONE = ("maps and biases", "little left of the last block", "merging in pruned blocks",
        "rotary and gated in pruned blocks")  # fmt: skip
VITS = [name for name in ZOO if name not in GONE]
NORMED = [name for name in VITS if {"attention_norm", "mlp_norm"} & ZOO[name].keys()]
"""A norm in front of the writer sees what is gone: there a mask is not a cut."""


def cuts_of(model: FoldedVit, seed: int = 0) -> list[Cut]:
    """Every sublayer loses some units at random, one at least stays."""
    generator = torch.Generator().manual_seed(seed)
    cuts = []
    for sublayer in sublayers(model):
        count = units(model.blocks[sublayer.block], sublayer.kind)
        keep = int(torch.randint(1, count + 1, (), generator=generator))
        cuts.append(Cut.part(torch.randperm(count, generator=generator)[:keep].sort().values))
    return cuts


def masked(model: FoldedVit, cuts: list[Cut], images: Tensor) -> Tensor:
    """Logits of the whole ``model`` with zeros where what is cut would be read."""
    gone = {}
    for sublayer, cut in zip(sublayers(model), cuts, strict=True):
        block = model.blocks[sublayer.block]
        mask = torch.zeros(writer(block, sublayer.kind).weight.shape[1])
        mask[channels_of(block, sublayer.kind, cut.kept)] = 1
        gone[Part(sublayer.block, "proj" if sublayer.kind == "attention" else "fc2")] = mask

    def linear(part: Part, x: Tensor, weights: Linear) -> Tensor:
        return plain_linear(part, x * gone[part] if part in gone else x, weights)

    return forward(model, images, linear)


@pytest.mark.parametrize("name", VITS)
def test_a_cut_model_is_the_masked_model(name: str) -> None:
    model = folded(**ZOO[name])
    cuts, images = cuts_of(model), torch.from_numpy(frames(model.config, 3))
    cut = cut_model(model, cuts)
    equal = torch.allclose(forward(cut, images), masked(model, cuts, images), rtol=1e-4, atol=1e-4)
    assert equal is (name not in NORMED)
    for sublayer, left in zip(sublayers(model), cuts, strict=True):
        assert units(cut.blocks[sublayer.block], sublayer.kind) == len(left.kept)


@pytest.mark.parametrize("engine", sorted(CPU_ENGINES))
@pytest.mark.parametrize("name", ["layer scale", "class and mean pooling", "registers"])
def test_the_written_graph_of_a_cut_model_is_the_masked_model(name: str, engine: str) -> None:
    model = folded(**ZOO[name])
    cuts, images = cuts_of(model, 1), frames(model.config, 3)
    with open_session(engine, write_graph(QuantPlan(model=cut_model(model, cuts))), threads=1) as session:
        got = session.infer(images)
    assert np.abs(got - masked(model, cuts, torch.from_numpy(images)).numpy()).max() < 1e-4


@pytest.mark.parametrize("left", ["map", "bias"])
@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_a_half_that_is_gone_leaves_its_bias(kind: str, left: str) -> None:
    model = folded()
    block = cut_block(model.blocks[0], kind, Cut.gone(left))
    other = replace(model, blocks=[block, *model.blocks[1:]])
    sublayer, x = Sublayer(0, kind), torch.randn(2, model.config.tokens, model.config.width)
    kept, read = reads(other, sublayer, Tokens(x))
    assert read.shape == (2, model.config.tokens, model.config.width if left == "map" else 0)
    expected = writer(model.blocks[0], kind).bias.expand_as(x)
    torch.testing.assert_close(writes(other, sublayer, read).expand_as(x), expected)
    torch.testing.assert_close(kept.x, x)


@pytest.mark.parametrize("name", ZOO)
def test_macs_are_those_of_the_written_graph(name: str) -> None:
    """Counted from the shapes of every MatMul."""
    import onnx
    from onnx import shape_inference

    model = folded(**ZOO[name])
    proto = shape_inference.infer_shapes(onnx.load_from_string(write_graph(QuantPlan(model=model))), data_prop=True)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for value in (*proto.graph.value_info, *proto.graph.output)}  # fmt: skip
    constants = {item.name: list(item.dims) for item in proto.graph.initializer}
    total = 0
    for node in proto.graph.node:
        if node.op_type == "MatMul":
            inner = (constants | shapes)[node.input[0]][-1]
            total += inner * int(np.prod(shapes[node.output[0]][1:]))
    assert macs(model.config) == total


def test_widths_of_plain() -> None:
    """The numbers above rest on sublayers that can lose something."""
    assert all(block.heads > 1 and block.hidden > 1 for block in PLAIN["blocks"])
