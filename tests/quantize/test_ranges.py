"""Range estimation: exact on small cases, never beyond the largest, clipping only where that pays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from edgevit.numberformat import INT8
from edgevit.quantize.ranges import CLIPS, entropy, mse, output_aware, percentile, widened

INF = float("inf")
ESTIMATES: dict[str, Callable[[Tensor], float]] = {
    "percentile": lambda x: percentile(x, 99.0),
    "mse": lambda x: mse(x, INT8),
    "entropy": lambda x: entropy(x, INT8),
    "output aware": lambda x: output_aware(x[:, None], torch.tensor([[1.0], [-2.0]]), INT8),
}


def normal(count: int = 4000) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0)).abs()


@pytest.mark.parametrize(
    ("largest", "tail", "wanted"),
    [
        ([8.0, 6.0, 5.0, 4.0, 1.0], 0.0, 8.0),
        ([8.0, 6.0, 5.0, 4.0, 1.0], 0.5, 10.0),  # the fifth is not looked at
        ([8.0, 8.0, 8.0, 8.0], 1.0, 8.0),
        ([8.0, 6.0], 1.0, 10.0),
        ([8.0, 6.0, -INF, -INF, -INF], 1.0, 10.0),  # places that no image has filled
        ([8.0, -INF, -INF, -INF, -INF], 1.0, 8.0),
        ([-2.0, -3.0, -4.0, -6.0], 0.25, -1.0),
        ([0.0], 1.0, 0.0),
    ],
)
def test_widened(largest: list[float], tail: float, wanted: float) -> None:
    assert float(widened(torch.tensor(largest), tail)) == pytest.approx(wanted)
    assert float(widened(torch.tensor([largest, largest]), tail)[1]) == pytest.approx(wanted)


@pytest.mark.parametrize(("share", "wanted"), [(50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0)])
def test_percentile(share: float, wanted: float) -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    magnitudes = torch.arange(1.0, 101.0)[order]
    assert percentile(magnitudes, share) == wanted
    assert percentile(magnitudes.view(4, 25), share) == wanted
    assert percentile(torch.tensor([3.0]), share) == 3.0


@pytest.mark.parametrize("name", ESTIMATES)
def test_no_clip_is_beyond_the_largest(name: str) -> None:
    for x in (normal(), normal() ** 3, torch.rand(500), torch.tensor([0.0, 0.0, 5.0]), torch.tensor([7.0])):
        assert 0 < ESTIMATES[name](x) <= float(x.max()) * (1 + 1e-6)


@pytest.mark.parametrize("name", ESTIMATES)
def test_zeros(name: str) -> None:
    assert ESTIMATES[name](torch.zeros(300)) == 0.0


@pytest.mark.parametrize("name", ["mse", "output aware"])
def test_ties_clip_nothing(name: str) -> None:
    """Values on the grid of their own maximum have no error without a clip."""
    assert ESTIMATES[name](torch.arange(128.0)) == 127.0
    assert ESTIMATES[name](torch.tensor([0.0, 4.0, 4.0])) == 4.0


def test_mse_is_the_best_of_its_candidates() -> None:
    x = normal() ** 2

    def error(clip: float) -> float:
        step = clip / 127
        return float((((x / step).round().clamp(-128, 127) * step - x).double() ** 2).mean())

    assert error(mse(x, INT8)) == pytest.approx(min(error(share * float(x.max())) for share in CLIPS), rel=1e-6)


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy", "output aware"])
def test_a_heavy_tail_is_clipped(name: str) -> None:
    """Many small values and few far ones: a finer step for all is worth more than the few."""
    x = torch.cat([normal(200_000), torch.tensor([8.0])])
    assert ESTIMATES[name](x) < 0.95 * float(x.max())


@pytest.mark.parametrize("name", ["mse", "entropy", "output aware"])
def test_even_values_are_not_clipped(name: str) -> None:
    x = torch.linspace(0, 3, 20_001)
    assert ESTIMATES[name](x) > 0.97 * 3.0


def test_output_aware_sees_which_channels_matter() -> None:
    """A far value in a channel that no output reads costs nothing to clip; in one that all read it costs the most."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2000, 4, generator=generator)
    tokens[:, 2] = 0
    tokens[5, 2] = 10.0
    weight = torch.randn(8, 4, generator=generator)
    dead, read = weight.clone(), weight.clone()
    dead[:, 2], read[:, 2] = 0, 20.0
    largest = float(tokens.abs().max())
    clip = output_aware(tokens, dead, INT8)
    assert clip < 0.6 * largest  # what the other channels need
    assert output_aware(tokens, read, INT8) == pytest.approx(largest)
    assert mse(tokens.abs(), INT8) > clip
