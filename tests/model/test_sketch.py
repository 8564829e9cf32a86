"""Squared lengths along random directions are those along all axes, in expectation."""

from __future__ import annotations

import pytest
import torch

from edgevit.model.sketch import signs


def test_lengths_are_kept() -> None:
    vectors = torch.randn(384, 200, generator=torch.Generator().manual_seed(1))
    ratios = (signs(128, 384) @ vectors).square().sum(0) / vectors.square().sum(0)
    assert float(ratios.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(ratios.std()) == pytest.approx((2 / 128) ** 0.5, rel=0.25)
