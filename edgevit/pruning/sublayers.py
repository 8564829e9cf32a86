"""A block as two halves, attention and MLP: what each reads, what writes it to the residual stream, and less of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgevit.model.folded import (
    FoldedBlock,
    FoldedVit,
    Linear,
    attention_half,
    mlp_half,
    plain_attention,
    plain_linear,
    written,
)
from edgevit.pruning.refit import Refit

KINDS = ("attention", "mlp")
WRITERS = {"attention": "proj", "mlp": "fc2"}


@dataclass(frozen=True)
class Half:
    """Attention or MLP of one block; ``str`` gives ``blocks.3.mlp``."""

    index: int
    kind: str
    """``attention`` or ``mlp``."""

    def __str__(self) -> str:
        return f"blocks.{self.index}.{self.kind}"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is left of a half."""

    left: str
    """``part``: units of it; ``map``: an affine map of the normalised tokens; ``bias``: a constant."""
    kept: Tensor
    """int64 [K]: the heads or hidden neurons that stay, in order; empty unless ``left`` is ``part``."""

    @classmethod
    def part(cls, kept: Tensor) -> Cut:
        """Those units."""
        return cls(left="part", kept=kept)

    @classmethod
    def gone(cls, left: str) -> Cut:
        """No units: a ``map`` or a ``bias``."""
        return cls(left=left, kept=torch.zeros(0, dtype=torch.int64))


def halves(model: FoldedVit) -> list[Half]:
    """In network order."""
    return [Half(index, kind) for index in range(len(model.blocks)) for kind in KINDS]


def writer(block: FoldedBlock, kind: str) -> Linear:
    """What writes a half to the residual stream: proj or fc2."""
    linear: Linear = getattr(block, WRITERS[kind])
    return linear


def units(block: FoldedBlock, kind: str) -> int:
    """Heads, or hidden neurons."""
    return block.heads if kind == "attention" else len(block.fc1.weight)


def rows_of(model: FoldedVit, half: Half) -> int:
    """Tokens that leave a half: behind the last attention only those that the head depends on."""
    return model.config.tokens_after(half.index)


@torch.inference_mode()
def reads(model: FoldedVit, half: Half, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a half's writer adds to and what it reads, of tokens [N, T, width]: [N, keep, width] and [N, keep, inputs]."""
    block, name = model.blocks[half.index], f"blocks.{half.index}"
    if half.kind == "mlp":
        return x, mlp_half(x, block, name, model.config, plain_linear)
    keep = rows_of(model, half)
    return x[:, :keep], attention_half(x, block, name, plain_linear, plain_attention, keep)


@torch.inference_mode()
def writes(model: FoldedVit, half: Half, inputs: Tensor) -> Tensor:
    """What a half adds to the stream [N, keep, width], of what `reads` gave."""
    added = written(plain_linear, str(half), inputs, writer(model.blocks[half.index], half.kind))
    return added.expand(*inputs.shape[:-1], -1)


def normalised(model: FoldedVit, half: Half, x: Tensor) -> Tensor:
    """What an affine map in the place of a half would read [N, keep, width]."""
    return reads(replace_block(model, half.index, cut_block(model.blocks[half.index], half.kind, Cut.gone("map"))), half, x)[1]


def replace_block(model: FoldedVit, index: int, block: FoldedBlock) -> FoldedVit:
    """``model`` with another block ``index``."""
    return replace(model, blocks=[*model.blocks[:index], block, *model.blocks[index + 1 :]])


def cut_block(block: FoldedBlock, kind: str, cut: Cut) -> FoldedBlock:
    """``block`` with what ``cut`` leaves of a half; nothing makes up for what is gone. A map starts at zero.

    A half without units was pruned before, and stays.
    """
    out = writer(block, kind)
    width = len(out.bias)
    if not units(block, kind):
        return block
    if cut.left != "part":
        nothing, inputs = Linear(torch.zeros(0, width), torch.zeros(0)), width if cut.left == "map" else 0
        rest = Linear(torch.zeros(width, inputs), out.bias)
        return replace(block, heads=0, qkv=nothing, proj=rest) if kind == "attention" else replace(block, fc1=nothing, fc2=rest)
    channels = channels_of(block, kind, cut.kept)
    rest = Linear(out.weight[:, channels], out.bias)
    if kind == "mlp":
        return replace(block, fc1=Linear(block.fc1.weight[channels], block.fc1.bias[channels]), fc2=rest)
    inner = out.weight.shape[1]
    rows = torch.cat([channels, channels + inner, channels + 2 * inner])
    return replace(block, heads=len(cut.kept), qkv=Linear(block.qkv.weight[rows], block.qkv.bias[rows]), proj=rest)


def channels_of(block: FoldedBlock, kind: str, chosen: Tensor) -> Tensor:
    """The writer's input channels, int64, that heads or neurons int64 [K] deliver."""
    size = writer(block, kind).weight.shape[1] // max(1, units(block, kind))
    return (chosen[:, None] * size + torch.arange(size)).flatten()


def refitted(block: FoldedBlock, kind: str, refit: Refit) -> FoldedBlock:
    """``block`` with ``refit`` added to what writes a half."""
    old = writer(block, kind)
    new = Linear((old.weight.double() + refit.weight).float(), (old.bias.double() + refit.bias).float())
    return replace(block, proj=new) if kind == "attention" else replace(block, fc2=new)
