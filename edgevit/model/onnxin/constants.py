"""What does not depend on the image, computed while the graph is walked: with NumPy, what that has not by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgevit.model.onnxin.layout import bounded, moves, moves_of, reshape_to, reshapes
from edgevit.model.onnxin.node import Node
from edgevit.model.onnxin.runtime import RuntimeRefusal, Session
from edgevit.model.onnxin.values import Array, MisfitError

# Operators whose result is no larger than what they are given, or what `_bounded_resize` looks at.
_BY_RUNTIME = frozenset({
    "Resize", "Erf", "Gelu", "Softmax", "LayerNormalization", "Gemm", "Einsum", "CumSum", "ScatterND", "ScatterElements",
    "GatherND", "GatherElements", "Trilu", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2",
    "Mod", "Tan", "Atan", "Sigmoid", "Tanh", "Relu", "Sign", "BitShift", "ArgMax", "ArgMin", "IsNaN", "IsInf", "Conv",
    "GlobalAveragePool", "NonZero", "ReduceSumSquare", "LpNormalization", "HardSigmoid", "Softplus", "Max", "Min", "Clip",
    "DepthToSpace", "SpaceToDepth",
})  # fmt: skip


def computed(node: Node) -> list[Array]:
    """The outputs of ``node``, whose inputs are constants. Raises MisfitError for an operator that is not computed here."""
    arrays = [value for value in node.inputs if isinstance(value, np.ndarray)]
    if node.proto.domain not in ("", "ai.onnx"):
        msg = f"{node.proto.domain}.{node.op} of constants"
        raise MisfitError(msg)
    if node.op == "Constant":
        return [_constant(node)]
    if reshapes(node):
        return [arrays[0].reshape(reshape_to(node, arrays[0].shape))]
    if moves(node):
        return [np.asarray(move(arrays[0])) for move in moves_of(node, arrays[0].shape)]
    if node.op in _NUMPY and len(arrays) == len(node.inputs):
        bounded(np.broadcast_shapes(*(array.shape for array in arrays)))
        with np.errstate(all="ignore"):
            return [np.asarray(_NUMPY[node.op](*arrays))]
    if node.op in _OWN:
        return [np.asarray(_OWN[node.op](node, arrays))]
    if node.op in _BY_RUNTIME:
        return _by_runtime(node)
    msg = f"{node.op} of constants"
    raise MisfitError(msg)


def _constant(node: Node) -> Array:
    for name, kind in (
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if (value := node.get(name)) is not None:
            return np.asarray(value, kind)
    value = node.get("value")
    if isinstance(value, np.ndarray):
        return value
    msg = "Constant that is no tensor"
    raise MisfitError(msg)


def _divided(a: Array, b: Array) -> Array:
    if not np.issubdtype(a.dtype, np.integer):
        return a / b
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.maximum(np.abs(b), 1))).astype(a.dtype)  # towards zero, as C does


def _power(a: Array, b: Array) -> Array:
    return np.power(a, b.astype(a.dtype) if a.dtype.kind == "f" else b).astype(a.dtype)


_NUMPY: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divided, "Neg": np.negative, "Sqrt": np.sqrt, "Abs": np.abs,
    "Exp": np.exp, "Log": np.log, "Sin": np.sin, "Cos": np.cos, "Floor": np.floor, "Ceil": np.ceil, "Round": np.round,
    "Reciprocal": lambda a: (1 / a).astype(a.dtype), "Pow": _power,
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal,
    "And": np.logical_and, "Or": np.logical_or, "Not": np.logical_not, "Xor": np.logical_xor, "Where": np.where,
    "Identity": lambda a: a,
}  # fmt: skip


def cast(node: Node, array: Array) -> Array:
    """Half precision becomes float32, as it is computed in."""
    kinds = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float32, 11: np.float64,
             12: np.uint32, 13: np.uint64, 16: np.float32, 4: np.uint16, 5: np.int16}  # fmt: skip
    kind = kinds.get(node.get("to"))
    if kind is None:
        msg = f"Cast to the type {node.get('to')}"
        raise MisfitError(msg)
    return array.astype(kind, copy=False)


def _filled(node: Node, arrays: list[Array]) -> Array:
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(bounded(arrays[0]), value.reshape(-1)[0], value.dtype)


def _range(node: Node, arrays: list[Array]) -> Array:
    start, limit, step = (array.reshape(-1)[0] for array in arrays)
    bounded([max(0, int(np.ceil((limit - start) / step))) if step else -1])
    return np.arange(start, limit, step, dtype=arrays[0].dtype)


def _joined(node: Node, arrays: list[Array]) -> Array:
    axis = node.get("axis", 0)
    bounded([sum(array.size for array in arrays)])
    return np.concatenate(arrays, axis)


def _multiplied(node: Node, arrays: list[Array]) -> Array:
    a, b = arrays
    bounded([*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2] if a.ndim > 1 else 1, b.shape[-1]])
    return np.matmul(a, b)


_OWN: dict[str, Callable[[Node, list[Array]], Array]] = {
    "Cast": lambda node, arrays: cast(node, arrays[0]),
    "CastLike": lambda _, arrays: arrays[0].astype(arrays[1].dtype),
    "ConstantOfShape": _filled,
    "Range": _range,
    "Concat": _joined,
    "MatMul": _multiplied,
    "Shape": lambda node, arrays: shape_of(node, arrays[0].shape),
    "Size": lambda _, arrays: np.asarray(arrays[0].size, np.int64),
    "Dropout": lambda _, arrays: arrays[0],
}


def shape_of(node: Node, shape: tuple[int, ...]) -> Array:
    """What the node Shape gives."""
    return np.asarray(shape[slice(node.get("start", 0), node.get("end"))], np.int64)


def _by_runtime(node: Node) -> list[Array]:
    import onnx

    if node.op == "Resize":
        _bounded_resize(node)
    given = {name: value for name, value in zip(node.proto.input, node.inputs, strict=True) if isinstance(value, np.ndarray)}
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
              for name, value in given.items()]  # fmt: skip
    outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
    graph = onnx.helper.make_graph([node.proto], "constant", inputs, outputs)
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", node.opset)])
    try:
        return Session(model.SerializeToString(), threads=1)(
            {name: np.asarray(value, order="C") for name, value in given.items()}
        )
    except RuntimeRefusal as error:
        msg = f"{node.op} of constants, which ONNX Runtime refuses"
        raise MisfitError(msg) from error


def _bounded_resize(node: Node) -> None:
    data = node.constant(0)
    if node.there(3):
        bounded(node.constant(3))
    elif node.there(2):
        scales = np.asarray(node.constant(2), np.float64).reshape(-1)
        bounded([int(min(size * scale, 2**31)) for size, scale in zip(data.shape, scales, strict=True)])
