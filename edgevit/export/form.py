"""Forms of one graph: equal in what they compute, not in what a compiler makes of them.

An engine fuses patterns. Which of several equal ways to write attention it fuses, how many kernels
and bytes a frame costs, was found by compiling them all: ``benchmarks/tensorrt_forms.py`` repeats
that, docs/tensorrt.md has its table, and `form_for` its outcome.
"""

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

    batch: int | None = None
    """Frames per inference; None leaves it free. TensorRT wants a profile for a free one, and its plan is best at a fixed 1."""

    def __post_init__(self) -> None:
        if not self.joint_qkv and self.attention not in ("rank3", "rank4"):
            msg = f"three products of q, k and v are written with rank3 and rank4 only, not with {self.attention}"
            raise ValueError(msg)

    @property
    def opset(self) -> int:
        """The lowest ONNX opset with all ops: 20 is the first with a native Gelu, 23 with Attention."""
        return 23 if self.attention == "op" else 20

    @property
    def ir_version(self) -> int:
        """The IR of the opset's time, so that the runtimes of then still read the file."""
        return 11 if self.attention == "op" else 9


CPU = Form()


def form_for(engine: str, precision: str) -> Form:
    """The form that ``engine`` runs fastest for ``precision``: fp32, fp16, int8 or mixed."""
    if not engine.startswith("tensorrt"):
        return CPU
    if precision == "fp16":  # rank 4 and a joint qkv cost 7 % more bytes
        return Form(dtype="fp16", attention="rank3", joint_qkv=False, batch=1)
    # rank3 compiles to the same kernels; attention in four dimensions is what NVIDIA documents as fused.
    return Form(dtype="fp32" if precision == "fp32" else "fp16", attention="rank4", batch=1)
