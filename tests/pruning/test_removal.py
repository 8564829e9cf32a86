"""What columns that stay take over: against least squares on all tokens, for every number of them."""

from __future__ import annotations

import pytest
import torch

from edgevit.pruning.moments import Moments
from edgevit.pruning.refit import mean_error
from edgevit.pruning.removal import Removal

CHANNELS, OUTPUTS = 10, 4


@pytest.mark.parametrize("staying", range(CHANNELS + 1))
def test_it_is_ridge_regression_on_what_is_left(staying: int) -> None:
    """min |w_gone x_gone - g x_stay - b|^2 + the damping, solved by lstsq on tokens that the damping is appended to."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=generator)
    x = (torch.randn(300, CHANNELS, generator=generator) @ mixing + torch.arange(CHANNELS)).double()
    weight = torch.randn(OUTPUTS, CHANNELS, generator=generator).double()
    channels = torch.randperm(CHANNELS, generator=generator)
    moments = Moments.none(CHANNELS).add(x[None])
    found = Removal.of(moments, channels).change(weight, staying)

    stay, go = channels[:staying], channels[staying:]
    centred = x - x.mean(0)
    damping = torch.diag((0.01 * 300 * x.var(0, unbiased=False)).sqrt())[stay][:, stay]
    inputs = torch.cat([centred[:, stay], damping])
    wanted = torch.cat([centred[:, go] @ weight[:, go].T, torch.zeros(staying, OUTPUTS, dtype=torch.float64)])
    taken_over = torch.linalg.lstsq(inputs, wanted).solution.T if staying else wanted.T[:, :0]
    torch.testing.assert_close(found.weight[:, stay], taken_over, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.weight[:, go], -weight[:, go])
    changed = x @ (weight + found.weight).T + found.bias
    torch.testing.assert_close(changed.mean(0), (x @ weight.T).mean(0), rtol=1e-4, atol=1e-4)
    nothing = Moments.none(CHANNELS, OUTPUTS).add(x[None], torch.zeros(1, 300, OUTPUTS).double())
    assert mean_error(nothing, found) == pytest.approx(float((changed - x @ weight.T).square().sum(1).mean()), rel=1e-4, abs=1e-6)
