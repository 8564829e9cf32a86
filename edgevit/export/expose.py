"""An ONNX graph with its attention weights as further outputs: what an engine then gives is what it really used."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx
from onnx import helper

from edgevit.export.parsing import parsed, walking

_SOFTMAX = re.compile(r"blocks\.(\d+)/attention(/Softmax)?$")
_PLACE = re.compile(r"blocks\.(\d+)/merge/place/Where$")


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A graph with more outputs than logits."""

    model: bytes
    attention: dict[int, str]
    """Outputs with attention weights [N, heads, queries, tokens], by block, in order."""
    places: dict[int, str]
    """Outputs [N, tokens, 1] that tell which new token each becomes part of behind attention, by block that merges."""


def with_attention(model: bytes) -> Exposed:
    """``model`` with each block's attention weights exposed, and what its merges make of tokens.

    Where the weights are rounded to INT8 before they meet the values, the rounded ones are given. A block without a
    softmax of its own (fused into one node, or pruned away) is left out. Raises ValueError if none has one,
    EngineError for what is no graph of edgevit's.
    """
    proto = parsed(model)
    with walking():
        found = _softmaxes(proto.graph)
        dtype = proto.graph.node[0].attribute[0].i if proto.graph.node[0].op_type == "Cast" else onnx.TensorProto.FLOAT
        names = (name for node in proto.graph.node for name in node.output)
        places = {int(match[1]): match[0] for name in names if (match := _PLACE.match(name))}
        outputs = (*found.values(), *places.values())
        proto.graph.output.extend(helper.make_tensor_value_info(name, dtype, None) for name in outputs)
        content: bytes = proto.SerializeToString(deterministic=True)
    if not found:
        msg = "no block of this graph has a softmax of its own"
        raise ValueError(msg)
    return Exposed(model=content, attention=dict(sorted(found.items())), places=dict(sorted(places.items())))


def _softmaxes(graph: onnx.GraphProto) -> dict[int, str]:
    """Each block's attention weights, by name."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[int, str] = {}
    for node in graph.node:
        match = _SOFTMAX.match(node.name)
        if node.op_type == "Softmax" and match:
            found[int(match[1])] = _used(node.output[0], readers)
    return found


def _used(name: str, readers: dict[str, list[onnx.NodeProto]]) -> str:
    """The tensor behind a Q/DQ pair on ``name``, if there is one."""
    for operation in ("QuantizeLinear", "DequantizeLinear"):
        behind = [node for node in readers.get(name, ()) if node.op_type == operation]
        if not behind:
            return name
        name = behind[0].output[0]
    return name
