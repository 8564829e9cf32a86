"""What is said of number formats, held against the libraries that store them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from edgevit.numberformat import FORMATS, FP16, FP32, INT8, NumberFormat
from edgevit.target import PRECISIONS


@pytest.mark.parametrize("number_format", FORMATS.values(), ids=FORMATS)
def test_range_and_size_are_those_of_the_dtype(number_format: NumberFormat) -> None:
    dtype = getattr(torch, number_format.storage)
    limits = torch.finfo(dtype) if number_format.kind == "float" else torch.iinfo(dtype)
    assert (limits.min, limits.max, limits.bits) == (number_format.lowest, number_format.largest, number_format.bits)
    assert FORMATS[number_format.name] is number_format


@pytest.mark.parametrize("number_format", FORMATS.values(), ids=FORMATS)
def test_torch_and_onnx_store_the_same(number_format: NumberFormat) -> None:
    kind = onnx.TensorProto.DataType.Value(number_format.onnx)
    assert onnx.helper.tensor_dtype_to_np_dtype(kind) == np.dtype(number_format.storage)


def test_only_codes_have_a_scale() -> None:
    assert [item.scaled for item in (FP32, FP16, INT8)] == [False, False, True]


def test_precisions_are_the_formats() -> None:
    assert PRECISIONS == ("fp32", "fp16", "int8")
