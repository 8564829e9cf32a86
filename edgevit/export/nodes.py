"""Nodes and initializers of a graph under construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from edgevit.export.assembly import Constant
from edgevit.export.form import Form
from edgevit.model.rounding import dtype_of
from edgevit.numberformat import FORMATS, NumberFormat


def element_type(number_format: NumberFormat) -> int:
    """ONNX's number of what ``number_format`` is stored in."""
    found: int = TensorProto.DataType.Value(number_format.onnx)
    return found


class Nodes:
    """What a graph consists of; floating-point constants take the form's dtype on their way in."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.format = FORMATS[form.dtype]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Constant] = {}
        self.made: dict[str, str] = {}
        """Tensors that several parts of the graph use, by what they are."""

    def constant(
        self, name: str, value: Tensor | NDArray[Any] | np.generic | list[int] | float, to: NumberFormat | None = None
    ) -> str:  # fmt: skip
        """An initializer; floats become ``to``, by default the form's dtype, lists of int become int64.

        A value that the dtype cannot hold is an OverflowError when the graph is written; `edgevit.quantize.fp16.fit` keeps that
        from happening.
        """
        if name not in self.constants:
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            to = to or self.format
            dtype = np.dtype(to.storage) if array.dtype.kind == "f" else array.dtype
            self.constants[name] = Constant(
                name, helper.np_dtype_to_tensor_dtype(dtype), array.shape, array.size * dtype.itemsize,
                lambda: _cast(name, array, to) if array.dtype.kind == "f" else array,
            )  # fmt: skip
        return name

    def shape(self, name: str, value: list[int]) -> str:
        """An initializer of ints that many may share; another value than the first of its name gets a name of its own."""
        known = self.constants.get(name)
        if known is not None and known.values().tolist() != value:
            name = f"{name}/{'_'.join(map(str, value))}"
        return self.constant(name, value)

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One node named ``name/op`` with one output of the same name."""
        return self.node_with(op, name, (f"{name}/{op}",), *inputs, **attributes)[0]

    def node_with(self, op: str, name: str, outputs: tuple[str, ...], *inputs: str, **attributes: Any) -> tuple[str, ...]:
        """One node named ``name/op`` with the ``outputs`` given."""
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), f"{name}/{op}", **attributes))
        return outputs

    def codes(self, name: str, codes: Tensor, stored_in: NumberFormat) -> str:
        """An initializer of codes, by their bits: NumPy has not every format."""
        if name not in self.constants:
            dtype = dtype_of(stored_in)
            self.constants[name] = Constant(
                name, element_type(stored_in), tuple(codes.shape), codes.numel() * dtype.itemsize,
                lambda: codes.to(dtype).contiguous().view(torch.uint8).numpy(),
            )  # fmt: skip
        return name

    def fake_quantized(self, x: str, scale: float, name: str, to: NumberFormat) -> str:
        """A per-tensor Q/DQ pair on an activation."""
        step = self.constant(f"{name}/input_scale", np.float32(scale))
        zero = self.codes("zero_point", torch.zeros(()), to)
        return self.node("DequantizeLinear", name, self.node("QuantizeLinear", name, x, step, zero), step, zero)

    def first_tokens(self, x: str, keep: int, tokens: int, name: str, axis: int = 1) -> str:
        """The first ``keep`` of ``tokens`` along ``axis``; ``x`` itself if that is all of them."""
        if keep == tokens:
            return x
        ends = (self.constant("index/start", [0]), self.constant(f"index/end_{keep}", [keep]))
        return self.node("Slice", name, x, *ends, self.constant(f"index/axis_{axis}", [axis]))


def _cast(name: str, array: NDArray[Any], to: NumberFormat) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        cast = array.astype(to.storage)
    if not np.isfinite(cast).all():
        msg = f"{name}: {np.abs(array).max():g} does not fit {to.name}"
        raise OverflowError(msg)
    return cast
