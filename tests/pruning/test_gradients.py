"""The metric that errors of the stream are compared in."""

from __future__ import annotations

import torch

from edgevit.pruning.gradients import NEGLIGIBLE, Influence


def influence(eigenvalues: list[float]) -> Influence:
    vectors = torch.linalg.qr(
        torch.randn(len(eigenvalues), len(eigenvalues), generator=torch.Generator().manual_seed(0)).double()
    )[0]
    return Influence(tokens=torch.ones(1), channels=vectors @ torch.diag(torch.tensor(eigenvalues).double()) @ vectors.T)


def test_a_root_is_as_long_as_the_influence_is_wide() -> None:
    """Directions that together make up less than a thousandth are left out, no others."""
    found = influence([4.0, 3.0, 2.0, 1.0, 0.004, 0.004, 1e-9, 0.0])
    assert found.root.shape == (4, 8)
    assert float((found.root.T @ found.root - found.channels).trace().abs()) < NEGLIGIBLE * float(found.channels.trace())
    assert influence([4.0, 3.0, 2.0, 1.0, 0.006, 0.006, 1e-9, 0.0]).root.shape == (5, 8)


def test_no_influence_at_all_has_a_root() -> None:
    assert influence([0.0, 0.0]).root.shape == (1, 2)
