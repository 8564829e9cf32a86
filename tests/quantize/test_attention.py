"""INT8 attention: the rescaling in front of it is exact, steps cover what they must, blocks that lose by it stay float."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgevit.model.folded import plain_attention
from edgevit.model.quantplan import (
    QuantizedAttention,
    QuantizedLinear,
    quantized_attention,
    quantized_linear,
)
from edgevit.model.rounding import quantize_weight
from edgevit.numberformat import INT8
from edgevit.quantize.attention import PEAKS, TOLERANCE, added_noise, choose, even_scores, with_values

INNER, TOKENS = 16, 40


def qkv(weight: Tensor) -> QuantizedLinear:
    """An INT8 GEMM with the codes ``weight``, a bias and steps that are no powers of two."""
    generator = torch.Generator().manual_seed(1)
    scale = torch.rand(len(weight), generator=generator) * 0.01 + 0.001
    bias = torch.randn(len(weight), generator=generator)
    return QuantizedLinear(weight=weight, weight_scale=scale, input_scale=0.03, bias=bias)


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(-127, 128, (3 * INNER, 8), generator=torch.Generator().manual_seed(0)).to(torch.int8)


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(TOKENS, 8, generator=torch.Generator().manual_seed(2))


def exact(linear: QuantizedLinear, x: Tensor) -> Tensor:
    """The output in float64, without rounding queries and keys."""
    steps = torch.clamp(torch.round(x / linear.input_scale), -128, 127).double()
    return steps @ linear.weight.double().T * (linear.weight_scale.double() * linear.input_scale) + linear.bias.double()


def scores(output: Tensor) -> Tensor:
    query, key, _ = output.chunk(3, dim=-1)
    return (query @ key.T).softmax(-1)


def test_rescaling_and_centring_leave_attention_unchanged(codes: Tensor, inputs: Tensor) -> None:
    """Softmax ignores what a constant key adds, and d / d is one; up to the float32 of the stored scales."""
    before = qkv(codes)
    output = exact(before, inputs)
    after, _ = even_scores(before, output.amin(0).float(), output.amax(0).float())
    assert not torch.equal(after.bias, before.bias)
    torch.testing.assert_close(scores(exact(after, inputs)), scores(output), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(exact(after, inputs)[:, 2 * INNER :], output[:, 2 * INNER :], rtol=0, atol=0)


def test_the_rescaling_is_exact_in_float64(codes: Tensor, inputs: Tensor) -> None:
    """With scales, biases and ranges in float64 nothing but the rounding of float64 is left, for any ranges."""
    generator = torch.Generator().manual_seed(3)
    single = qkv(codes)
    before = replace(single, weight_scale=single.weight_scale.double() * 0.2, bias=single.bias.double())
    output = exact(before, inputs)
    attention = scores(output)
    assert (attention.max(-1).values < 0.999).any()  # softmax is not saturated, so a change would show
    wide = torch.rand(3 * INNER, generator=generator, dtype=torch.float64) * 5
    for low, high in ((output.amin(0), output.amax(0)), (output.amin(0) - wide, output.amax(0) + wide.flip(0))):
        after, _ = even_scores(before, low, high)
        assert (after.weight_scale[: 2 * INNER] / before.weight_scale[: 2 * INNER] - 1).abs().amin() > 1e-6
        assert (scores(exact(after, inputs)) - attention).abs().max() < 1e-10
        assert torch.equal(exact(after, inputs)[:, 2 * INNER :], output[:, 2 * INNER :])


def test_steps_cover_the_ranges_and_are_even(codes: Tensor, inputs: Tensor) -> None:
    """The largest query and key of calibration are code 127, and channels of both have the same range."""
    before = qkv(codes)
    output = exact(before, inputs).float()
    after, steps = even_scores(before, output.amin(0), output.amax(0))
    query, key, _ = exact(after, inputs).chunk(3, dim=-1)
    for part, step in ((query, steps.query_step), (key, steps.key_step)):
        assert float(part.abs().max()) / step == pytest.approx(127, rel=1e-4)
    torch.testing.assert_close(query.abs().amax(0), key.abs().amax(0), rtol=1e-4, atol=1e-5)


def heads(output: Tensor, count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [1, heads, tokens, head_dim] of qkv's output [tokens, 3 * inner]."""
    query, key, value = output.float().view(1, TOKENS, 3, count, -1).permute(2, 0, 3, 1, 4)
    return query, key, value


