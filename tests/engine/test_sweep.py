"""Every CPU engine against torch over the shapes that compilers treat apart: heads, head sizes, token counts, widths, threads.

``benchmarks/engine_check.py`` prints the table of a larger draw.
"""

from __future__ import annotations

import pytest

from edgevit.engine import CPU_ENGINES
from tests.engine.shapes import Case, boundaries, drawn, worst

ENOUGH = 85.0  # dB in FP32; the engines reach 110 and more


@pytest.mark.parametrize("case", boundaries(), ids=str)
def test_as_many_heads_as_tokens_and_its_neighbours(case: Case) -> None:
    for engine in CPU_ENGINES:
        assert worst(case, engine, threads=2) > ENOUGH, engine


@pytest.mark.parametrize("seed", range(4))
def test_shapes_by_chance(seed: int) -> None:
    for case in drawn(seed, 6):
        for engine in CPU_ENGINES:
            assert worst(case, engine, threads=1 + seed % 3) > ENOUGH, (engine, case)


@pytest.mark.slow
def test_many_shapes_by_chance() -> None:
    for case in drawn(99, 400):
        for engine in CPU_ENGINES:
            assert worst(case, engine, threads=2) > ENOUGH, (engine, case)
