"""How a graph is written: forms that are equal in what they compute, not in what a compiler makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["rank5", "rank4", "rank3", "op"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a graph is written."""

    dtype: Literal["fp32", "fp16"] = "fp32"
    """Of everything that is not INT8, scales included: TensorRT 10.0 to 10.12 take no scale of another dtype than the
    activation's. Logits are float32 in either."""
    attention: Layout = "rank5"
    """How heads are split off the joint qkv and merged again:

    ``rank5``: [N, T, 3, heads, head_dim] transposed once and gathered. OpenVINO and ONNX Runtime are fastest with it.
    TensorRT then dequantizes the qkv weights on every frame unless attention is INT8 itself.
    ``rank4``: heads first, q, k and v as [heads, N, T, head_dim].
    ``rank3``: the same as [heads * N, T, head_dim].
    ``op``: one ONNX Attention node; its opset 23 needs TensorRT 10.14.
    """
    joint_qkv: bool = True
    """False: queries, keys and values of a block in floating point are three products without a bias in
    front of a transposition. (An INT8 qkv is joint in any case: apart, it costs kernels.)"""

    padded: bool = False
    """One more token, masked in every attention, until tokens are merged: OpenVINO leaves attention of a prime number of tokens
    unfused where threads outnumber heads. With rank5 only."""
    batch: int | None = None
    """Frames per inference; None leaves it free. TensorRT wants a profile for a free one, and its plan is best at a fixed 1."""

    def __post_init__(self) -> None:
        if not self.joint_qkv and self.attention not in ("rank3", "rank4"):
            msg = f"three products of q, k and v are written with rank3 and rank4 only, not with {self.attention}"
            raise ValueError(msg)
        if self.padded and self.attention != "rank5":
            msg = f"a masked token is written with rank5 only, not with {self.attention}"
            raise ValueError(msg)

    @property
    def opset(self) -> int:
        """The lowest ONNX opset with all ops: 20 is the first with a native Gelu, 23 with Attention."""
        return 23 if self.attention == "op" else 20

    @property
    def ir_version(self) -> int:
        """The IR of the opset's time, so that the runtimes of then still read the file."""
        return 11 if self.attention == "op" else 9


@dataclass(frozen=True, kw_only=True)
class Forms:
    """The form that an engine runs fastest, by precision."""

    fp32: Form = Form()
    fp16: Form = Form()
    int8: Form = Form()
    """Also of ``mixed``, which is as much INT8 as a budget allows."""

    def of(self, precision: str) -> Form:
        """For ``precision``: fp32, fp16, int8 or mixed."""
        return {"fp32": self.fp32, "fp16": self.fp16, "int8": self.int8, "mixed": self.int8}[precision]
