"""Where TensorRT fuses INT8 attention: one kernel for both products and softmax, and not five and the scores in memory.

In FP16 every head size from 16 on and every number of tokens is fused. In INT8 NVIDIA documents head sizes 16, 32 and 64 with
at most 512 tokens (NVIDIA/TensorRT#2981, #4167), and its builder keeps to that: ``benchmarks/tensorrt_attention.py`` compiles
both sides of the limits, docs/tensorrt.md has the table. Outside of them INT8 attention costs more than FP16's: ViT/16 at 384
pixels (577 tokens), DINOv2 at 518 (1,370), SigLIP (head size 72), ViT-H (80).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an engine's fused INT8 attention takes."""

    head_dims: tuple[int, ...]
    tokens: int
    """At most; of the whole sequence, whatever a last block keeps of it."""


INT8_ATTENTION = {
    "tensorrt": Limits(head_dims=(16, 32, 64), tokens=512),  # the same in the documentation of 8.6 to 11
    "tensorrt_rtx": Limits(head_dims=(16, 32, 64), tokens=512),  # measured: 1.7
}
"""By engine. A version that takes less is found by its plan: `edgevit.commands.target_graph` reads that, too."""


def why_unfused(engine: str, *, head_dim: int, tokens: int) -> str | None:
    """Why ``engine`` would not fuse INT8 attention of these sizes; None if it would, or if it fuses nothing (CPU engines)."""
    limits = INT8_ATTENTION.get(engine)
    if limits is None:
        return None
    if head_dim not in limits.head_dims:
        sizes = ", ".join(map(str, limits.head_dims))
        return f"TensorRT fuses INT8 attention of head sizes {sizes} only, and this one is {head_dim}"
    if tokens > limits.tokens:
        return f"TensorRT fuses INT8 attention of at most {limits.tokens} tokens, and there are {tokens}"
    return None
