"""Recorded layer lists, one line a layer, as TensorRT-RTX 1.7.1 logs them at verbosity VERBOSE.

``fp16``, ``int8``, ``int8_attention``: edgevit's forms of two blocks of DeiT-S (197 tokens, batch 1, one token out of the last
block); ``dequantized``: a form whose qkv weights the builder dequantizes; ``free``: a free batch. ``vit_b_*``: ViT-B/16 in the
form that exporters write, every token through every block. ``tiny_*``: two blocks of 32 channels, 17 tokens, 4 heads of 8,
where attention is not fused.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


def recorded(name: str) -> tuple[str, ...]:
    """The lines of ``name``."""
    return tuple(gzip.decompress((FIXTURES / f"{name}.txt.gz").read_bytes()).decode().splitlines())


def without_constants(lines: tuple[str, ...]) -> tuple[str, ...]:
    """As TensorRT 10 lists the same layers."""
    return tuple(re.sub(r"Constants: \[.*?\], (?=Outputs)", "", line) for line in lines)
