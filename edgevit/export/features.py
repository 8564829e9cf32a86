"""From what is pooled to what the head sees: a projection, and features of length 1, as CLIP compares images with texts."""

from __future__ import annotations

from edgevit.export.nodes import Nodes, element_type
from edgevit.model.folded import FoldedVit
from edgevit.numberformat import FP32, NumberFormat

NAME = "head/features"


def head_format(model: FoldedVit, nodes: Nodes) -> NumberFormat:
    """What the head computes in: FP32 where logits are cosines, which CLIP scales by 100 and FP16 would round to 0.06."""
    return FP32 if model.config.unit_features else nodes.format


def write_features(nodes: Nodes, pooled: str, model: FoldedVit) -> str:
    """Pooled features [N, pooled] to [N, features], in `head_format`."""
    to = head_format(model, nodes)
    x = pooled if to == nodes.format else nodes.node("Cast", NAME, pooled, to=element_type(to))
    if model.projection is not None:
        weight = nodes.constant("head/projection/weight", model.projection.weight.T, to)
        x = nodes.node("MatMul", "head/projection", x, weight)
        if bool(model.projection.bias.any()):
            x = nodes.node("Add", "head/projection", x, nodes.constant("head/projection/bias", model.projection.bias, to))
    if not model.config.unit_features:
        return x
    length = nodes.node("ReduceL2", NAME, x, nodes.constant("index/axes_1", [1]), keepdims=1)
    return nodes.node("Div", NAME, x, length)
