"""Scores, orders and refits against what least squares itself says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import bias_only, held_out_refit, mean_error, ridge_refit, unchanged
from edgevit.pruning.scores import ascending, obs, obs_order, summed, taylor, variance, wifv

CHANNELS, OUTPUTS, SIZE = 12, 5, 3


@pytest.fixture
def tokens() -> Tensor:
    """Correlated activations [200, 12] whose means differ."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=generator)
    return torch.randn(200, CHANNELS, generator=generator) @ mixing + torch.arange(CHANNELS)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(OUTPUTS, CHANNELS, generator=torch.Generator().manual_seed(1))


def left_after(tokens: Tensor, weight: Tensor, gone: list[int]) -> float:
    """Mean squared output error with columns ``gone`` removed and all others and a bias fitted anew, by lstsq."""
    stays = [channel for channel in range(CHANNELS) if channel not in gone]
    inputs = torch.cat([tokens[:, stays], torch.ones(len(tokens), 1)], 1).double()
    wanted = tokens.double() @ weight.double().T
    solution = torch.linalg.lstsq(inputs, wanted).solution
    return float((wanted - inputs @ solution).square().sum(1).mean())


def test_obs_is_what_least_squares_leaves(tokens: Tensor, weight: Tensor) -> None:
    covariance = Moments.none(CHANNELS).add(tokens[None].double()).covariance
    inverse = torch.linalg.inv(covariance)
    single = obs(inverse, weight.double())
    assert single.tolist() == pytest.approx([left_after(tokens, weight, [j]) for j in range(CHANNELS)], rel=2e-3)
    groups = [list(range(start, start + SIZE)) for start in range(0, CHANNELS, SIZE)]
    assert obs(inverse, weight.double(), SIZE).tolist() == pytest.approx(
        [left_after(tokens, weight, group) for group in groups], rel=2e-3
    )


def test_the_order_looks_again_after_every_removal(tokens: Tensor, weight: Tensor) -> None:
    """Greedy by brute force, one unit at a time."""
    covariance = Moments.none(CHANNELS).add(tokens[None].double()).covariance
    gone: list[int] = []
    for unit in obs_order(covariance, weight, batch=1, damping=0)[:-1].tolist():
        errors = {j: left_after(tokens, weight, [*gone, j]) for j in range(CHANNELS) if j not in gone}
        assert errors[unit] == pytest.approx(min(errors.values()), rel=2e-3)
        gone.append(unit)
    assert sorted(obs_order(covariance, weight, SIZE, 1).tolist()) == list(range(CHANNELS // SIZE))


def test_two_equal_channels_are_not_both_removed() -> None:
    """Each alone costs nothing, both cost much: a static score cannot tell."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(500, 1, generator=generator, dtype=torch.float64)
    others = 0.5 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    covariance = Moments.none(4).add(torch.cat([first, first, others], 1)[None]).covariance
    order = obs_order(covariance, torch.eye(4), batch=1).tolist()
    assert order[0] in (0, 1)
    assert order[-1] in (0, 1)


def test_static_scores(tokens: Tensor, weight: Tensor) -> None:
    covariance = Moments.none(CHANNELS).add(tokens[None].double()).covariance
    expected = tokens.double().var(0, unbiased=False)
    torch.testing.assert_close(variance(covariance), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(wifv(covariance, weight), expected * weight.double().square().sum(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(summed(variance(covariance), SIZE), expected.view(-1, SIZE).sum(1), rtol=1e-4, atol=1e-5)
    assert ascending(torch.tensor([3.0, 1.0, 2.0])).tolist() == [1, 2, 0]


def test_taylor_adds_up_within_an_image_and_squares_over_images() -> None:
    contributions = torch.tensor([[1.0, 1.0, 2.0, -2.0], [3.0, -1.0, 0.0, 0.0]])
    assert taylor(contributions).tolist() == [5.0, 1.0, 2.0, 2.0]
    assert taylor(contributions, 2).tolist() == [4.0, 0.0]


def test_weighted_moments_are_those_of_repeated_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 3, 5, generator=generator), torch.randn(4, 3, 2, generator=generator)
    weights = torch.tensor([3.0, 1.0, 2.0])
    repeated = [token for token, times in enumerate(weights) for _ in range(int(times))]
    one, other = Moments.none(5, 2).add(x, y, weights), Moments.none(5, 2).add(x[:, repeated], y[:, repeated])
    assert one.count == other.count == 24
    for field in ("x", "y", "xx", "xy", "yy"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), rtol=1e-5, atol=1e-5)
    both = one + other
    assert both.count == 48
    torch.testing.assert_close(both.covariance, one.covariance, rtol=1e-5, atol=1e-5)


def test_ridge_without_a_ridge_is_least_squares(tokens: Tensor) -> None:
    generator = torch.Generator().manual_seed(2)
    y = tokens @ torch.randn(CHANNELS, OUTPUTS, generator=generator) + 3 + torch.randn(200, OUTPUTS, generator=generator)
    moments = Moments.none(CHANNELS, OUTPUTS).add(tokens[None].double(), y[None].double())
    refit = ridge_refit(moments, 0.0)
    inputs = torch.cat([tokens, torch.ones(200, 1)], 1).double()
    solution = torch.linalg.lstsq(inputs, y.double()).solution
    torch.testing.assert_close(refit.weight, solution[:-1].T, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(refit.bias, solution[-1], rtol=1e-3, atol=1e-3)
    assert mean_error(moments, refit) == pytest.approx(float((y.double() - inputs @ solution).square().sum(1).mean()), rel=1e-6)
    assert mean_error(moments, unchanged(moments)) == pytest.approx(float(y.double().square().sum(1).mean()))
    assert mean_error(moments, ridge_refit(moments, 1e12)) == pytest.approx(mean_error(moments, bias_only(moments)))


def test_a_refit_that_does_not_hold_on_other_images_is_refused() -> None:
    """Nothing but chance connects these inputs and outputs: whatever is learnt from few of them makes it worse."""
    generator = torch.Generator().manual_seed(0)
    fit, held_out = (
        Moments.none(30, 4).add(torch.randn(1, 32, 30, generator=generator), torch.randn(1, 32, 4, generator=generator))
        for _ in range(2)
    )
    assert held_out_refit(fit, held_out).kind != "ridge" or held_out_refit(fit, held_out).ridge == 1.0
    constant = Moments.none(30, 4).add(torch.randn(1, 32, 30, generator=generator), torch.ones(1, 32, 4))
    assert held_out_refit(constant, constant).bias.tolist() == pytest.approx([1.0] * 4, abs=1e-4)
