"""Where TensorRT fuses INT8 attention: one kernel for both products and softmax, and not five and the scores in memory.

In FP16 every head size from 16 on and every number of tokens is fused. In INT8 NVIDIA documents head sizes 16, 32 and 64 with
at most 512 tokens (NVIDIA/TensorRT#2981, #4167), and its builder keeps to that: ``benchmarks/tensorrt_attention.py`` compiles
both sides of the limits, docs/tensorrt.md has the table. Outside of them INT8 attention costs more than FP16's: ViT/16 at 384
pixels (577 tokens), DINOv2 at 518 (1,370), SigLIP (head size 72), ViT-H (80).

`edgevit.engines.Int8Attention` has the limits of each engine. A version that takes less is found by its plan:
`edgevit.commands.target_graph` reads that, too.
"""

from __future__ import annotations

from edgevit.engines import ENGINES


def why_unfused(engine: str, *, head_dim: int, tokens: int, products: str = "full") -> str | None:
    """Why ``engine`` would not fuse such INT8 attention; None if it would, or if it fuses nothing (CPU engines).

    ``products`` that are in INT8 are ``full``, both, or ``scores``, q k^T alone.
    """
    traits = ENGINES.get(engine)
    if traits is None or traits.int8_attention is None:
        return None
    limits = traits.int8_attention
    if head_dim not in limits.head_dims:
        sizes = ", ".join(map(str, limits.head_dims))
        return f"{traits.title} fuses INT8 attention of head sizes {sizes} only, and this one is {head_dim}"
    if tokens > limits.tokens:
        return f"{traits.title} fuses INT8 attention of at most {limits.tokens} tokens, and there are {tokens}"
    if products == "scores":
        return f"{traits.title} fuses attention with both products in INT8 or none, and here only q k^T would be"
    return None
