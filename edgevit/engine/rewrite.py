"""One TensorRT graph rewritten on the device: with less in INT8, or more in FP32, than it was built with.

What to compile is decided where a model is built; which of two graphs is faster, and whether this TensorRT computes one
rightly, is found where it runs. There is no torch and no onnx there, so the file itself is changed. Names are those that
`edgevit.export` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edgevit.engine.onnx_nodes import FLOAT16, Node, cast, nodes_of, with_nodes
from edgevit.onnxfile import FLOAT

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def quantized(model: bytes) -> tuple[str, ...]:
    """What ``model``, ONNX, rounds to INT8, in order: ``blocks.3/fc1``, its input; ``blocks.3/attention/q``, an operand."""
    return tuple(node.name.removesuffix(f"/{_QUANTIZE}") for node in nodes_of(model) if node.op == _QUANTIZE)


def int8_attention(model: bytes) -> tuple[str, ...]:
    """Blocks of ``model``, ONNX, whose attention is in INT8, such as ``blocks.3``, in order."""
    found = (name.partition("/attention/") for name in quantized(model))
    return tuple(dict.fromkeys(block for block, inside, _ in found if inside))


def float_attention(model: bytes) -> bytes:
    """``model``, ONNX, with the attention of all blocks in floating point: its Q/DQ pairs are left out."""
    return _without_pairs(model, lambda name: "/attention/" in name)


def float_block(model: bytes, block: str) -> bytes:
    """``model``, ONNX, with ``block``, such as ``blocks.3``, in floating point, but for its weights, which stay rounded to INT8.

    Those are then dequantized on every frame: right, and slower.
    """
    return _without_pairs(model, lambda name: name.startswith(f"{block}/"))


def in_fp32(model: bytes, op: str) -> bytes:
    """``model``, ONNX in FP16, with every ``op`` (``Softmax``, ``LayerNormalization``) computed in FP32, between casts."""
    return with_nodes(model, (new for node in nodes_of(model) for new in (_between_casts(node) if node.op == op else (node,))))


def _without_pairs(model: bytes, where: Callable[[str], bool]) -> bytes:
    """Without the QuantizeLinear nodes whose names ``where`` admits, and the DequantizeLinear behind each."""
    source: dict[str, str] = {}  # a tensor that is gone, and the one in its place
    kept = []
    for node in nodes_of(model):
        if (node.op == _QUANTIZE and where(node.name)) or (node.op == _DEQUANTIZE and node.inputs[0] in source):
            source[node.outputs[0]] = source.get(node.inputs[0], node.inputs[0])
        else:
            kept.append(node.renamed(source))
    return with_nodes(model, kept)


def _between_casts(node: Node) -> Iterable[Node]:
    wide = {tensor: f"{node.name}/{tensor}/fp32" for tensor in node.inputs if tensor}
    for tensor, name in wide.items():
        yield cast(tensor, name, FLOAT)
    (made,) = node.outputs
    result = f"{node.name}/fp32"
    yield node.renamed(wide | {made: result}, outputs=True)
    yield cast(result, made, FLOAT16)
