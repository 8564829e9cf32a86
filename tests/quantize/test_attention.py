"""INT8 attention: steps cover what they must, and blocks that lose by it stay in floating point."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgevit.model.quantplan import QuantizedAttention, QuantizedLinear
from edgevit.model.rounding import quantize_weight
from edgevit.numberformat import INT8
from edgevit.quantize.attention import PEAKS, TOLERANCE, added_noise, choose_products, with_values

TOKENS = 40


def parts(sharpness: float) -> tuple[Tensor, Tensor, Tensor, None]:
    """Queries, keys, values and no bias, of one image whose attention is flat (0) or nearly one-hot (large)."""
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(1, 2, TOKENS, 8, generator=generator) for _ in range(3))
    return query * sharpness, key, value, None


def projection() -> QuantizedLinear:
    weight, step = quantize_weight(torch.randn(12, 16, generator=torch.Generator().manual_seed(5)), INT8)
    return QuantizedLinear(weight=weight, weight_scale=step, input_scale=0.02, bias=torch.zeros(12))


def test_steps_of_the_second_product() -> None:
    """Values end at their largest code; softmax's step is a candidate, and no other candidate has less error."""
    query, key, value, _ = parts(0.5)
    reach = value.abs().amax((0, 2)).flatten()
    steps = with_values(QuantizedAttention(query_step=0.1, key_step=0.2), (query, key, value, None), reach)
    assert (steps.query_step, steps.key_step, steps.products) == (0.1, 0.2, "full")
    assert steps.value_step == pytest.approx(float(value.abs().max()) / 127)
    assert steps.probability_step is not None
    probabilities = (query @ key.transpose(2, 3)).softmax(-1)

    def error(step: float) -> float:
        return float((((probabilities / step).round().clamp(-128, 127) * step - probabilities) @ value).square().sum())

    candidates = [peak * float(probabilities.max()) / 127 for peak in PEAKS]
    assert any(steps.probability_step == pytest.approx(step) for step in candidates)
    assert error(steps.probability_step) == pytest.approx(min(map(error, candidates)))


def test_noise_is_measured_in_that_of_proj() -> None:
    """None for a product that is exact, more for coarser steps, less beside a coarser proj."""
    query, key, value = (part.round() for part in parts(3.0)[:3])
    exact_steps = QuantizedAttention(query_step=1.0, key_step=1.0)
    assert added_noise(exact_steps, (query, key, value, None), projection()) == 0
    coarse = [
        added_noise(QuantizedAttention(query_step=step, key_step=step), parts(1.0), projection()) for step in (0.03, 0.1, 0.3)
    ]
    assert 0 < coarse[0] < coarse[1] < coarse[2]
    steps = QuantizedAttention(query_step=0.1, key_step=0.1)
    noise = [added_noise(steps, parts(1.0), replace(projection(), input_scale=step)) for step in (0.02, 0.04)]
    assert noise[0] / noise[1] == pytest.approx(4, rel=0.2)  # a step twice as coarse is four times the noise


@pytest.mark.parametrize(
    ("scores", "full", "wanted"),
    [(0.1, 0.4, "full"), (0.1, TOLERANCE, "full"), (0.1, 0.6, "scores"), (0.6, 0.7, "off"), (0.6, float("inf"), "off")],
)
def test_auto_takes_the_most_that_adds_little(scores: float, full: float, wanted: str) -> None:
    noise = {"scores": scores, "full": full}
    assert choose_products(noise, "auto") == wanted
    assert [choose_products(noise, said) for said in ("off", "scores", "full")] == ["off", "scores", "full"]
