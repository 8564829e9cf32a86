"""The ViT as the written graph has it, with everything folded into weights that can be (`edgevit.model.rewrites.folding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from edgevit.model.merging import Merge, Tokens, compared, matched
from edgevit.model.rewrites.kinds import Rewrite
from edgevit.model.rotary import Rotation
from edgevit.model.vit import ACTIVATIONS, activated, rms_norm
from edgevit.part import LINEARS, Part
from edgevit.vitconfig import VitConfig


@dataclass
class Norm:
    """LayerNorm, or RMSNorm: weight and bias [width] float32."""

    weight: Tensor
    bias: Tensor
    eps: float
    centred: bool = True
    """Whether the mean is subtracted first; not in RMSNorm."""

    def to(self, device: torch.device) -> Norm:
        """The same on ``device``."""
        return replace(self, weight=self.weight.to(device), bias=self.bias.to(device))


@dataclass(frozen=True)
class Factors:
    """What a weight [out, in] is scaled by."""

    values: Tensor
    """float32 [in] or [out]."""
    rows: bool
    """Whether rows are divided by ``values``; else columns are multiplied by them."""


@dataclass
class Linear:
    """y = x weight^T + bias; bias [out], float32.

    What scales a weight is kept beside it and multiplied out where the weight is read, which is hardly ever once it is INT8: a
    plan holds no second copy of the model.
    """

    stored: Tensor
    """float32 [out, in], without the factors."""
    bias: Tensor
    factors: tuple[Factors, ...] = ()

    @property
    def weight(self) -> Tensor:
        """float32 [out, in]"""
        weight = self.stored
        for factors in self.factors:
            weight = weight / factors.values[:, None] if factors.rows else weight * factors.values
        return weight

    @property
    def outputs(self) -> int:
        """Rows of the weight."""
        return self.stored.shape[0]

    @property
    def inputs(self) -> int:
        """Columns of the weight."""
        return self.stored.shape[1]

    def scaled(self, factors: Factors, bias: Tensor) -> Linear:
        """The same with its weight scaled, and another bias."""
        return Linear(self.stored, bias, (*self.factors, factors))

    def to(self, device: torch.device) -> Linear:
        """The same on ``device``."""
        factors = tuple(replace(each, values=each.values.to(device)) for each in self.factors)
        return Linear(self.stored.to(device), self.bias.to(device), factors)


@dataclass
class FoldedBlock:
    """One block: qkv [3 * heads * head_dim, width], proj, fc1, fc2; norms are None where a ViT has none.

    fc1 of a gated MLP has a row for the gate of each hidden neuron, then one for each neuron.
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
    query_norm: Norm | None = None
    """Of each head's queries, [head_dim]; the attention scale is in it then."""
    key_norm: Norm | None = None
    rotation: Rotation | None = None
    """By what queries and keys are turned."""
    score_bias: Tensor | None = None
    """Added to scores [heads, T, T]; T is all tokens."""
    attention_norm: Norm | None = None
    """Of what proj reads, [inner]."""
    mlp_norm: Norm | None = None
    """Of what fc2 reads, [hidden]."""
    forbidden: frozenset[Rewrite] = frozenset()
    """Rewrites that what lies between the GEMMs forbids, and that these weights do not show."""

    @property
    def linears(self) -> dict[str, Linear]:
        """The GEMMs that there are, by kind."""
        found: dict[str, Linear] = {kind: getattr(self, kind) for kind in LINEARS}
        return {kind: linear for kind, linear in found.items() if linear.stored.numel()}

    @property
    def hidden(self) -> int:
        """Hidden neurons."""
        return self.fc2.inputs if self.fc1.outputs else 0

    @property
    def gated(self) -> bool:
        """Whether the MLP is a gated one."""
        return self.fc1.outputs == 2 * self.hidden > 0

    def to(self, device: torch.device) -> FoldedBlock:
        """The same on ``device``."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: part.to(device) for name, part in parts.items() if hasattr(part, "to")})

    def norm_of(self, kind: str) -> str | None:
        """The norm that delivers the input of GEMM ``kind``, by its name here; None if something else does."""
        if kind == "qkv" or (kind == "proj" and not self.heads):
            return "norm1"
        if kind == "fc1" or (kind == "fc2" and not self.fc1.outputs):
            return "norm2"
        inner = {"proj": "attention_norm", "fc2": "mlp_norm"}[kind]
        return None if getattr(self, inner) is None else inner


@dataclass
class FoldedPool:
    """Attention pooling: the query is a constant, so scores are one product with the tokens, and only averages of tokens are
    values. All float32.
    """

    scores: Tensor
    """[heads, width]: of each head, the query times the keys' weights, with the attention scale."""
    values: Tensor
    """[heads, width, head_dim]: of each head, the values' weights; their bias is in proj's."""
    proj: Linear
    norm: Norm
    fc1: Linear
    fc2: Linear


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
    pool: FoldedPool | None = None
    projection: Linear | None = None
    patch_norm: Norm | None = None
    """Of patches, before positions; ``patch_bias`` [width] is theirs then, and not in ``positions``."""
    patch_bias: Tensor | None = None


