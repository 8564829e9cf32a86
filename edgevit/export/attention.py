"""softmax(q k^T) v of all heads, in each of the layouts that `edgevit.export.form.Form` names.

The query scale is in the weights; what comes in is the joint qkv [N, T, 3 * heads * head_dim], what goes out
[N, keep, heads * head_dim]. Only the queries of the first ``keep`` tokens count (the last block's may be one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from edgevit.export.nodes import Nodes
from edgevit.export.scored import NOTHING, Between, write_scored
from edgevit.model.quantplan import QuantizedAttention


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Sizes of one block's attention, and the steps of its quantized products (None: floating point)."""

    name: str
    """``blocks.3/attention``."""
    heads: int
    depth: int
    """Of one head."""
    tokens: int
    keep: int
    steps: QuantizedAttention | None
    bias: str | None = None
    """Added to scores: [N, 1, 1, tokens] where layout is rank5, [N, 1, tokens, tokens] op, [1, N, tokens, tokens]
    rank4, [N, 1, tokens] rank3.
    None adds nothing."""
    score_bias: Tensor | None = None
    """Added to scores, too: [heads, T, T] of all tokens but masked ones."""
    between: Between = NOTHING
    """Norms of queries and keys, and what turns them."""

    @property
    def width(self) -> int:
        """Of all heads together."""
        return self.heads * self.depth


def write_attention(nodes: Nodes, qkv: str, at: Heads) -> str:
    """Attention on a joint qkv, in the layout of ``nodes.form``."""
    layout = nodes.form.attention
    if layout == "rank5":
        # OpenVINO 2026.4 compiles rank5 wrongly where a block has as many heads as queries (openvinotoolkit/openvino#30666 is of
        # the same kind): its fused attention confuses the two axes. Split off before they are gathered, q, k and v are right.
        split = _split_joint if at.heads == at.keep else _split_rank5
        return _merge_batch_first(nodes, _products(nodes, split(nodes, qkv, at), at, rank=4), at)
    if layout == "op":
        return _merge_op(nodes, _attention_op(nodes, qkv, at), at)
    return merge_heads_first(nodes, split_heads_first(nodes, qkv, at), at)


def log_sizes(nodes: Nodes, sizes: str, name: str, tokens: int) -> str:
    """What is added to scores for ``sizes`` [N, 1, tokens], as `Heads.bias` has it; made once for all blocks behind a merge."""
    log = nodes.node("Log", name, sizes)
    layout = nodes.form.attention
    if layout == "rank3":
        return log
    shape = [1, -1, 1, tokens] if layout == "rank4" else [-1, 1, 1, tokens]
    bias = nodes.node("Reshape", f"{name}/bias", log, nodes.constant(f"shape/bias_{tokens}", shape))
    if layout == "rank5":
        return bias
    # A row for each query. ONNX Runtime's op takes no other; of one row for all TensorRT fuses FP16 attention, but not the
    # quantizer of an INT8 proj behind it, which is then a kernel in every block.
    return nodes.node("Add", f"{name}/bias", bias, nodes.constant(f"{name}/rows", np.zeros((tokens, 1))))


# rank5: one transposition, q, k and v gathered from it. Queries are cut before the products: OpenVINO computes fewer.


def _split_rank5(nodes: Nodes, qkv: str, at: Heads) -> tuple[str, str, str]:
    shape = nodes.shape(f"shape/heads_{at.heads}_{at.depth}", [0, at.tokens, 3, at.heads, at.depth])
    split = nodes.node("Reshape", f"{at.name}/split", qkv, shape)
    split = nodes.node("Transpose", f"{at.name}/split", split, perm=[2, 0, 3, 1, 4])
    q, k, v = (nodes.node("Gather", f"{at.name}/{part}", split, nodes.constant(f"index/{i}", np.int64(i)), axis=0)
               for i, part in enumerate("qkv"))  # fmt: skip
    return nodes.first_tokens(q, at.keep, at.tokens, f"{at.name}/q", axis=2), k, v


def _split_joint(nodes: Nodes, qkv: str, at: Heads) -> tuple[str, str, str]:
    """q, k and v as [N, heads, T, depth], parts of one [N, 3 * heads, T, depth]; the queries cut to those that count."""
    q, k, v = _joint_parts(nodes, qkv, at)
    return nodes.first_tokens(q, at.keep, at.tokens, f"{at.name}/q", axis=2), k, v


