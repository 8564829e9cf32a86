"""The ViT as the written graph has it: everything that can be folded into weights, folded.

Input is the uint8 BGR frame; colour order, 1/255, mean and std live in the patch embedding;
LayerScale lives in proj and fc2; the attention scale lives in the query rows; the V bias, which
softmax rows pass through unchanged (they sum to 1), lives in proj's bias. All of it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevit.model.rewrites.legal import Rewrite, legal_rewrites
from edgevit.model.vit import ACTIVATIONS, Block, Constant, Vit
from edgevit.part import LINEARS, Part
from edgevit.preprocess import Preprocessing
from edgevit.vitconfig import VitConfig

# ITU-R BT.601 luma, as cv2.COLOR_BGR2GRAY and PIL's "L" have it, in BGR order.
LUMA_BGR = (0.114, 0.587, 0.299)


@dataclass
class Norm:
    """LayerNorm: weight and bias [width] float32."""

    weight: Tensor
    bias: Tensor
    eps: float


@dataclass
class Linear:
    """y = x weight^T + bias; weight [out, in], bias [out], float32."""

    weight: Tensor
    bias: Tensor


@dataclass
class FoldedBlock:
    """One block: qkv [3 * heads * head_dim, width], proj, fc1, fc2; norms are None in a norm-free ViT.

    Where attention was pruned away, qkv has no rows, and proj reads the normalised tokens (an affine map) or has no
    columns (a bias); the same with the MLP, fc1 and fc2.
    """

    heads: int
    norm1: Norm | None
    qkv: Linear
    proj: Linear
    norm2: Norm | None
    fc1: Linear
    fc2: Linear
    forbidden: frozenset[Rewrite] = frozenset()
    """Rewrites that what lies between the GEMMs forbids, and that these weights do not show."""

    @property
    def legal(self) -> frozenset[Rewrite]:
        """The rewrites that keep what the block computes."""
        return legal_rewrites(self)

    @property
    def linears(self) -> dict[str, Linear]:
        """The GEMMs that there are, by kind."""
        found: dict[str, Linear] = {kind: getattr(self, kind) for kind in LINEARS}
        return {kind: linear for kind, linear in found.items() if linear.weight.numel()}

    def norm_of(self, kind: str) -> str | None:
        """The norm that delivers the input of GEMM ``kind``, ``norm1`` or ``norm2``; None if something else does."""
        if kind == "qkv" or (kind == "proj" and not self.heads):
            return "norm1"
        return "norm2" if kind == "fc1" or (kind == "fc2" and not len(self.fc1.weight)) else None


@dataclass
class FoldedVit:
    """Weights of the written graph, float32.

    ``patch`` has weight [width, patch * patch * 3], columns ordered (row, column, BGR) like the
    frame's memory, and no bias: that is part of ``positions``, [T, width], which also holds the
    prefix tokens in its first rows.
    """

    config: VitConfig
    patch: Tensor
    positions: Tensor
    embedding_norm: Norm | None
    blocks: list[FoldedBlock]
    final_norm: Norm | None
    head: Linear


def fold(model: Vit, contract: Preprocessing) -> FoldedVit:
    """Fold ``model`` and its preprocessing into a graph over uint8 frames; ``model`` is left alone.

    Raises ValueError if the contract's size is not the model's.
    """
    if contract.size != model.config.image_size:
        msg = f"preprocessing delivers {contract.size}, the model wants {model.config.image_size} (height, width)"
        raise ValueError(msg)
    patch, patch_bias = _fold_pixels(model.patch_embedding, contract)
    positions = torch.zeros(model.config.tokens, model.config.width, dtype=torch.float64)
    prefix = model.config.prefix_tokens
    positions[prefix:] = patch_bias + (0.0 if model.positions is None else model.positions.detach().double())
    if model.prefix is not None:
        positions[:prefix] = model.prefix.detach().double()
    final = model.norm if model.config.final_norm == "before_pooling" else model.pooled_norm
    return FoldedVit(
        config=model.config,
        patch=patch.float(),
        positions=positions.float(),
        embedding_norm=_norm(model.embedding_norm),
        blocks=[_fold_block(cast("Block", block)) for block in model.blocks],
        final_norm=_norm(final),
        head=Linear(model.head.weight.detach().float().clone(), _bias(model.head).float()),
    )


def _fold_pixels(conv: nn.Conv2d, contract: Preprocessing) -> tuple[Tensor, Tensor]:
    """Patch weights over uint8 BGR pixels [width, patch * patch * 3] and bias [width], float64."""
    weight = conv.weight.detach().double()
    mean = torch.tensor(contract.mean, dtype=torch.float64).view(1, -1, 1, 1)
    std = torch.tensor(contract.std, dtype=torch.float64).view(1, -1, 1, 1)
    bias = _bias(conv) - (weight * mean / std).sum((1, 2, 3))
    weight = weight / (255 * std)
    if contract.color == "rgb":
        weight = weight.flip(1)
    elif contract.color == "gray":
        weight = weight * torch.tensor(LUMA_BGR, dtype=torch.float64).view(1, 3, 1, 1)
    return weight.permute(0, 2, 3, 1).flatten(1), bias


def _fold_block(block: Block) -> FoldedBlock:
    qkv, proj = _fold_attention(block)
    fc1, fc2 = _of(block.fc1, block.fc2.bias), _of(block.fc2, block.fc2.bias)
    if block.scale1 is not None and block.scale2 is not None:
        proj, fc2 = _scaled(proj, block.scale1.detach().double()), _scaled(fc2, block.scale2.detach().double())
    return FoldedBlock(
        heads=block.heads,
        norm1=_norm(block.norm1),
        qkv=_float(qkv),
        proj=_float(proj),
        norm2=_norm(block.norm2),
        fc1=_float(fc1),
        fc2=_float(fc2),
    )


def _fold_attention(block: Block) -> tuple[Linear, Linear]:
    """qkv with the scale in the queries, and proj with the values' bias; float64."""
    qkv, proj = _of(block.qkv, block.proj.bias), _of(block.proj, block.proj.bias)
    if not block.heads:
        return qkv, proj
    inner = proj.weight.shape[1]
    scale = (inner // block.heads) ** -0.5
    qkv.weight[:inner] *= scale
    qkv.bias[:inner] *= scale
    proj.bias += proj.weight @ qkv.bias[2 * inner :]
    qkv.bias[2 * inner :] = 0
    return qkv, proj


def _of(layer: nn.Module | None, writes: Tensor) -> Linear:
    """Copies in float64; [0, width] for a layer that is not there, [width, 0] for one of which only a bias is left."""
    width = len(writes)
    if layer is None:
        return Linear(torch.zeros(0, width, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    if isinstance(layer, Constant):
        return Linear(torch.zeros(width, 0, dtype=torch.float64), layer.bias.detach().double().clone())
    linear = cast("nn.Linear", layer)
    return Linear(linear.weight.detach().double().clone(), _bias(linear).clone())


def _scaled(linear: Linear, scale: Tensor) -> Linear:
    return Linear(linear.weight * scale[:, None], linear.bias * scale)


def _float(linear: Linear) -> Linear:
    return Linear(linear.weight.float(), linear.bias.float())


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    if layer.bias is None:
        return torch.zeros(layer.weight.shape[0], dtype=torch.float64)
    return layer.bias.detach().double()


def _norm(layer: nn.Module) -> Norm | None:
    if not isinstance(layer, nn.LayerNorm):
        return None
    return Norm(layer.weight.detach().float().clone(), layer.bias.detach().float().clone(), layer.eps)


LinearOp = Callable[[Part, Tensor, Linear], Tensor]
AttentionOp = Callable[[Part, Tensor, Tensor, Tensor], Tensor]


def plain_linear(_part: Part | None, x: Tensor, linear: Linear) -> Tensor:
    """The float GEMM: x [..., in] to [..., out]."""
    return F.linear(x, linear.weight, linear.bias)


def plain_attention(_part: Part | None, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q k^T) v over [N, heads, tokens, head_dim]; the scale is in the queries."""
    return (queries @ keys.transpose(-1, -2)).softmax(-1) @ values


@torch.inference_mode()
def forward(
    model: FoldedVit, frames: Tensor, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Tensor:
    """Logits [N, classes] of uint8 frames [N, H, W, 3], computed as the written graph computes them.

    Every GEMM of every block goes through ``linear(part, x, weights)``, and the two products of every
    attention through ``attention(part, q, k, v)``: statistics, fake quantization and sensitivity replace these two.
    In the last block only the tokens that the head depends on are carried on.
    """
    *_, last = streams(model, frames, linear, attention)
    return run_head(model, last)


@torch.inference_mode()
def streams(
    model: FoldedVit, frames: Tensor, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Iterator[Tensor]:
    """The residual stream of `forward`, place by place: the embedding [N, T, width], then what each block gives."""
    x = embed(model, frames)
    yield x
    for i in range(len(model.blocks)):
        x = run_block(model, i, x, linear, attention)
        yield x


@torch.inference_mode()
def embed(model: FoldedVit, frames: Tensor) -> Tensor:
    """Tokens [N, T, width] of uint8 frames: what block 0 takes."""
    return positioned(model, patch_product(model, frames))


@torch.inference_mode()
def patch_product(model: FoldedVit, frames: Tensor) -> Tensor:
    """Patches of uint8 frames times the patch weights [N, patches, width]: the first GEMM."""
    return _patches(frames, model.config) @ model.patch.T


@torch.inference_mode()
def positioned(model: FoldedVit, product: Tensor) -> Tensor:
    """Tokens [N, T, width] from that: prefix tokens, positions and an embedding norm, if there is one."""
    return _layer_norm(F.pad(product, (0, 0, model.config.prefix_tokens, 0)) + model.positions, model.embedding_norm)


@torch.inference_mode()
def run_block(
    model: FoldedVit, index: int, x: Tensor, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Tensor:
    """Block ``index`` of `forward` on tokens [N, T, width]; as many leave it as `VitConfig.tokens_after` says."""
    keep = model.config.tokens_after(index)
    return _block(x, model.blocks[index], index, model.config, linear, attention, keep)


def _patches(frames: Tensor, config: VitConfig) -> Tensor:
    (rows, columns), side = config.grid, config.patch_size
    cells = frames.reshape(-1, rows, side, columns, side * 3).transpose(2, 3)
    return cells.reshape(-1, rows * columns, side * side * 3).float()


def _block(
    x: Tensor, block: FoldedBlock, index: int, config: VitConfig, linear: LinearOp, attention: AttentionOp, keep: int
) -> Tensor:
    mixed = attention_inputs(x, block, index, linear, attention, keep)
    x = x[:, :keep] + written(linear, Part(index, "proj"), mixed, block.proj)
    return x + written(linear, Part(index, "fc2"), mlp_inputs(x, block, index, config, linear), block.fc2)


def attention_inputs(
    x: Tensor, block: FoldedBlock, index: int, linear: LinearOp, attention: AttentionOp, keep: int
) -> Tensor:  # fmt: skip
    """What proj reads [N, keep, inputs], of tokens [N, T, width]: all heads' outputs, or what is left instead."""
    if not block.heads:
        return _tokens_for(block.proj, x[:, :keep], block.norm1)
    n, t, _ = x.shape
    qkv = linear(Part(index, "qkv"), _layer_norm(x, block.norm1), block.qkv)
    q, k, v = qkv.view(n, t, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    return attention(Part(index, "attention"), q[:, :, :keep], k, v).transpose(1, 2).reshape(n, keep, -1)


def mlp_inputs(x: Tensor, block: FoldedBlock, index: int, config: VitConfig, linear: LinearOp) -> Tensor:
    """What fc2 reads [N, T, inputs], of tokens [N, T, width]: the hidden activations, or what is left instead."""
    if not len(block.fc1.weight):
        return _tokens_for(block.fc2, x, block.norm2)
    return ACTIVATIONS[config.activation](linear(Part(index, "fc1"), _layer_norm(x, block.norm2), block.fc1))


def _tokens_for(writer: Linear, x: Tensor, norm: Norm | None) -> Tensor:
    """Normalised tokens for an affine map, none of their channels for a bias."""
    return _layer_norm(x, norm) if writer.weight.shape[1] else x[..., :0]


def written(linear: LinearOp, part: Part, x: Tensor, writer: Linear) -> Tensor:
    """What proj or fc2 adds to the residual stream; of one without columns its bias [width]."""
    return linear(part, x, writer) if writer.weight.shape[1] else writer.bias


@torch.inference_mode()
def run_head(model: FoldedVit, x: Tensor) -> Tensor:
    """Logits [N, classes] of the last block's tokens."""
    config = model.config
    if config.final_norm == "before_pooling":
        x = _layer_norm(x, model.final_norm)
    features = {"class": lambda: x[:, 0], "distillation": lambda: x[:, 1],
                "mean": lambda: x[:, config.prefix_tokens :].mean(1)}  # fmt: skip
    pooled = torch.cat([features[name]() for name in config.pooling], dim=-1)
    if config.final_norm == "after_pooling":
        pooled = _layer_norm(pooled, model.final_norm)
    return plain_linear(None, pooled, model.head)


def _layer_norm(x: Tensor, norm: Norm | None) -> Tensor:
    return x if norm is None else F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
