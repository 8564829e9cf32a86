"""What is no float classifier of images in ONNX, told before the graph is walked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgevit.errors import CheckpointError
from edgevit.model.onnxin.file import OnnxFile

if TYPE_CHECKING:
    import onnx

QUANTIZED = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "QAttention", "QGemm", "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "QMoE", "GatherBlockQuantized",
})  # fmt: skip
_INTEGER_WEIGHTS = {2: "UINT8", 3: "INT8", 17: "FLOAT8", 18: "FLOAT8", 19: "FLOAT8", 20: "FLOAT8", 21: "UINT4", 22: "INT4",
                    23: "FLOAT4"}  # fmt: skip
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
_OF_A_PROCESSOR = "com.microsoft.nchwc"
OLDEST = 9
_OWN = "edgevit"
_FLOATS = {1: "float32", 2: "uint8", 10: "float16", 11: "float64", 16: "bfloat16"}


def require_float_classifier(file: OnnxFile) -> onnx.ValueInfoProto:
    """The one input, images. Raises CheckpointError, in a line with the next step, for what cannot be read."""
    operators = Counter(_operators(file.model.graph))
    if file.model.producer_name == _OWN:
        _refuse(file, "a graph that edgevit wrote, folded for its engines. Give the checkpoint that it was built from")
    _refuse_quantized(file, operators)
    if file.model.training_info:
        _refuse(file, "it holds training graphs. Export the model for inference: model.eval()")
    foreign = sorted({f"{domain}.{name}" for domain, name in operators if domain not in DOMAINS})
    if any(domain == _OF_A_PROCESSOR for domain, _ in operators):
        what = "ONNX Runtime optimized it for one kind of processor (ORT_ENABLE_ALL)"
        _refuse(file, f"{what}. Give the export that it was made from, or optimize with ORT_ENABLE_EXTENDED")
    if foreign:
        _refuse(file, f"it uses {foreign[0]}, an operator that is not ONNX's own. Export the model without custom operators")
    if file.opset < OLDEST:
        _refuse(file, f"it is of opset {file.opset}, and edgevit reads {OLDEST} and later. Export it again with a newer opset")
    return _input(file)


def looks_like(operators: Counter[str]) -> str:
    """What a graph is whose blocks are none of a ViT's, by the operators that depend on its input."""
    convolutions, softmax = operators["Conv"], operators["Softmax"]
    attends = softmax > 1 or operators["Attention"] or operators["MultiHeadAttention"]
    if convolutions > 2 and not attends:
        return f"it looks like a convolutional network ({convolutions} Conv, no attention), and edgevit reads plain ViTs"
    if convolutions > 2:
        return f"it looks like a mixture of convolutions ({convolutions}) and attention, and edgevit reads plain ViTs"
    if not attends:
        return "it has no attention, so it is no Vision Transformer"
    return ""


def hierarchy(graph: onnx.GraphProto) -> str:
    """What norms of several widths say: a model in stages, each twice as wide as the one before."""
    sizes = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 1}
    normed = {sizes[node.input[1]] for node in graph.node if node.op_type == "LayerNormalization" and node.input[1] in sizes}
    stages = sorted(width for width in normed if 2 * width in normed or (width % 2 == 0 and width // 2 in normed))
    if not stages:
        return ""
    widths = ", ".join(map(str, stages))
    return f"it looks like a model in stages (norms of {widths} channels: Swin, PVT, ...), and edgevit reads plain ViTs"


def _refuse_quantized(file: OnnxFile, operators: Counter[tuple[str, str]]) -> None:
    found = sorted({name for _, name in operators if name in QUANTIZED or name.startswith("QLinear")})
    weights = [tensor for tensor in file.model.graph.initializer if tensor.data_type in _INTEGER_WEIGHTS and len(tensor.dims) > 1]
    if not found and not weights:
        return
    how = found[0] if found else f"weights of type {_INTEGER_WEIGHTS[weights[0].data_type]}: {weights[0].name!r}"
    _refuse(file, f"quantized already ({how}), and edgevit starts from float weights. Give the float model that it was made from")


def _input(file: OnnxFile) -> onnx.ValueInfoProto:
    graph = file.model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(item.name for item in inputs) or "none"
        _refuse(
            file, f"it has {len(inputs)} inputs ({names}), and a classifier of images has one. Export the image classifier alone"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type not in _FLOATS or not tensor.HasField("shape") or len(tensor.shape.dim) != 4:
        rank = len(tensor.shape.dim)
        kind = _FLOATS.get(tensor.elem_type, f"type {tensor.elem_type}")
        _refuse(
            file,
            f"its input {inputs[0].name!r} is of {kind} and {rank} dimensions, so no batch of images. Give an image classifier",
        )
    return inputs[0]


def input_kind(item: onnx.ValueInfoProto) -> str:
    """The input's type, in NumPy's words."""
    return _FLOATS[item.type.tensor_type.elem_type]


def _operators(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _operators(attribute.g)


def _refuse(file: OnnxFile, what: str) -> None:
    msg = f"{file.path}: {what}."
    raise CheckpointError(msg)
