"""Sums over tokens, against NumPy on all tokens at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgevit.pruning.moments import Moments


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    """x [N, 4, 3] and y [N, 4, 2] with means that are not zero."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 4, 3, generator=generator) + 2, torch.randn(size, 4, 2, generator=generator) - 1) for size in sizes
    ]


def of(parts: list[tuple[Tensor, Tensor]], weights: Tensor | None = None) -> Moments:
    found = Moments.none(3, 2)
    for x, y in parts:
        found = found.add(x, y, weights)
    return found


def test_covariances_are_those_of_all_tokens() -> None:
    parts = batches(5, 2)
    x, y = (torch.cat([part[i].flatten(0, 1) for part in parts]).double().numpy() for i in (0, 1))
    found, together = of(parts), np.cov(np.hstack([x, y]).T, bias=True)
    assert found.count == 28
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, together[:3, :3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.cross_covariance, together[:3, 3:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.yy, (y**2).sum(), rtol=1e-6)


def test_a_weight_is_how_often_a_position_counts() -> None:
    """Position 0 twice, position 3 not at all: the same as tokens written so."""
    parts = batches(3)
    weighted = of(parts, torch.tensor([2.0, 1.0, 1.0, 0.0]))
    repeated = of([(x[:, [0, 0, 1, 2]], y[:, [0, 0, 1, 2]]) for x, y in parts])
    assert weighted.count == repeated.count == 12
    for key in ("x", "y", "xx", "xy", "yy"):
        torch.testing.assert_close(getattr(weighted, key), getattr(repeated, key))


def test_sums_add_up() -> None:
    parts = batches(2, 3)
    both = of(parts[:1]) + of(parts[1:])
    for key in ("count", "x", "y", "xx", "xy", "yy"):
        torch.testing.assert_close(getattr(both, key), getattr(of(parts), key))


def test_an_input_that_never_varies_keeps_a_variance() -> None:
    """What float32 products may have lost stands on the diagonal, so that it can be inverted."""
    found = Moments.none(1).add(torch.full((4, 8, 1), 1000.0))
    assert 0 < float(found.covariance) < 1
