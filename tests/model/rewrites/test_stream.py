"""Dividing the residual stream changes its range and no logit, and is refused where a reader sees its scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgevit.model.folded import forward, streams
from edgevit.model.rewrites.kinds import Rewrite
from edgevit.model.rewrites.stream import can_divide, divided
from tests.zoo import ZOO, as_double, folded, frames

DIVISIBLE = [name for name in ZOO if can_divide(folded(**ZOO[name]))]


@pytest.mark.parametrize("name", DIVISIBLE)
def test_a_divided_stream_changes_no_logit(name: str) -> None:
    """In float64; patches are in float32, and a power of two divides those exactly, too."""
    model = as_double(folded(**ZOO[name]))
    images = torch.from_numpy(frames(model.config, 4))
    assert torch.equal(forward(divided(model, 0), images), forward(model, images))
    assert (forward(divided(model, 7), images) - forward(model, images)).abs().max() < 1e-10


def test_the_stream_is_divided_everywhere() -> None:
    model = as_double(folded())
    images = torch.from_numpy(frames(model.config, 2))
    for small, large in zip(streams(divided(model, 3), images), streams(model, images), strict=True):
        torch.testing.assert_close(small.x * 8, large.x, rtol=1e-9, atol=1e-9)


def test_what_reads_the_stream_without_a_norm_cannot_be_divided() -> None:
    assert set(ZOO) - set(DIVISIBLE) == {"no final norm", "no norm in blocks", "merging without norms"}
    with pytest.raises(ValueError, match="division of the residual stream"):
        divided(folded(**ZOO["no norm in blocks"]), 1)


def test_one_block_that_forbids_it_is_enough() -> None:
    model = folded()
    model.blocks[1] = replace(model.blocks[1], forbidden=frozenset({Rewrite.DIVIDE_STREAM}))
    assert not can_divide(model)