def _joint_parts(nodes: Nodes, qkv: str, at: Heads) -> tuple[str, ...]:
    shape = nodes.shape(f"shape/joint_{at.heads}_{at.depth}", [0, at.tokens, 3 * at.heads, at.depth])
    split = nodes.node("Transpose", f"{at.name}/split", nodes.node("Reshape", f"{at.name}/split", qkv, shape), perm=[0, 2, 1, 3])
    return nodes.node_with(
        "Split", f"{at.name}/split", tuple(f"{at.name}/{part}" for part in "qkv"), split, axis=1, num_outputs=3
    )


def _merge_batch_first(nodes: Nodes, mixed: str, at: Heads) -> str:
    """Heads [N, heads, keep, depth] merged to [N, keep, width]."""
    flat = nodes.shape(f"shape/flat_{at.keep}_{at.width}", [0, at.keep, at.width])
    return nodes.node("Reshape", f"{at.name}/merge", nodes.node("Transpose", f"{at.name}/merge", mixed, perm=[0, 2, 1, 3]), flat)


# rank4 and rank3: heads come first, the batch second or within them. TensorRT then reads q, k and v out of qkv's product
# where it lies, and merging is one transposition of rank 3 in either.


def split_heads_first(nodes: Nodes, qkv: str, at: Heads) -> tuple[str, str, str]:
    """q, k and v of a joint qkv as [heads, N, T, depth] or [heads * N, T, depth]."""
    rows = nodes.shape(f"shape/rows_{3 * at.heads}_{at.depth}", [-1, 3 * at.heads, at.depth])
    split = nodes.node("Transpose", f"{at.name}/split", nodes.node("Reshape", f"{at.name}/split", qkv, rows), perm=[1, 0, 2])
    parts = nodes.node_with(
        "Split", f"{at.name}/split", tuple(f"{at.name}/{part}" for part in "qkv"), split, axis=0, num_outputs=3
    )
    q, k, v = (nodes.node("Reshape", part, part, _heads_shape(nodes, at)) for part in parts)
    return q, k, v


def heads_first(nodes: Nodes, part: str, at: Heads, name: str, bias: str | None = None) -> str:
    """One of q, k, v [N, T, width] as [heads, N, T, depth] or [heads * N, T, depth]; ``bias`` is [heads, 1, depth]."""
    rows = nodes.shape(f"shape/rows_{at.heads}_{at.depth}", [-1, at.heads, at.depth])
    x = nodes.node("Transpose", f"{name}/heads", nodes.node("Reshape", f"{name}/rows", part, rows), perm=[1, 0, 2])
    if bias is not None:  # behind the transposition: in front of it TensorRT fuses less
        x = nodes.node("Add", name, x, bias)
    return nodes.node("Reshape", name, x, _heads_shape(nodes, at))


def merge_heads_first(nodes: Nodes, parts: tuple[str, str, str], at: Heads) -> str:
    """The products on q, k, v as `split_heads_first` gives them, and their heads merged."""
    rank = 4 if nodes.form.attention == "rank4" else 3
    mixed = _products(nodes, parts, at, rank=rank)
    # Cut here, not at the queries: TensorRT's fused attention takes as many queries as keys.
    mixed = nodes.first_tokens(mixed, at.keep, at.tokens, f"{at.name}/kept", axis=rank - 2)
    unfold = nodes.shape(f"shape/unfold_{at.heads}_{at.depth}", [at.heads, -1, at.depth])
    mixed = nodes.node("Transpose", f"{at.name}/merge", nodes.node("Reshape", f"{at.name}/unfold", mixed, unfold), perm=[1, 0, 2])
    return nodes.node(
        "Reshape", f"{at.name}/merge", mixed, nodes.shape(f"shape/merged_{at.keep}_{at.width}", [-1, at.keep, at.width])
    )


def _heads_shape(nodes: Nodes, at: Heads) -> str:
    if nodes.form.attention == "rank4":
        return nodes.shape(f"shape/heads_first_{at.heads}_{at.depth}", [at.heads, -1, at.tokens, at.depth])
    return nodes.shape(f"shape/heads_first_{at.depth}", [-1, at.tokens, at.depth])


