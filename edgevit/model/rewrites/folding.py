"""From a trainable `Vit` to the weights of the written graph: everything that can be folded into weights, folded.

Input is the uint8 BGR frame; colour order, 1/255, mean and std go into the patch embedding; LayerScale
goes into proj and fc2; the attention scale goes into the query rows; the V bias, which softmax rows
pass through unchanged (they sum to 1), goes into proj's bias. All of it is exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from edgevit.model.folded import FoldedBlock, FoldedPool, FoldedVit, Linear, Norm
from edgevit.model.rewrites.kinds import BETWEEN_FORBIDS
from edgevit.model.rotary import Rotation
from edgevit.model.vit import AttentionPool, Block, Constant, RmsNorm, Vit
from edgevit.preprocess import Preprocessing

# ITU-R BT.601 luma, as cv2.COLOR_BGR2GRAY and PIL's "L" have it, in BGR order.
LUMA_BGR = (0.114, 0.587, 0.299)


def fold(model: Vit, contract: Preprocessing) -> FoldedVit:
    """Fold ``model`` and its preprocessing into a graph over uint8 frames; ``model`` is left alone.

    What folding does not change is shared with ``model``, not copied: nothing writes into a folded model's weights in place.
    Raises ValueError if the contract's size is not the model's.
    """
    if contract.size != model.config.image_size:
        msg = f"preprocessing delivers {contract.size}, the model wants {model.config.image_size} (height, width)"
        raise ValueError(msg)
    patch, patch_bias = _fold_pixels(model.patch_embedding, contract)
    positions = torch.zeros(model.config.tokens, model.config.width, dtype=torch.float64)
    prefix = model.config.prefix_tokens
    own = isinstance(model.patch_norm, nn.LayerNorm)  # between the patches' bias and positions
    positions[prefix:] = (0.0 if own else patch_bias) + (0.0 if model.positions is None else model.positions.detach().double())
    if model.prefix is not None:
        positions[:prefix] = model.prefix.detach().double()
    final = model.norm if model.config.final_norm == "before_pooling" else model.pooled_norm
    return FoldedVit(
        config=model.config,
        patch=patch.float(),
        positions=positions.float(),
        embedding_norm=_norm(model.embedding_norm),
        patch_norm=_norm(model.patch_norm),
        patch_bias=patch_bias.float() if own else None,
        blocks=[_fold_block(cast("Block", block)) for block in model.blocks],
        final_norm=_norm(final),
        head=Linear(model.head.weight.detach().float().clone(), _bias(model.head).float()),
        pool=None if model.attention_pool is None else _fold_pool(model.attention_pool),
        projection=_float(_of(model.projection, model.projection.bias)) if isinstance(model.projection, nn.Linear) else None,
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
    query_norm, turned = _norm(block.query_norm), block.rotary is not None
    if query_norm is not None:
        scale = block.config.head_dim**-0.5
        query_norm = replace(query_norm, weight=query_norm.weight * scale, bias=query_norm.bias * scale)
    return FoldedBlock(
        heads=block.heads,
        norm1=_norm(block.norm1),
        qkv=_float(qkv),
        proj=_float(proj),
        norm2=_norm(block.norm2),
        fc1=_float(fc1),
        fc2=_float(fc2),
        query_norm=query_norm,
        key_norm=_norm(block.key_norm),
        rotation=None if block.rotary is None else Rotation.of(block.config, block.rotary),
        score_bias=None if block.score_bias is None else block.score_bias.detach().float(),
        attention_norm=_norm(block.attention_norm),
        mlp_norm=_norm(block.mlp_norm),
        forbidden=BETWEEN_FORBIDS if turned or query_norm is not None else frozenset(),
    )


def _fold_attention(block: Block) -> tuple[Linear, Linear]:
    """qkv with the scale in the queries, and proj with the values' bias, unless norms stand in between; biases in float64."""
    qkv, proj = _of(block.qkv, block.proj.bias), _of(block.proj, block.proj.bias)
    if not block.heads:
        return qkv, proj
    inner = proj.weight.shape[1]
    weight, (queries, keys, values) = qkv.weight, qkv.bias.split(inner)
    if not isinstance(block.query_norm, nn.LayerNorm):
        scale = (inner // block.heads) ** -0.5
        weight, queries = torch.cat([(weight[:inner].double() * scale).float(), weight[inner:]]), queries * scale
    if not isinstance(block.attention_norm, nn.LayerNorm):
        proj, values = Linear(proj.weight, proj.bias + proj.weight.double() @ values), torch.zeros_like(values)
    return Linear(weight, torch.cat([queries, keys, values])), proj


def _fold_pool(pool: AttentionPool) -> FoldedPool:
    """The query is a constant, so scores are a product of tokens and a row for each head; keys' bias shifts all of them alike."""
    width, heads = len(pool.probe), pool.heads
    query = (pool.query.weight.double() @ pool.probe.double() + pool.query.bias.double()).detach().view(heads, -1)
    keys, values = pool.key_value.weight.detach().double().view(2, heads, -1, width)
    proj = _of(pool.proj, pool.proj.bias)
    bias = proj.bias + proj.weight.double() @ pool.key_value.bias.detach().double()[width:]
    norm = _norm(pool.norm)
    assert norm is not None
    return FoldedPool(
        scores=(torch.einsum("hd,hdc->hc", query, keys) * query.shape[1] ** -0.5).float(),
        values=values.transpose(1, 2).float().contiguous(),
        proj=_float(Linear(proj.weight, bias)),
        norm=norm,
        fc1=_float(_of(pool.fc1, pool.fc1.bias)),
        fc2=_float(_of(pool.fc2, pool.fc2.bias)),
    )


def _of(layer: nn.Module | None, writes: Tensor) -> Linear:
    """As it is, biases in float64; [0, width] for a layer that is not there, [width, 0] for one of which only a bias is left."""
    width = len(writes)
    if layer is None:
        return Linear(torch.zeros(0, width), torch.zeros(0, dtype=torch.float64))
    if isinstance(layer, Constant):
        return Linear(torch.zeros(width, 0), layer.bias.detach().double())
    linear = cast("nn.Linear", layer)
    return Linear(linear.weight.detach().float(), _bias(linear))


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
    weight, bias = layer.weight.detach().float().clone(), layer.bias.detach().float().clone()
    return Norm(weight, bias, layer.eps, centred=not isinstance(layer, RmsNorm))
