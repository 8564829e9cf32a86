"""Rescaling and centring in front of softmax: exact, and it makes ranges even."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgevit.model.folded import forward, plain_attention
from edgevit.model.quantplan import (
    QuantizedAttention,
    QuantizedLinear,
    quantized_attention,
    quantized_linear,
)
from edgevit.model.rewrites.kinds import Rewrite
from edgevit.model.rewrites.scores import even_scores, key_bias, without_key_bias
from edgevit.numberformat import INT8
from edgevit.quantize.attention import step_for
from tests.zoo import as_double, folded, frames

INNER, TOKENS = 16, 40
ALL = frozenset(Rewrite)


def evened(before: QuantizedLinear, low: Tensor, high: Tensor) -> tuple[QuantizedLinear, QuantizedAttention]:
    """With the steps that follow from what queries and keys reach."""
    after, queries, keys = even_scores(before, low, high, ALL)
    return after, QuantizedAttention(query_step=step_for(queries, INT8), key_step=step_for(keys, INT8))


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
    after, *_ = even_scores(before, output.amin(0).float(), output.amax(0).float(), ALL)
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
        after, *_ = even_scores(before, low, high, ALL)
        assert (after.weight_scale[: 2 * INNER] / before.weight_scale[: 2 * INNER] - 1).abs().amin() > 1e-6
        assert (scores(exact(after, inputs)) - attention).abs().max() < 1e-10
        assert torch.equal(exact(after, inputs)[:, 2 * INNER :], output[:, 2 * INNER :])


def test_steps_cover_the_ranges_and_are_even(codes: Tensor, inputs: Tensor) -> None:
    """The largest query and key of calibration are code 127, and channels of both have the same range."""
    before = qkv(codes)
    output = exact(before, inputs).float()
    after, steps = evened(before, output.amin(0), output.amax(0))
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
    after, steps = evened(before, output.amin(0), output.amax(0))
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
    after, steps = evened(before, output.amin(0), output.amax(0))
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
    after, *_ = even_scores(before, output.amin(0), output.amax(0), ALL)
    assert (exact(after, inputs)[:, INNER : INNER + 3] == 0).all()
    for rows in (slice(3), slice(INNER, INNER + 3)):
        assert torch.equal(after.weight_scale[rows], before.weight_scale[rows])
    torch.testing.assert_close(scores(exact(after, inputs)), scores(exact(before, inputs)), rtol=1e-4, atol=1e-6)


def test_dead_queries_and_keys(inputs: Tensor) -> None:
    """A head that is all zero still gets a step, and nothing is divided by zero."""
    before = replace(qkv(torch.zeros(3 * INNER, 8, dtype=torch.int8)), bias=torch.zeros(3 * INNER))
    after, steps = evened(before, torch.zeros(3 * INNER), torch.zeros(3 * INNER))
    assert (steps.query_step, steps.key_step) == (1.0, 1.0)
    assert torch.isfinite(quantized_linear(inputs, after)).all()


# --- where it is not exact -------------------------------------------------------------------------------------------------


def test_nothing_is_changed_where_nothing_is_legal(codes: Tensor, inputs: Tensor) -> None:
    """The reaches are then those of the outputs as they are."""
    before = qkv(codes)
    low, high = exact(before, inputs).float().amin(0), exact(before, inputs).float().amax(0)
    after, queries, keys = even_scores(before, low, high, frozenset())
    assert torch.equal(after.weight_scale, before.weight_scale)
    assert torch.equal(after.bias, before.bias)
    largest = torch.maximum(high, -low)
    assert torch.equal(queries, largest[:INNER])
    assert torch.equal(keys, largest[INNER : 2 * INNER])


def test_each_is_asked_for_alone(codes: Tensor, inputs: Tensor) -> None:
    """Centred keys reach as far up as down; evened ones reach as far as the queries, and their bias keeps its share."""
    before = qkv(codes)
    output = exact(before, inputs).float()
    low, high = output.amin(0), output.amax(0)
    centred, _, keys = even_scores(before, low, high, frozenset({Rewrite.CENTRE_KEYS}))
    assert torch.equal(centred.weight_scale, before.weight_scale)
    found = exact(centred, inputs)[:, INNER : 2 * INNER]
    torch.testing.assert_close(found.amax(0), -found.amin(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.abs().amax(0).float(), keys, rtol=1e-4, atol=1e-4)
    even, queries, keys = even_scores(before, low, high, frozenset({Rewrite.EVEN_SCORES}))
    torch.testing.assert_close(queries, keys)
    factors = even.weight_scale / before.weight_scale
    torch.testing.assert_close(even.bias, before.bias * factors)
    torch.testing.assert_close(scores(exact(even, inputs)), scores(exact(before, inputs)), rtol=1e-4, atol=1e-6)


def test_a_block_without_key_bias_computes_the_same() -> None:
    """In float64; only the keys' rows of the bias change."""
    model = as_double(folded())
    images = torch.from_numpy(frames(model.config, 2))
    bare = replace(model, blocks=[without_key_bias(block) for block in model.blocks])
    assert (forward(bare, images) - forward(model, images)).abs().max() < 1e-10
    for block, old in zip(bare.blocks, model.blocks, strict=True):
        assert (key_bias(block) == 0).all()
        assert (key_bias(old) != 0).all()
        assert torch.equal(block.qkv.bias[:32], old.qkv.bias[:32])
        assert torch.equal(block.qkv.bias[64:], old.qkv.bias[64:])
