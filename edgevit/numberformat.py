"""Number formats as data: what values are rounded to, and how a file stores them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIXED = "mixed"
"""What the precision of a model is called where part of it left the format that quantization offered."""


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """One format of weights and activations. Without ``scaled`` a value is stored as it is, with it as a multiple of a scale."""

    name: str
    """As a precision is called in options, manifests and reports."""
    kind: Literal["int", "float"]
    bits: int
    storage: str
    """torch's name of the dtype, and NumPy's where NumPy has it."""
    onnx: str
    """The name of the element type in ``onnx.TensorProto``."""
    lowest: float
    """The smallest value of an activation. Weights keep to ``-largest``, so that their negatives are there, too."""
    largest: float
    scaled: bool
    """Whether a scale comes with it, which is chosen so that values fit: what does not is clipped, and not infinite."""


FP32 = NumberFormat(
    name="fp32", kind="float", bits=32, storage="float32", onnx="FLOAT", lowest=-(2 - 2**-23) * 2.0**127,
    largest=(2 - 2**-23) * 2.0**127, scaled=False,
)  # fmt: skip
FP16 = NumberFormat(
    name="fp16", kind="float", bits=16, storage="float16", onnx="FLOAT16", lowest=-65504.0, largest=65504.0, scaled=False
)
INT8 = NumberFormat(name="int8", kind="int", bits=8, storage="int8", onnx="INT8", lowest=-128.0, largest=127.0, scaled=True)

FORMATS = {number_format.name: number_format for number_format in (FP32, FP16, INT8)}
"""By name, the finest first."""