def test_queries_and_keys_are_rounded_and_values_are_not(codes: Tensor, inputs: Tensor) -> None:
    before = qkv(codes)
    output = exact(before, inputs).float()
    after, steps = even_scores(before, output.amin(0), output.amax(0))
    query, key, value = heads(quantized_linear(inputs, after))
    rounded = [(part / step).round() * step for part, step in ((query, steps.query_step), (key, steps.key_step))]
    assert steps.products == "scores"
    torch.testing.assert_close(quantized_attention(query, key, value, steps), plain_attention(None, *rounded, value))
    torch.testing.assert_close(value, heads(output)[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dead", [0, 1], ids=["queries", "keys"])
def test_one_side_is_dead(codes: Tensor, inputs: Tensor, dead: int) -> None:
    """Queries or keys that are all zero stay zero; the other side keeps its range, and attention stays uniform."""
    codes[dead * INNER : (dead + 1) * INNER] = 0
    single = qkv(codes)
    before = replace(single, bias=single.bias.clone())
    before.bias[dead * INNER : (dead + 1) * INNER] = 0
    output = exact(before, inputs).float()
    after, steps = even_scores(before, output.amin(0), output.amax(0))
    # A channel counts only if both sides live, so neither has a range here.
    assert (steps.query_step, steps.key_step) == (1.0, 1.0)
    rounded = quantized_linear(inputs, after)
    assert torch.isfinite(rounded).all()
    assert (rounded.chunk(3, dim=-1)[dead] == 0).all()
    assert (rounded.chunk(3, dim=-1)[1 - dead] != 0).any()
    torch.testing.assert_close(scores(rounded), torch.full((TOKENS, TOKENS), 1 / TOKENS))


def test_constant_keys_are_centred_away(codes: Tensor, inputs: Tensor) -> None:
    """A key channel that never changes says nothing: it becomes zero and no channel is divided by its empty range."""
    codes[INNER : INNER + 3] = 0
    before = qkv(codes)
    output = exact(before, inputs).float()
    after, _ = even_scores(before, output.amin(0), output.amax(0))
    assert (exact(after, inputs)[:, INNER : INNER + 3] == 0).all()
    for rows in (slice(3), slice(INNER, INNER + 3)):
        assert torch.equal(after.weight_scale[rows], before.weight_scale[rows])
    torch.testing.assert_close(scores(exact(after, inputs)), scores(exact(before, inputs)), rtol=1e-4, atol=1e-6)


def test_dead_queries_and_keys(inputs: Tensor) -> None:
    """A head that is all zero still gets a step, and nothing is divided by zero."""
    before = replace(qkv(torch.zeros(3 * INNER, 8, dtype=torch.int8)), bias=torch.zeros(3 * INNER))
    after, steps = even_scores(before, torch.zeros(3 * INNER), torch.zeros(3 * INNER))
    assert (steps.query_step, steps.key_step) == (1.0, 1.0)
    assert torch.isfinite(quantized_linear(inputs, after)).all()


# --- values --------------------------------------------------------------------------------------------------------------


def parts(sharpness: float) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one image whose attention is flat (0) or nearly one-hot (large)."""
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(1, 2, TOKENS, 8, generator=generator) for _ in range(3))
    return query * sharpness, key, value


def projection() -> QuantizedLinear:
    weight, step = quantize_weight(torch.randn(12, 16, generator=torch.Generator().manual_seed(5)), INT8)
    return QuantizedLinear(weight=weight, weight_scale=step, input_scale=0.02, bias=torch.zeros(12))


def test_steps_of_the_second_product() -> None:
    """Values end at their largest code; softmax's step is a candidate, and no other candidate has less error."""
    query, key, value = parts(0.5)
    reach = value.abs().amax((0, 2)).flatten()
    steps = with_values(QuantizedAttention(query_step=0.1, key_step=0.2), (query, key, value), reach)
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
    query, key, value = (part.round() for part in parts(3.0))
    exact_steps = QuantizedAttention(query_step=1.0, key_step=1.0)
    assert added_noise(exact_steps, (query, key, value), projection()) == 0
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
    assert choose(noise, "auto") == wanted
    assert [choose(noise, said) for said in ("off", "scores", "full")] == ["off", "scores", "full"]
