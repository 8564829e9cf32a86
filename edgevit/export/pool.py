"""Attention pooling: the head of SigLIP, in floating point. Its query is a constant, so keys need no product of their own."""

from __future__ import annotations

from collections.abc import Callable

from edgevit.export.nodes import Nodes
from edgevit.export.norms import write_norm
from edgevit.model.folded import FoldedPool, Linear
from edgevit.vitconfig import VitConfig

NAME = "head/pool"


def write_pool(
    nodes: Nodes, x: str, pool: FoldedPool, config: VitConfig, sizes: str | None, activation: Callable[[str, str], str]
) -> str:  # fmt: skip
    """Tokens [N, T, width], normed, to what is pooled of them, [N, width].

    ``sizes`` [N, 1, T] are the patches that each token stands for, None where each stands for itself.
    """
    (heads, width), depth = pool.scores.shape, pool.values.shape[-1]
    tokens, first = config.output_tokens, config.attended_from
    if first:
        x = _from(nodes, x, first, tokens, axis=1)
    scores = nodes.node("MatMul", f"{NAME}/scores", x, nodes.constant(f"{NAME}/scores/weight", pool.scores.T))
    scores = nodes.node("Transpose", f"{NAME}/scores", scores, perm=[0, 2, 1])
    if sizes is not None:
        log = nodes.node("Log", f"{NAME}/sizes", sizes)
        scores = nodes.node("Add", f"{NAME}/scores", scores, _from(nodes, log, first, tokens, axis=2) if first else log)
    mixed = nodes.node("MatMul", f"{NAME}/mix", nodes.node("Softmax", NAME, scores, axis=-1), x)
    apart = nodes.node("Reshape", f"{NAME}/apart", mixed, nodes.shape("shape/pool_apart", [-1, heads, 1, width]))
    values = nodes.node("MatMul", f"{NAME}/values", apart, nodes.constant(f"{NAME}/values/weight", pool.values))
    joined = nodes.node("Reshape", f"{NAME}/joined", values, nodes.shape("shape/pool_joined", [-1, heads * depth]))
    pooled = _linear(nodes, joined, pool.proj, f"{NAME}/proj")
    normed = write_norm(nodes, pooled, pool.norm, f"{NAME}/norm")
    hidden = activation(_linear(nodes, normed, pool.fc1, f"{NAME}/fc1"), f"{NAME}/act")
    return nodes.node("Add", f"{NAME}/residual", pooled, _linear(nodes, hidden, pool.fc2, f"{NAME}/fc2"))


def _from(nodes: Nodes, x: str, first: int, tokens: int, axis: int) -> str:
    ends = (nodes.constant(f"index/from_{first}", [first]), nodes.constant(f"index/end_{tokens}", [tokens]))
    return nodes.node("Slice", f"{x}/patches", x, *ends, nodes.constant(f"index/axis_{axis}", [axis]))


def _linear(nodes: Nodes, x: str, linear: Linear, name: str) -> str:
    product = nodes.node("MatMul", name, x, nodes.constant(f"{name}/weight", linear.weight.T))
    return nodes.node("Add", name, product, nodes.constant(f"{name}/bias", linear.bias))
