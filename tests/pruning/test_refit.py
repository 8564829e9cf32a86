"""Least squares from moments: against numpy.linalg.lstsq, and the choice that held-out images make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from edgevit.errors import CheckpointError
from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import bias_only, factor, held_out_refit, mean_error, ridge_refit, unchanged

WEIGHT, BIAS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]), torch.tensor([4.0, -1.0])


def tokens(seed: int, noise: float = 0.0, count: int = 40) -> tuple[Tensor, Tensor]:
    """x [1, count, 3] and y = x WEIGHT^T + BIAS with noise on it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, count, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1]) + 1
    return x, x @ WEIGHT.T + BIAS + noise * torch.randn(1, count, 2, generator=generator)


def moments(x: Tensor, y: Tensor) -> Moments:
    return Moments.none(3, 2).add(x, y)


def test_without_a_ridge_it_is_least_squares() -> None:
    x, y = tokens(0, noise=0.3)
    design = np.hstack([x[0].double().numpy(), np.ones((40, 1))])
    wanted, residual, *_ = np.linalg.lstsq(design, y[0].double().numpy(), rcond=None)
    found = ridge_refit(moments(x, y), 0.0)
    np.testing.assert_allclose(found.weight, wanted[:3].T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.bias, wanted[3], rtol=1e-3, atol=1e-3)
    assert mean_error(moments(x, y), found) == pytest.approx(residual.sum() / 40, rel=1e-2)


def test_a_ridge_shrinks_every_input_by_its_own_measure() -> None:
    """With a share of 1 and inputs that are not correlated, each weight is half, of wide and of narrow inputs."""
    x = torch.tensor([[[1.0, 10.0, 0.1], [-1.0, 10.0, -0.1], [1.0, -10.0, -0.1], [-1.0, -10.0, 0.1]]])
    found = ridge_refit(moments(x, x @ WEIGHT.T + BIAS), 1.0)
    torch.testing.assert_close(found.weight, WEIGHT.double() / 2, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.bias, BIAS.double(), rtol=1e-4, atol=1e-4)


def test_the_error_is_that_of_every_token() -> None:
    x, y = tokens(1, noise=1.0)
    found = ridge_refit(moments(x, y), 0.1)
    left = y.double() - x.double() @ found.weight.T - found.bias
    assert mean_error(moments(x, y), found) == pytest.approx(float(left.square().sum(-1).mean()), rel=1e-4)
    assert mean_error(moments(x, y), unchanged(moments(x, y))) == pytest.approx(float(y.square().sum(-1).mean()), rel=1e-4)


def test_a_bias_takes_the_mean() -> None:
    x, y = tokens(2)
    torch.testing.assert_close(bias_only(moments(x, y)).bias, y.double().mean((0, 1)), rtol=1e-5, atol=1e-5)


def test_held_out_images_choose() -> None:
    """What holds there is made; a shift alone is a bias; what was only there in the fit is left."""
    assert held_out_refit(moments(*tokens(3)), moments(*tokens(4))).kind == "ridge"
    (x, _), (other, _) = tokens(3), tokens(4)
    shifted = held_out_refit(moments(x, torch.ones(1, 40, 2)), moments(other, torch.ones(1, 40, 2)))
    torch.testing.assert_close(
        shifted.bias + shifted.weight @ torch.ones(3).double(), torch.ones(2).double(), rtol=1e-3, atol=1e-3
    )
    assert held_out_refit(moments(x, torch.ones(1, 40, 2)), moments(other, -torch.ones(1, 40, 2))).kind == "none"


def test_a_covariance_that_rounding_broke_still_has_a_factor() -> None:
    broken = torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-12]], dtype=torch.float64)
    assert (factor(broken) @ factor(broken).T - broken).abs().max() < 1e-6
    with pytest.raises(CheckpointError, match="not finite"):
        factor(torch.full((2, 2), float("nan"), dtype=torch.float64))
