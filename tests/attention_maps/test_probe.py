"""Attention of a model that merges tokens, on the patches that it began with."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.attention_maps.maps import unmerged
from edgevit.attention_maps.probe import Probe
from edgevit.export.form import Form
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from tests.zoo import ZOO, folded, frames


@pytest.mark.parametrize("name", [name for name in ZOO if name.startswith("merging") and "pruned" not in name])
def test_every_patch_has_its_share(name: str) -> None:
    """Rows sum to 1 over all tokens, in every block, and a token looks where the one that it became part of does."""
    model = folded(**ZOO[name])
    probe = Probe(write_graph(QuantPlan(model=model)), model.config.to_dict(), threads=1)
    _, attention = probe.look(frames(model.config, 1)[0])
    for block, weights in attention.weights.items():
        assert weights.shape[2] == model.config.tokens, block
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert attention.rollout().shape == model.config.grid
    merged = next(i for i, block in enumerate(model.config.blocks) if block.merged)
    if merged + 1 < len(model.config.blocks) - 1:
        rows = {row.tobytes() for row in attention.weights[merged + 1][0]}
        assert len(rows) == model.config.tokens_into(merged + 1)


@pytest.mark.parametrize("name", ["plain", "mean pooling", "registers", "merging"])
def test_a_masked_token_is_not_there(name: str) -> None:
    """Of a graph that has one the same attention is told as of one that has none, and the same rollout."""
    model = folded(**ZOO[name])
    image = frames(model.config, 1)[0]
    plain, padded = (
        Probe(write_graph(QuantPlan(model=model), form), model.config.to_dict(), threads=1).look(image)[1]
        for form in (Form(), Form(padded=True))
    )
    assert padded.prefix == plain.prefix == model.config.prefix_tokens
    np.testing.assert_allclose(padded.rollout(), plain.rollout(), rtol=1e-4, atol=1e-6)
    for block, weights in plain.weights.items():
        np.testing.assert_allclose(padded.weights[block], weights, rtol=1e-4, atol=1e-6)


def test_shares_by_hand() -> None:
    """Tokens 1 and 2 become one behind block 0, and that one and token 3 behind block 1."""
    one = np.array([[[0.4, 0.3, 0.2, 0.1]] * 4], np.float32)
    two = np.array([[[0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]], np.float32)
    three = np.array([[[0.4, 0.6]]], np.float32)
    places = {0: np.array([0, 1, 1, 2]), 1: np.array([0, 1, 1])}
    found = unmerged({0: one, 1: two, 2: three}, places)
    np.testing.assert_array_equal(found[0], one)
    rows = [[0.5, 0.1, 0.1, 0.3], [0.1, 0.4, 0.4, 0.1], [0.1, 0.4, 0.4, 0.1], [0.3, 0.15, 0.15, 0.4]]
    np.testing.assert_allclose(found[1], [rows], rtol=1e-6)
    np.testing.assert_allclose(found[2], [[[0.4, 0.2, 0.2, 0.2]]], rtol=1e-6)


def test_what_merges_nothing_is_left_alone() -> None:
    weights = {0: np.ones((2, 3, 3), np.float32)}
    assert unmerged(weights, {}) == weights
