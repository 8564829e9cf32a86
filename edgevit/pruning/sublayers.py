"""A block as two sublayers, attention and MLP: what each reads, what writes it to the residual stream, and less of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgevit.model.folded import (
    FoldedBlock,
    FoldedVit,
    Linear,
    Norm,
    attention_inputs,
    merge_of,
    mlp_inputs,
    plain_attention,
    plain_linear,
    written,
)
from edgevit.model.merging import Merge, Tokens
from edgevit.part import Sublayer
from edgevit.pruning.refit import Refit
from edgevit.pruning.scores import channels
from edgevit.vitconfig import VitConfig

WRITERS = {"attention": "proj", "mlp": "fc2"}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What is left of a sublayer."""

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


def sublayers(model: FoldedVit) -> list[Sublayer]:
    """All of ``model``, in network order."""
    return [Sublayer(block, kind) for block in range(len(model.blocks)) for kind in Sublayer.KINDS]


def writer(block: FoldedBlock, kind: str) -> Linear:
    """What writes a sublayer to the residual stream: proj or fc2."""
    linear: Linear = getattr(block, WRITERS[kind])
    return linear


def units(block: FoldedBlock, kind: str) -> int:
    """Heads, or hidden neurons."""
    return block.heads if kind == "attention" else block.hidden


def rows_of(config: VitConfig, sublayer: Sublayer) -> int:
    """Tokens that a sublayer writes to: those of the last block's attention are only those that the head depends on."""
    return config.tokens_attended(sublayer.block) if sublayer.kind == "attention" else config.tokens_after(sublayer.block)


@torch.inference_mode()
def reads(model: FoldedVit, sublayer: Sublayer, tokens: Tokens) -> tuple[Tokens, Tensor]:
    """What a sublayer's writer adds to and what it reads, of ``tokens``: [N, keep, width] and [N, keep, inputs]."""
    block, index = model.blocks[sublayer.block], sublayer.block
    if sublayer.kind == "mlp":
        return tokens, mlp_inputs(tokens.x, block, index, model.config, plain_linear)
    keep = rows_of(model.config, sublayer)
    read = attention_inputs(tokens, block, index, plain_linear, plain_attention, keep)
    return tokens.with_x(tokens.x[:, :keep]), read


def merge_behind(model: FoldedVit, sublayer: Sublayer, tokens: Tokens) -> Merge | None:
    """Which of the ``tokens`` that a sublayer takes become one behind it; None where none do."""
    return merge_of(model, sublayer.block, tokens) if sublayer.kind == "attention" else None


@torch.inference_mode()
def writes(model: FoldedVit, sublayer: Sublayer, inputs: Tensor) -> Tensor:
    """What a sublayer adds to the stream [N, keep, width], of what `reads` gave."""
    added = written(plain_linear, sublayer.writer, inputs, writer(model.blocks[sublayer.block], sublayer.kind))
    return added.expand(*inputs.shape[:-1], -1)


def normalised(model: FoldedVit, sublayer: Sublayer, tokens: Tokens) -> Tensor:
    """What an affine map in the place of a sublayer would read [N, keep, width]."""
    mapped = replace_block(model, sublayer.block, cut_block(model.blocks[sublayer.block], sublayer.kind, Cut.gone("map")))
    return reads(mapped, sublayer, tokens)[1]


def cut_model(model: FoldedVit, cuts: Sequence[Cut]) -> FoldedVit:
    """``model`` with every sublayer cut, in network order; nothing makes up for it."""
    blocks = []
    for index, block in enumerate(model.blocks):
        attention, mlp = cuts[2 * index], cuts[2 * index + 1]
        blocks.append(cut_block(cut_block(block, "attention", attention), "mlp", mlp))
    return replace(model, blocks=blocks)


def replace_block(model: FoldedVit, index: int, block: FoldedBlock) -> FoldedVit:
    """``model`` with another block ``index``."""
    return replace(model, blocks=[*model.blocks[:index], block, *model.blocks[index + 1 :]])


def cut_block(block: FoldedBlock, kind: str, cut: Cut) -> FoldedBlock:
    """``block`` with what ``cut`` leaves of a sublayer; nothing makes up for what is gone. A map starts at zero.

    A sublayer without units was pruned before, and stays.
    """
    out = writer(block, kind)
    width = len(out.bias)
    if not units(block, kind):
        return block
    if cut.left != "part":
        nothing, inputs = Linear(torch.zeros(0, width), torch.zeros(0)), width if cut.left == "map" else 0
        rest = Linear(torch.zeros(width, inputs), out.bias)
        if kind == "mlp":
            return replace(block, fc1=nothing, mlp_norm=None, fc2=rest)
        return replace(block, heads=0, qkv=nothing, proj=rest, query_norm=None, key_norm=None, rotation=None, attention_norm=None)
    kept = channels_of(block, kind, cut.kept)
    rest, inner = Linear(out.weight[:, kept], out.bias), out.weight.shape[1]
    if kind == "mlp":
        rows = torch.cat([kept, kept + inner]) if block.gated else kept
        fc1 = Linear(block.fc1.weight[rows], block.fc1.bias[rows])
        return replace(block, fc1=fc1, mlp_norm=_channels(block.mlp_norm, kept), fc2=rest)
    rows = torch.cat([kept, kept + inner, kept + 2 * inner])
    biases = None if block.score_bias is None else block.score_bias[cut.kept]
    return replace(
        block, heads=len(cut.kept), qkv=Linear(block.qkv.weight[rows], block.qkv.bias[rows]), proj=rest, score_bias=biases,
        rotation=block.rotation and block.rotation.heads(cut.kept), attention_norm=_channels(block.attention_norm, kept),
    )  # fmt: skip


def _channels(norm: Norm | None, kept: Tensor) -> Norm | None:
    """A norm of the channels that stay alone."""
    return norm and replace(norm, weight=norm.weight[kept], bias=norm.bias[kept])


def channels_of(block: FoldedBlock, kind: str, chosen: Tensor) -> Tensor:
    """The writer's input channels, int64, that heads or neurons int64 [K] deliver."""
    size = writer(block, kind).weight.shape[1] // max(1, units(block, kind))
    return channels(chosen, size)


def refitted(block: FoldedBlock, kind: str, refit: Refit) -> FoldedBlock:
    """``block`` with ``refit`` added to what writes a sublayer."""
    old = writer(block, kind)
    new = Linear((old.weight.double() + refit.weight).float(), (old.bias.double() + refit.bias).float())
    return replace(block, proj=new) if kind == "attention" else replace(block, fc2=new)
