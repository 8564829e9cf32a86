"""How much of a range goes into weights."""

from __future__ import annotations

import pytest
import torch

from edgevit.quantize.smoothing import migration_scales


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75])
def test_scales_even_the_channels(alpha: float) -> None:
    """Channels of large input and small weight are divided; the geometric mean is 1, so the step hardly moves."""
    inputs, weight = torch.tensor([1.0, 4.0, 1.0, 1.0]), torch.eye(4) * torch.tensor([1.0, 1.0, 4.0, 1.0])
    scales = migration_scales(inputs, weight.abs().amax(0), alpha)
    assert scales[1] > scales[0] > scales[2]
    assert scales[0] == scales[3]
    assert scales.log().mean().abs() < 1e-6
    assert scales[1] / scales[0] == pytest.approx(4**alpha)


def test_dead_channels_keep_their_scale() -> None:
    """A channel that is always zero, or that no output reads, neither divides by zero nor moves the others."""
    inputs, weight = torch.tensor([0.0, 2.0, 3.0, 5.0]), torch.rand(6, 4) + 0.1
    weight[:, 2] = 0
    scales = migration_scales(inputs, weight.abs().amax(0), 0.5)
    assert torch.equal(scales[[0, 2]], torch.ones(2))
    torch.testing.assert_close(scales[[1, 3]], migration_scales(inputs[[1, 3]], weight[:, [1, 3]].abs().amax(0), 0.5))
    assert torch.equal(migration_scales(torch.zeros(4), weight.abs().amax(0), 0.5), torch.ones(4))


def test_scales_are_bounded() -> None:
    """1e30 against 1e-30: the factors stay where float32 weights and biases survive them."""
    scales = migration_scales(torch.tensor([1e30, 1.0, 1e-30]), torch.ones(3), 1.0)
    assert scales.tolist() == pytest.approx([1e3, 1, 1e-3])


def test_scales_of_many_ranges_are_those_of_each() -> None:
    """Ranges image by image [N, C] are no others than [C] one after another; alpha 0 is off."""
    ranges, weight = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), torch.rand(6, 4) + 0.1
    ranges[2, 1] = 0
    wanted = torch.stack([migration_scales(row, weight.abs().amax(0), 0.75) for row in ranges])
    torch.testing.assert_close(migration_scales(ranges, weight.abs().amax(0), 0.75), wanted)
    assert torch.equal(migration_scales(ranges, weight.abs().amax(0), 0.0), torch.ones(5, 4))