def placed(model: FoldedVit, index: int, device: torch.device) -> FoldedVit:
    """``model`` with block ``index`` on ``device``, to run that there: where it is not, memory for one block is enough."""
    return replace(model, blocks=[block.to(device) if i == index else block for i, block in enumerate(model.blocks)])


LinearOp = Callable[[Part, Tensor, Linear], Tensor]
AttentionOp = Callable[[Part, Tensor, Tensor, Tensor, Tensor | None], Tensor]


def plain_linear(_part: Part | None, x: Tensor, linear: Linear) -> Tensor:
    """The float GEMM: x [..., in] to [..., out]."""
    return F.linear(x, linear.weight, linear.bias)


def plain_attention(
    _part: Part | None, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None
) -> Tensor:  # fmt: skip
    """softmax(q k^T + bias) v over [N, heads, tokens, head_dim]; the scale is in the queries, ``bias`` as scores need it."""
    return scores(queries, keys, bias).softmax(-1) @ values


def scores(queries: Tensor, keys: Tensor, bias: Tensor | None = None) -> Tensor:
    """q k^T + bias, what softmax gets."""
    product = queries @ keys.transpose(-1, -2)
    return product if bias is None else product + bias


@torch.inference_mode()
def forward(
    model: FoldedVit, frames: Tensor, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Tensor:
    """Logits [N, classes] of uint8 frames [N, H, W, 3], computed as the written graph computes them.

    Every GEMM of every block goes through ``linear(part, x, weights)``, and the two products of every
    attention through ``attention(part, q, k, v, bias)``: statistics, fake quantization and sensitivity replace these two.
    ``bias`` is what is added to scores: that of `Tokens` behind the first block that merges some, the block's own for each head
    and pair of tokens, or None.
    In the last block only the tokens that the head depends on are carried on.
    """
    *_, last = streams(model, frames, linear, attention)
    return run_head(model, last)


@torch.inference_mode()
def streams(
    model: FoldedVit, frames: Tensor, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Iterator[Tokens]:
    """The residual stream of `forward`, place by place: the embedding [N, T, width], then what each block gives."""
    tokens = embed(model, frames)
    yield tokens
    for i in range(len(model.blocks)):
        tokens = run_block(model, i, tokens, linear, attention)
        yield tokens


@torch.inference_mode()
def embed(model: FoldedVit, frames: Tensor) -> Tokens:
    """Tokens [N, T, width] of uint8 frames: what block 0 takes."""
    return Tokens(positioned(model, patch_product(model, frames)))


@torch.inference_mode()
def patch_product(model: FoldedVit, frames: Tensor) -> Tensor:
    """Patches of uint8 frames times the patch weights [N, patches, width]: the first GEMM."""
    return _patches(frames, model.config) @ model.patch.T


@torch.inference_mode()
def positioned(model: FoldedVit, product: Tensor) -> Tensor:
    """Tokens [N, T, width] from that: prefix tokens, positions and an embedding norm, if there is one."""
    if model.patch_bias is not None:
        product = layer_norm(product + model.patch_bias, model.patch_norm)
    return layer_norm(F.pad(product, (0, 0, model.config.prefix_tokens, 0)) + model.positions, model.embedding_norm)


@torch.inference_mode()
def run_block(
    model: FoldedVit, index: int, tokens: Tokens, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Tokens:
    """Block ``index`` of `forward`; as many tokens leave it as `VitConfig.tokens_after` says."""
    behind = run_attention(model, index, tokens, linear, attention)
    return run_mlp(model, index, merged_behind(model, index, tokens, behind), linear)


@torch.inference_mode()
def run_attention(
    model: FoldedVit, index: int, tokens: Tokens, linear: LinearOp = plain_linear, attention: AttentionOp = plain_attention
) -> Tokens:
    """The tokens behind attention of block ``index``; none of them are merged yet."""
    block, keep = model.blocks[index], model.config.tokens_attended(index)
    mixed = attention_inputs(tokens, block, index, linear, attention, keep)
    return tokens.with_x(tokens.x[:, :keep] + written(linear, Part(index, "proj"), mixed, block.proj))


@torch.inference_mode()
def run_mlp(model: FoldedVit, index: int, tokens: Tokens, linear: LinearOp = plain_linear) -> Tokens:
    """The tokens behind the MLP of block ``index``, of those in front of it."""
    block = model.blocks[index]
    hidden = mlp_inputs(tokens.x, block, index, model.config, linear)
    return tokens.with_x(tokens.x + written(linear, Part(index, "fc2"), hidden, block.fc2))


def merged_behind(model: FoldedVit, index: int, before: Tokens, behind: Tokens) -> Tokens:
    """The tokens ``behind`` attention of block ``index`` as its MLP gets them: ``before`` attention says which become one."""
    merge = merge_of(model, index, before)
    return behind if merge is None else behind.merged(merge)


def merge_of(model: FoldedVit, index: int, before: Tokens) -> Merge | None:
    """Which of the tokens that block ``index`` takes become one behind its attention; None in a block that merges none."""
    config, merged = model.config, model.config.blocks[index].merged
    if not merged:
        return None
    return matched(compared(before.x), prefix=config.prefix_tokens, merged=merged, places=config.rotary is not None)


def _patches(frames: Tensor, config: VitConfig) -> Tensor:
    (rows, columns), side = config.grid, config.patch_size
    cells = frames.reshape(-1, rows, side, columns, side * 3).transpose(2, 3)
    return cells.reshape(-1, rows * columns, side * side * 3).float()


def attention_inputs(
    tokens: Tokens, block: FoldedBlock, index: int, linear: LinearOp, attention: AttentionOp, keep: int
) -> Tensor:  # fmt: skip
    """What proj reads [N, keep, inputs], of tokens [N, T, width]: all heads' outputs, or what is left instead."""
    x = tokens.x
    if not block.heads:
        return _tokens_for(block.proj, x[:, :keep], block.norm1)
    n, t, _ = x.shape
    qkv = linear(Part(index, "qkv"), layer_norm(x, block.norm1), block.qkv)
    q, k, v = qkv.view(n, t, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    q, k = (scored(block, part, norm, tokens.places) for part, norm in ((q[:, :, :keep], block.query_norm), (k, block.key_norm)))
    mixed = attention(Part(index, "attention"), q, k, v, _added(block, tokens, keep))
    return layer_norm(mixed.transpose(1, 2).reshape(n, keep, -1), block.attention_norm)


def _added(block: FoldedBlock, tokens: Tokens, keep: int) -> Tensor | None:
    """What is added to scores: for all heads and queries alike [N, 1, 1, T], or [1, heads, keep, T]; None if there is nothing."""
    if block.score_bias is None:
        return tokens.bias
    own = block.score_bias[None, :, :keep]
    return own if tokens.bias is None else own + tokens.bias


def scored(block: FoldedBlock, x: Tensor, norm: Norm | None, places: Tensor | None = None) -> Tensor:
    """Queries or keys [N, heads, T, head_dim] as scores take them: behind their ``norm``, and turned; ``places`` as `Tokens`."""
    x = layer_norm(x, norm)
    return x if block.rotation is None else block.rotation(x, places)


def mlp_inputs(x: Tensor, block: FoldedBlock, index: int, config: VitConfig, linear: LinearOp) -> Tensor:
    """What fc2 reads [N, T, inputs], of tokens [N, T, width]: the hidden activations, or what is left instead."""
    if not block.fc1.outputs:
        return _tokens_for(block.fc2, x, block.norm2)
    expanded = linear(Part(index, "fc1"), layer_norm(x, block.norm2), block.fc1)
    return layer_norm(activated(ACTIVATIONS[config.activation], expanded, gated=block.gated), block.mlp_norm)


def _tokens_for(writer: Linear, x: Tensor, norm: Norm | None) -> Tensor:
    """Normalised tokens for an affine map, none of their channels for a bias."""
    return layer_norm(x, norm) if writer.inputs else x[..., :0]


def written(linear: LinearOp, part: Part, x: Tensor, writer: Linear) -> Tensor:
    """What proj or fc2 adds to the residual stream; of one without columns its bias [width]."""
    return linear(part, x, writer) if writer.inputs else writer.bias


@torch.inference_mode()
def run_head(model: FoldedVit, tokens: Tokens) -> Tensor:
    """Logits [N, classes] of the last block's tokens."""
    return plain_linear(None, head_features(model, tokens), model.head)


def head_features(model: FoldedVit, tokens: Tokens) -> Tensor:
    """What the head sees [N, features] of the last block's tokens."""
    features = pooled_features(model, before_pooling(model, tokens))
    if model.config.final_norm == "after_pooling":
        features = layer_norm(features, model.final_norm)
    if model.projection is not None:
        features = plain_linear(None, features, model.projection)
    return F.normalize(features, dim=-1) if model.config.unit_features else features


def before_pooling(model: FoldedVit, tokens: Tokens) -> Tokens:
    """The last block's tokens, behind the final norm where it comes before pooling."""
    first = model.config.final_norm == "before_pooling"
    return tokens.with_x(layer_norm(tokens.x, model.final_norm)) if first else tokens


def pooled_features(model: FoldedVit, tokens: Tokens) -> Tensor:
    """What is pooled of the last tokens, normed where the norm comes first: [N, len(pooling) * width]."""
    config = model.config
    if model.pool is not None:
        return attended(model.pool, tokens, config)["pooled"]
    features = {"class": lambda: tokens.x[:, 0], "distillation": lambda: tokens.x[:, 1],
                "mean": lambda: tokens.mean(config.prefix_tokens)}  # fmt: skip
    return torch.cat([features[name]() for name in config.pooling], dim=-1)


def attended(pool: FoldedPool, tokens: Tokens, config: VitConfig) -> dict[str, Tensor]:
    """Attention pooling, place by place: ``scores`` [N, heads, T], what ``proj`` and ``fc1`` give, and ``pooled`` [N, width]."""
    x, bias = tokens.x[:, config.attended_from :], tokens.bias
    scores = (x @ pool.scores.T).transpose(1, 2)
    if bias is not None:
        scores = scores + bias[:, 0, :, config.attended_from :]
    mixed = (scores.softmax(-1) @ x)[:, :, None] @ pool.values
    projected = plain_linear(None, mixed.flatten(1), pool.proj)
    expanded = plain_linear(None, layer_norm(projected, pool.norm), pool.fc1)
    pooled = projected + plain_linear(None, ACTIVATIONS[config.activation](expanded), pool.fc2)
    return {"scores": scores, "proj": projected, "fc1": expanded, "pooled": pooled}


def layer_norm(x: Tensor, norm: Norm | None) -> Tensor:
    """``x`` [..., width] behind ``norm``; as it is without one."""
    if norm is None:
        return x
    if not norm.centred:
        return rms_norm(x, norm.weight, norm.bias, norm.eps)
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
