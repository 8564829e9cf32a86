"""The plan that TensorRT compiled: kernels, what they compute in, what they move, and what is wrong with it.

Read from the builder's verbose log, which lists every layer, or from the engine inspector's JSON on a
machine with a GPU. Counts and bytes compare graphs with each other; they are not milliseconds.

How other builders than the test bed's write both is taken from layer lists that their users published:
NVIDIA/TensorRT issues 3583, 3585, 3665, 4020 and 4397 (TensorRT 9.1, 9.2, 10.1 and 10.10).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import permutations
from math import prod
from typing import Any

BYTES = {"float": 4, "half": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "bool": 1, "fp8": 1, "int32": 4, "int64": 8}
_NAMES = {"fp32": "float", "fp16": "half", "bf16": "bfloat16", "boolean": "bool"}
_HEAD = re.compile(r"Name: (.*?), LayerType: (\w+),")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Inputs|Constants|Outputs|TacticName|StreamId|Metadata)|$)")
_TENSOR = re.compile(r"Name: ([^,]*), .*?Dimensions: \[([\d,-]*)\].*?Datatype: ([^,}]*)")
_WEIGHTS = re.compile(r'Weights: \{"Type": "(\w+)", "Count": (\d+)\}')
_MAPS = re.compile(r"OutMaps: (\d+)")
_CONSTANT = re.compile(r"dconst|[Cc]onstant|_(alpha|beta)\b")  # names of constants that a builder lists among the inputs
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_NO_KERNELS = ("signal", "wait", "shape_call", "no_op", "noop", "trainstation", "constant")
_PRODUCTS = ("gemm", "matrixmultiply", "fully_connected", "correlation", "caskconvolution", "caskgemmconvolution")
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


def _matrices(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if len(tensor.shape) > 1 and min(tensor.shape[-2:]) > 1]


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
        if not self.inputs or not self.outputs:
            return 0
        if self.kind == "attention":
            return _attention_macs(self)
        return _product_macs(self) if self.kind == "gemm" else 0

    @property
    def weights(self) -> Tensor | None:
        """Its largest constant, if that is a matrix."""
        return max(_matrices(self.constants), key=lambda tensor: tensor.elements, default=None)

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


def _product_macs(kernel: Kernel) -> int:
    """Rows x depth x width. Rows are those of an input, or as many as the outputs can be made of, where some are sliced off."""
    weights = kernel.weights
    if weights is None:
        operands = _operands(kernel.inputs, kernel.outputs[0])
        left = operands[0] if operands else kernel.inputs[0]
        return kernel.outputs[0].elements * (left.shape[-1] if left.shape else 0)
    made = weights.shape[-2] * sum(out.elements for out in kernel.outputs)
    rows = [prod(x.shape[:-1]) for x in kernel.inputs if x.shape and x.shape[-1] in weights.shape[-2:]]
    return min(weights.elements * max(rows), made) if rows else made


def _operands(inputs: tuple[Tensor, ...], product: Tensor) -> tuple[Tensor, Tensor] | None:
    """The two of ``inputs``, [..., rows, depth] and [..., depth, width], that ``product`` can be of; others are added to it."""
    matrices = [x for x in inputs if len(x.shape) > 1]
    for left, right in permutations(matrices, 2):
        if left.shape[-1] == right.shape[-2] and product.shape[-1:] == right.shape[-1:]:
            return left, right
    return None


def parse_layers(lines: Iterable[str]) -> tuple[Kernel, ...]:
    """Kernels of the log's lines (``Name: ..., LayerType: ...``), in plan order; rows that launch nothing are left out.

    Builders differ in where they list weights: under Constants (TensorRT-RTX 1.x), among the inputs (TensorRT 9), or nowhere
    (TensorRT 10.x), where they follow from the shapes. Raises ValueError if the batch is free, or a whole network is one layer.
    """
    kernels = []
    for line in lines:
        head = _HEAD.match(line)
        if head is None or head[2].lower() in _NO_KERNELS:
            continue
        sections = {key: _tensors(text) for key, text in _SECTION.findall(line)}
        if stored := _WEIGHTS.search(line):
            maps = _MAPS.search(line)
            _add_weights(sections, stored[1], int(stored[2]), int(maps[1]) if maps else None)
        kernels.append(_kernel(head[1], head[2], sections, tuple(_NODE.findall(line)), left_over="Origin: QDQ" in line))
    return tuple(kernels)


def parse_inspector(text: str) -> tuple[Kernel, ...]:
    """Kernels of the engine inspector's JSON at detailed verbosity, as `parse_layers`. Raises ValueError if it is something else.

    TensorRT 8.5 to 11 differ in what stands beside the layers (``Bindings``, ``I/O Tensors``), which is not read, and in
    ``Format/Datatype`` (``Half``, ``Row major linear FP16 format``) or ``Datatype`` and ``Format`` apart.
    """
    document = json.loads(text)
    layers = document.get("Layers") if isinstance(document, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        msg = "the engine was built without detailed profiling verbosity: its inspector names layers and nothing else"
        raise ValueError(msg)
    kernels = []
    for layer in layers:
        if str(layer.get("LayerType", "")).lower() in _NO_KERNELS:
            continue
        sections = {key: [_inspected(tensor) for tensor in layer.get(key, [])] for key in ("Inputs", "Constants", "Outputs")}
        if isinstance(layer.get("Weights"), dict):
            _add_weights(sections, str(layer["Weights"].get("Type")), int(layer["Weights"].get("Count", 0)), layer.get("OutMaps"))
        nodes = tuple(_NODE.findall(str(layer.get("Metadata", ""))))
        name, layer_type = str(layer.get("Name", "")), str(layer.get("LayerType", ""))
        kernels.append(_kernel(name, layer_type, sections, nodes, left_over=layer.get("Origin") == "QDQ"))
    return tuple(kernels)


_Named = tuple[str, Tensor]


def _add_weights(sections: dict[str, list[_Named]], dtype: str, count: int, maps: int | None) -> None:
    """Weights of which a layer outside of Myelin tells type and count, as [depth, width]; ``maps`` is a convolution's width."""
    outputs = sections.get("Outputs", [])
    width = maps or (outputs[0][1].shape[-1] if outputs and outputs[0][1].shape else 0)
    if count and width:
        sections.setdefault("Constants", []).append(("weights", Tensor(shape=(count // width, width), dtype=_dtype(dtype))))


def _kernel(name: str, layer_type: str, sections: dict[str, list[_Named]], nodes: tuple[str, ...], *, left_over: bool) -> Kernel:
    if layer_type.lower() == "myelin":
        msg = f"{name}: TensorRT lists this as one layer, and what it launches is not known"
        raise ValueError(msg)
    listed, outputs = sections.get("Inputs", []), tuple(tensor for _, tensor in sections.get("Outputs", []))
    inputs = tuple(tensor for tensor_name, tensor in listed if not _CONSTANT.search(tensor_name))
    constants = tuple(tensor for tensor_name, tensor in listed if _CONSTANT.search(tensor_name))
    constants += tuple(tensor for _, tensor in sections.get("Constants", []))
    if any(side < 0 for tensor in (*inputs, *outputs) for side in tensor.shape):
        msg = f"{name}: the plan is of a free batch, and its sizes are not known: compile for one batch"
        raise ValueError(msg)
    operations = {node.rpartition("/")[2] for node in nodes}
    one_row = "MulSum" in name and bool(_matrices(constants) or "MatMul" in operations)  # multiplied and added: no Fc, no gemm
    kind = _kind(name, operations, product=one_row or layer_type.lower() in _PRODUCTS, left_over=left_over)
    if kind == "gemm" and not _matrices(constants):
        constants += _unlisted_weights(inputs, outputs, merged="+" in name)
    if not inputs and not constants and "DequantizeLinear" in operations:  # what else would it dequantize
        constants = tuple(Tensor(shape=out.shape, dtype="int8") for out in outputs)
    return Kernel(name=name, kind=kind, inputs=inputs, constants=constants, outputs=outputs, nodes=nodes)


def _kind(name: str, operations: set[str], *, product: bool, left_over: bool) -> str:
    if "_mha" in name or "MHA" in name:
        return "attention"
    if product or "Fc" in name:
        return "gemm"
    if left_over or (operations & set(_QDQ) and operations <= {*_QDQ, "Reshape", "Transpose"}):
        return "qdq"
    return "norm" if "LayerNormalization" in operations else "other"


def _unlisted_weights(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], *, merged: bool) -> tuple[Tensor, ...]:
    """What inputs [..., rows, depth] and outputs [..., rows, width] imply; nothing in a product of two activations.

    Of a ``merged`` product each output is a part; of another, the further outputs are computed from the first.
    """
    matrices = [x for x in inputs if len(x.shape) > 1 and x.elements]
    if not matrices or not outputs or _operands(inputs, outputs[0]):
        return ()
    left = max(matrices, key=lambda x: x.elements)  # the other may be a residual, which is never wider
    made = sum(out.elements for out in (outputs if merged else outputs[:1]))
    width = max(made // prod(left.shape[:-1]), outputs[0].shape[-1])  # rows may be sliced off in front of the product
    return (Tensor(shape=(left.shape[-1], width), dtype=left.dtype),)


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

    def unfused(self, blocks: Iterable[int]) -> list[str]:
        """Those of ``blocks``, by number, whose attention is not one kernel, as ``blocks.3``; none if no kernels are known."""
        fused = {kernel.block for kernel in self.kernels if kernel.kind == "attention"}
        return [f"blocks.{i}" for i in blocks if f"blocks.{i}" not in fused] if self.kernels else []

    def by_block(self) -> dict[str, tuple[Kernel, ...]]:
        """Kernels by block, in plan order."""
        found: dict[str, list[Kernel]] = {}
        for kernel in self.kernels:
            found.setdefault(kernel.block or "rest", []).append(kernel)
        return {block: tuple(kernels) for block, kernels in found.items()}

    def warnings(self, blocks: int, bare: Collection[int] = ()) -> tuple[str, ...]:
        """What costs a network of so many blocks time, one line each; those that are ``bare`` have no attention."""
        found = []
        dequantized = [kernel.block for kernel in self.kernels if kernel.dequantizes_weights]
        if dequantized:
            found.append(
                f"weights are dequantized on every frame in {_places(dequantized)}: those products run in floating point"
            )
        if self.fused_attention < blocks - len(bare):
            missing = self.unfused(i for i in range(blocks) if i not in bare)
            wanted = blocks - len(bare)
            found.append(f"attention is fused in {self.fused_attention} of {wanted} blocks, not in {_places(missing)}")
        leftover = [kernel.block for kernel in self.kernels if kernel.kind == "qdq"]
        if leftover:
            found.append(f"{len(leftover)} kernels do nothing but quantize, in {_places(leftover)}")
        return tuple(found)


def _places(blocks: list[str]) -> str:
    return ", ".join(dict.fromkeys(block or "the rest" for block in blocks))
