"""Maps, rollout and distances by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.attention_maps.maps import Attention, correlation, distance, stacked


def softmaxed(seed: int, heads: int, queries: int, tokens: int) -> np.ndarray:
    weights = np.exp(np.random.default_rng(seed).normal(size=(heads, queries, tokens))).astype(np.float32)
    return np.asarray(weights / weights.sum(-1, keepdims=True), np.float32)


def with_class_token(seed: int = 0, heads: tuple[int, int] = (2, 3)) -> Attention:
    """Two blocks on 2 x 3 patches behind a class token and a register; the last block carries the class token alone."""
    weights = {0: softmaxed(seed, heads[0], 8, 8), 1: softmaxed(seed + 1, heads[1], 1, 8)}
    return Attention(weights=weights, grid=(2, 3), class_token=True)


def without(seed: int = 0) -> Attention:
    weights = {i: softmaxed(seed + i, 2, 6, 6) for i in range(2)}
    return Attention(weights=weights, grid=(2, 3), class_token=False)


def test_prefix_tokens_are_what_is_no_patch() -> None:
    assert with_class_token().prefix == 2
    assert without().prefix == 0


def test_maps_are_the_class_tokens_row_on_patches() -> None:
    attention = with_class_token()
    assert attention.maps(0).shape == (2, 2, 3)
    assert np.array_equal(attention.maps(0)[1], attention.weights[0][1, 0, 2:].reshape(2, 3))
    assert np.array_equal(attention.maps(1)[2], attention.weights[1][2, 0, 2:].reshape(2, 3))


def test_without_a_class_token_the_mean_over_queries() -> None:
    attention = without()
    assert attention.maps(1) == pytest.approx(attention.weights[1].mean(1).reshape(2, 2, 3))
    assert attention.maps(1).sum((1, 2)) == pytest.approx([1, 1], abs=1e-6)


def test_rollout_by_hand() -> None:
    """Half of every token's flow is its own; the last block has one query."""
    attention = with_class_token()
    first = 0.5 * attention.weights[0].mean(0) + 0.5 * np.eye(8)
    last = 0.5 * attention.weights[1].mean(0)[0] + 0.5 * np.eye(8)[0]
    assert attention.rollout() == pytest.approx((last @ first)[2:].reshape(2, 3), abs=1e-6)


def test_rollout_without_a_class_token_sums_to_one() -> None:
    assert without().rollout().sum() == pytest.approx(1, abs=1e-6)


def test_rollout_of_attention_to_oneself_is_the_image_evenly() -> None:
    eye = np.tile(np.eye(6, dtype=np.float32), (2, 1, 1))
    attention = Attention(weights={0: eye, 1: eye}, grid=(2, 3), class_token=False)
    assert attention.rollout() == pytest.approx(np.full((2, 3), 1 / 6))


def test_distance_is_the_share_that_goes_elsewhere() -> None:
    one, other = np.zeros((1, 2, 4), np.float32), np.zeros((1, 2, 4), np.float32)
    one[:, :, 0] = 1
    other[:, :, :2] = 0.5
    other[:, 1] = one[:, 1]  # the second query does not move
    attentions = [Attention(weights={3: weights}, grid=(2, 2), class_token=False) for weights in (one, other)]
    assert distance(*attentions)[3] == pytest.approx([0.25])
    assert distance(attentions[0], attentions[0])[3] == pytest.approx([0])


def test_distance_leaves_out_what_cannot_be_compared() -> None:
    """A pruned model has fewer heads in a block."""
    assert distance(with_class_token(), with_class_token(heads=(2, 1))).keys() == {0}


def test_correlation() -> None:
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert correlation(one, 3 * one + 1) == pytest.approx(1)
    assert correlation(one, -one) == pytest.approx(-1)
    assert correlation(one, np.ones((2, 3), np.float32)) is None


def test_stacked_marks_what_is_missing() -> None:
    """[models, blocks, heads, rows, columns], NaN for heads and blocks that a model lacks."""
    whole, pruned = with_class_token(), with_class_token(5, heads=(1, 3))
    pruned.weights.pop(1)
    found = stacked([whole, pruned])
    assert found.shape == (2, 2, 3, 2, 3)
    assert np.array_equal(found[0, 1], whole.maps(1))
    assert np.isnan(found[1, 1]).all()
    assert np.isnan(found[1, 0, 1:]).all()
    assert np.array_equal(found[1, 0, 0], pruned.maps(0)[0])
