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
_NAMES = {"fp32": "float", "fp16": "half", "bf16": "bfloat16"}
_HEAD = re.compile(r"Name: (.*?), LayerType: (\w+),")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Inputs|Constants|Outputs|TacticName|StreamId|Metadata)|$)")
_TENSOR = re.compile(r"Dimensions: \[([\d,-]*)\].*?Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_NO_KERNELS = ("signal", "wait", "shape_call", "no_op")
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
        weights = self.weights
        if self.kind != "gemm" or not self.inputs:
            return 0
        if weights is None:  # a product of two activations
            depth = self.inputs[0].shape[-1] if self.inputs[0].shape else 1
            return self.outputs[0].elements * depth
        rows = max((prod(x.shape[:-1]) for x in self.inputs if x.shape and x.shape[-1] in weights.shape[-2:]), default=1)
        return weights.elements * rows

    @property
    def weights(self) -> Tensor | None:
        """Its largest constant, if that is a matrix."""
        matrices = [tensor for tensor in self.constants if len(tensor.shape) > 1 and min(tensor.shape[-2:]) > 1]
        return max(matrices, key=lambda tensor: tensor.elements, default=None)

    @property
    def dtype(self) -> str:
        """What its products multiply."""
        source = self.weights or (self.inputs[0] if self.inputs else None)
        return source.dtype if source else "half"

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
    """Two products of heads x queries x keys x depth each."""
    largest, queries = max(x.elements for x in kernel.inputs), min(x.elements for x in (*kernel.inputs, *kernel.outputs))
    depth, tokens = sorted(max(kernel.inputs, key=lambda x: x.elements).shape[-2:])
    heads = largest // (depth * tokens)
    return 2 * heads * (queries // (heads * depth) or 1) * tokens * depth


def parse_layers(lines: Iterable[str]) -> tuple[Kernel, ...]:
    """Kernels of the log's lines (``Name: ..., LayerType: ...``), in plan order; rows that launch nothing are left out."""
    kernels = []
    for line in lines:
        head = _HEAD.match(line)
        if head is None or head[2].lower() in _NO_KERNELS:
            continue
        sections = {key: _tensors(text) for key, text in _SECTION.findall(line)}
        kernels.append(
            _kernel(
                head[1], head[2], sections.get("Inputs", ()), sections.get("Constants", ()), sections.get("Outputs", ()),
                tuple(_NODE.findall(line)),
            )
        )  # fmt: skip
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
        constants = list(map(_inspected, layer.get("Constants", [])))
        if isinstance(layer.get("Weights"), dict) and layer["Weights"].get("Count"):
            width = constants[0].shape[-1] if constants else max(1, _last(layer.get("Outputs", [])))
            rows = max(1, int(layer["Weights"]["Count"]) // width)
            constants.append(Tensor(shape=(rows, width), dtype=_dtype(str(layer["Weights"].get("Type", "half")))))
        inputs, outputs = (tuple(map(_inspected, layer.get(key, []))) for key in ("Inputs", "Outputs"))
        nodes = tuple(_NODE.findall(str(layer.get("Metadata", ""))))
        kernels.append(_kernel(str(layer["Name"]), str(layer.get("LayerType", "")), inputs, tuple(constants), outputs, nodes))
    return tuple(kernels)


def _kernel(
    name: str, layer_type: str, inputs: tuple[Tensor, ...], constants: tuple[Tensor, ...], outputs: tuple[Tensor, ...], nodes: Any
) -> Kernel:
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
    return Kernel(name=name, kind=kind, inputs=inputs, constants=constants, outputs=outputs, nodes=nodes)


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(shape=tuple(int(side) for side in sides.split(",") if side), dtype=_dtype(dtype))
        for sides, dtype in _TENSOR.findall(text)
    )


def _inspected(tensor: dict[str, Any]) -> Tensor:
    described = str(tensor.get("Datatype") or tensor.get("Format/Datatype", ""))
    return Tensor(shape=tuple(int(side) for side in tensor.get("Dimensions", [])), dtype=_dtype(described))


def _last(tensors: list[dict[str, Any]]) -> int:
    return int((tensors[0].get("Dimensions") or [1])[-1]) if tensors else 1


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