# op: the ONNX Attention node, on [N, heads, T, depth].


def _attention_op(nodes: Nodes, qkv: str, at: Heads) -> str:
    if at.steps is not None:
        msg = f"{at.name}: the Attention op has no place for the Q/DQ pair behind softmax; write INT8 attention in another layout"
        raise ValueError(msg)
    q, k, v = _joint_parts(nodes, qkv, at)
    q, k = write_scored(nodes, q, k, at.between, at.name, heads=at.heads, tokens=at.tokens, keep=at.keep)
    bias = () if at.bias is None else (at.bias,)
    if at.score_bias is not None:
        own = nodes.constant(f"{at.name}/score_bias", _padded(at)[None])
        bias = (nodes.node("Add", f"{at.name}/bias", own, at.bias),) if at.bias is not None else (own,)
    return nodes.node("Attention", at.name, q, k, v, *bias, scale=1.0)


def _merge_op(nodes: Nodes, mixed: str, at: Heads) -> str:
    mixed = nodes.first_tokens(mixed, at.keep, at.tokens, f"{at.name}/kept", axis=2)
    return _merge_batch_first(nodes, mixed, at)


# The two products, of whatever rank.


def _products(nodes: Nodes, parts: tuple[str, str, str], at: Heads, *, rank: int) -> str:
    (q, k, v), steps, name = parts, at.steps, at.name
    q, k = write_scored(nodes, q, k, at.between, name, heads=at.heads, tokens=at.tokens, keep=at.keep)
    if steps is not None:
        q = nodes.fake_quantized(q, steps.query_step, f"{name}/q", steps.format)
        # In front of the transpose: OpenVINO fuses MatMul and Transpose, with a Q/DQ between them it does not.
        k = nodes.fake_quantized(k, steps.key_step, f"{name}/k", steps.format)
    k = nodes.node("Transpose", f"{name}/k", k, perm=[0, 1, 3, 2] if rank == 4 else [0, 2, 1])
    scores = nodes.node("MatMul", f"{name}/scores", q, k)
    if at.bias is not None:
        bias = at.bias
        if rank == 3 and nodes.form.batch != 1:  # heads and frames are one axis
            bias = nodes.node("Concat", f"{name}/bias", *[bias] * at.heads, axis=0)
        scores = nodes.node("Add", f"{name}/scores", scores, bias)
    if at.score_bias is not None:
        scores = _with_own_bias(nodes, scores, at)
    probabilities = nodes.node("Softmax", name, scores, axis=-1)
    if steps is not None and steps.value_step is not None and steps.probability_step is not None:
        probabilities = nodes.fake_quantized(probabilities, steps.probability_step, f"{name}/probabilities", steps.format)
        v = nodes.fake_quantized(v, steps.value_step, f"{name}/v", steps.format)
    return nodes.node("MatMul", f"{name}/mix", probabilities, v)


def _with_own_bias(nodes: Nodes, scores: str, at: Heads) -> str:
    """``scores`` with a bias for each head and pair of tokens."""
    layout, name, bias = nodes.form.attention, f"{at.name}/score_bias", _padded(at)
    if layout == "rank5":
        return nodes.node("Add", name, scores, nodes.constant(name, bias[None, :, : at.keep]))
    if layout == "rank4" or nodes.form.batch == 1:
        return nodes.node("Add", name, scores, nodes.constant(name, bias[:, None] if layout == "rank4" else bias))
    # Heads and frames are one axis: apart for the addition.
    apart = nodes.shape(f"shape/scores_apart_{at.heads}_{at.tokens}", [at.heads, -1, at.tokens, at.tokens])
    added = nodes.node("Add", name, nodes.node("Reshape", f"{name}/apart", scores, apart), nodes.constant(name, bias[:, None]))
    return nodes.node("Reshape", f"{name}/joined", added, nodes.shape(f"shape/scores_{at.tokens}", [-1, at.tokens, at.tokens]))


def _padded(at: Heads) -> Tensor:
    """The own bias, with nothing for masked tokens."""
    assert at.score_bias is not None
    more = at.tokens - at.score_bias.shape[-1]
    return F.pad(at.score_bias, (0, more, 0, more))
