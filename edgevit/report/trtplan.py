"""The plan that TensorRT compiled: kernels, what they compute in, what they move, and what is wrong with it.

Read from the builder's verbose log, which lists every layer, or from the engine inspector's JSON on a
machine with a GPU. Counts and bytes compare graphs with each other; they are not milliseconds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

BYTES = {"float": 4, "half": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "bool": 1, "fp8": 1, "int32": 4, "int64": 8}
_NAMES = {"fp32": "float", "fp16": "half", "bf16": "bfloat16", "boolean": "bool"}
_HEAD = re.compile(r"Name: (.*?), LayerType: (\w+),")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Inputs|Constants|Outputs|TacticName|StreamId|Metadata)|$)")
_TENSOR = re.compile(r"Name: ([^,]*), .*?Dimensions: \[([\d,-]*)\].*?Datatype: (\w+)")
_CONSTANT = re.compile(r"dconst|[Cc]onstant|_(alpha|beta)\b")  # names of constants that a builder lists among the inputs
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_NO_KERNELS = ("signal", "wait", "shape_call", "no_op", "noop")
WEIGHT_SIZE = 16384  # elements from which a constant is a weight and not a bias, a scale or a norm


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor that a kernel reads or writes."""

    shape: tuple[int, ...]
    dtype: str
    """``half``, ``float``, ``int8``, ..."""

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return self.elements * BYTES.get(self.dtype, 4)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One launch on the GPU."""

    name: str
    kind: str
    """``gemm``, ``attention`` (both products and softmax in one), ``norm``, ``qdq`` (nothing but quantizing) or ``other``."""
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[str, ...]
    """ONNX nodes that went into it."""

    @property
    def bytes(self) -> int:
        """All that it reads and writes, as if nothing stayed in a cache."""
        return sum(tensor.bytes for tensor in (*self.inputs, *self.constants, *self.outputs))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its matrix products."""
        if self.kind == "attention":
            return _attention_macs(self)
        if self.kind != "gemm" or not self.inputs:
            return 0
        weights = self.weights
        if weights is None:  # a product of two activations
            return self.outputs[0].elements * self.inputs[0].shape[-1]
        rows = max((prod(x.shape[:-1]) for x in self.inputs if x.shape and x.shape[-1] in weights.shape[-2:]), default=1)
        return weights.elements * rows

    @property
    def weights(self) -> Tensor | None:
        """Its largest constant, if that is a matrix."""
        matrices = [tensor for tensor in self.constants if len(tensor.shape) > 1 and min(tensor.shape[-2:]) > 1]
        return max(matrices, key=lambda tensor: tensor.elements, default=None)

    @property
    def dtype(self) -> str:
        """What its products multiply: the wider operand's type, as int8 times float is a product of floats."""
        if self.weights is None:
            return max((x.dtype for x in self.inputs), key=lambda dtype: BYTES.get(dtype, 4), default="half")
        if self.weights.dtype == "int8" and not any(x.dtype == "int8" for x in self.inputs):
            return self.inputs[0].dtype if self.inputs else "half"
        return self.weights.dtype

    @property
    def block(self) -> str:
        """``embed``, ``blocks.3`` or ``head``: where the first of its nodes belongs; empty if it has none."""
        return next((node.partition("/")[0] for node in self.nodes if node), "")

    @property
    def dequantizes_weights(self) -> bool:
        """Whether it turns int8 weights into floats on every frame instead of multiplying them."""
        weights = self.weights
        return (
            self.kind != "gemm" and weights is not None and weights.dtype == "int8" and weights.elements >= WEIGHT_SIZE
            and any(out.elements >= weights.elements // 3 and out.dtype != "int8" for out in self.outputs)
        )  # fmt: skip


def _attention_macs(kernel: Kernel) -> int:
    """Two products of queries x keys x width each. The last input is the values, or q, k and v in one: keys are its rows."""
    return 2 * kernel.outputs[0].elements * kernel.inputs[-1].shape[-2]


def parse_layers(lines: Iterable[str]) -> tuple[Kernel, ...]:
    """Kernels of the log's lines (``Name: ..., LayerType: ...``), in plan order; rows that launch nothing are left out.

    Builders differ in where they list weights: under Constants (TensorRT-RTX 1.x), among the inputs (TensorRT 9), or nowhere
    (TensorRT 10.x, NVIDIA/TensorRT#4397), where they follow from the shapes. Raises ValueError if the batch is free.
    """
    kernels = []
    for line in lines:
        head = _HEAD.match(line)
        if head is None or head[2].lower() in _NO_KERNELS:
            continue
        sections = {key: _tensors(text) for key, text in _SECTION.findall(line)}
        kernels.append(_kernel(head[1], head[2], sections, tuple(_NODE.findall(line))))
    return tuple(kernels)


def parse_inspector(text: str) -> tuple[Kernel, ...]:
    """Kernels of the engine inspector's JSON at detailed verbosity. Raises ValueError if it is something else."""
    layers = json.loads(text).get("Layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        msg = "the engine was built without detailed profiling verbosity: its inspector names layers and nothing else"
        raise ValueError(msg)
    kernels = []
    for layer in layers:
        if str(layer.get("LayerType", "")).lower() in _NO_KERNELS:
            continue
        sections = {key: [_inspected(tensor) for tensor in layer.get(key, [])] for key in ("Inputs", "Constants", "Outputs")}
        if isinstance(layer.get("Weights"), dict) and layer["Weights"].get("Count") and sections["Outputs"]:
            width = max(1, *sections["Outputs"][0][1].shape[-1:])
            shape = (max(1, int(layer["Weights"]["Count"]) // width), width)
            sections["Constants"].append(("weights", Tensor(shape=shape, dtype=_dtype(str(layer["Weights"].get("Type"))))))
        nodes = tuple(_NODE.findall(str(layer.get("Metadata", ""))))
        kernels.append(_kernel(str(layer["Name"]), str(layer.get("LayerType", "")), sections, nodes))
    return tuple(kernels)


_Named = tuple[str, Tensor]


def _kernel(name: str, layer_type: str, sections: dict[str, list[_Named]], nodes: tuple[str, ...]) -> Kernel:
    listed, outputs = sections.get("Inputs", []), tuple(tensor for _, tensor in sections.get("Outputs", []))
    inputs = tuple(tensor for tensor_name, tensor in listed if not _CONSTANT.search(tensor_name))
    constants = tuple(tensor for tensor_name, tensor in listed if _CONSTANT.search(tensor_name))
    constants += tuple(tensor for _, tensor in sections.get("Constants", []))
    if any(side < 0 for tensor in (*inputs, *outputs) for side in tensor.shape):
        msg = f"{name}: the plan is of a free batch, and its sizes are not known: compile for one batch"
        raise ValueError(msg)
    operations = {node.rpartition("/")[2] for node in nodes}
    if "_mha" in name or "MHA" in name:
        kind = "attention"
    elif (
        layer_type.lower() in ("gemm", "matrixmultiply", "fully_connected", "correlation", "caskgemmconvolution") or "Fc" in name
    ):
        kind = "gemm"
    elif operations and operations <= {*_QDQ, "Reshape", "Transpose"} and operations & set(_QDQ):
        kind = "qdq"
    elif "LayerNormalization" in operations:
        kind = "norm"
    else:
        kind = "other"
    if kind == "gemm" and not constants:
        constants = _unlisted_weights(inputs, outputs)
    return Kernel(name=name, kind=kind, inputs=inputs, constants=constants, outputs=outputs, nodes=nodes)


def _unlisted_weights(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What inputs [..., rows, depth] and outputs [..., rows, width] imply; nothing in a product of two activations."""
    if not inputs or not outputs or len(inputs[0].shape) < 2 or any(x.shape[-2:-1] == inputs[0].shape[-1:] for x in inputs[1:]):
        return ()
    left = max(inputs, key=lambda x: x.elements)  # the other may be a residual, which is never wider
    return (Tensor(shape=(left.shape[-1], outputs[0].elements // prod(left.shape[:-1])), dtype=left.dtype),)


def _tensors(text: str) -> list[_Named]:
    return [(name, Tensor(shape=_sides(sides.split(",")), dtype=_dtype(dtype))) for name, sides, dtype in _TENSOR.findall(text)]


def _inspected(tensor: dict[str, Any]) -> _Named:
    described = str(tensor.get("Datatype") or tensor.get("Format/Datatype", ""))
    return str(tensor.get("Name", "")), Tensor(shape=_sides(tensor.get("Dimensions", [])), dtype=_dtype(described))


def _sides(sides: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(side) for side in sides if side != "")


def _dtype(text: str) -> str:
    words = re.findall(r"[a-z]+\d*", text.lower())
    return next((_NAMES.get(word, word) for word in words if _NAMES.get(word, word) in BYTES), "half")


@dataclass(frozen=True, kw_only=True)
class CompiledPlan:
    """All kernels of an engine, at the batch it was compiled for."""

    kernels: tuple[Kernel, ...]
    engine_bytes: int
    builder: str
    seconds: float

    @property
    def megabytes(self) -> float:
        """10^6 bytes that one inference moves."""
        return sum(kernel.bytes for kernel in self.kernels) / 1e6

    @property
    def int8_share(self) -> float:
        """Share of multiply-accumulates in INT8."""
        counts: Counter[str] = Counter()
        for kernel in self.kernels:
            counts[kernel.dtype] += kernel.macs
        return counts["int8"] / (counts.total() or 1)

    @property
    def fused_attention(self) -> int:
        """Blocks whose attention is one kernel."""
        return sum(kernel.kind == "attention" for kernel in self.kernels)

    def by_block(self) -> dict[str, tuple[Kernel, ...]]:
        """Kernels by block, in plan order."""
        found: dict[str, list[Kernel]] = {}
        for kernel in self.kernels:
            found.setdefault(kernel.block or "rest", []).append(kernel)
        return {block: tuple(kernels) for block, kernels in found.items()}

    def warnings(self, blocks: int) -> tuple[str, ...]:
        """What costs a network of so many blocks time, one line each."""
        found = []
        dequantized = [kernel.block for kernel in self.kernels if kernel.dequantizes_weights]
        if dequantized:
            found.append(
                f"weights are dequantized on every frame in {_places(dequantized)}: those products run in floating point"
            )
        if self.fused_attention < blocks:
            fused = {kernel.block for kernel in self.kernels if kernel.kind == "attention"}
            missing = [f"blocks.{i}" for i in range(blocks) if f"blocks.{i}" not in fused]
            found.append(f"attention is fused in {self.fused_attention} of {blocks} blocks, not in {_places(missing)}")
        leftover = [kernel.block for kernel in self.kernels if kernel.kind == "qdq"]
        if leftover:
            found.append(f"{len(leftover)} kernels do nothing but quantize, in {_places(leftover)}")
        return tuple(found)


def _places(blocks: list[str]) -> str:
    return ", ".join(dict.fromkeys(block or "the rest" for block in blocks))
