"""The drawing: its size, where it is hot, and that one scale serves both models."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.attention_maps.maps import Attention
from edgevit.attention_maps.picture import MAX_WIDTH, Panel, draw_attention, overlay
from tests.attention_maps.test_maps import softmaxed, with_class_token

IMAGE = np.full((60, 90, 3), 128, np.uint8)


def test_overlay_is_hot_where_the_map_is() -> None:
    heat = np.zeros((2, 3), np.float32)
    heat[0, 0] = 1
    drawn = overlay(IMAGE, heat, 1.0)
    assert drawn.shape == IMAGE.shape
    assert drawn[2, 2].astype(int).sum() > drawn[-2, -2].astype(int).sum() + 150


def test_overlay_of_nothing() -> None:
    """A map of zeros has no hottest place; it is dark, and no division fails."""
    zeros = np.zeros((2, 3), np.float32)
    assert np.ptp(overlay(IMAGE, zeros, 0.0), axis=(0, 1)).max() == 0


def test_every_block_and_head_has_its_tile() -> None:
    panels = [Panel(title=f"{name} – ü 猫", attention=with_class_token(i)) for i, name in enumerate(("fp32", "int8"))]
    one = draw_attention(IMAGE, panels[:1], [0, 1])
    two = draw_attention(IMAGE, panels, [0, 1], {0: "moved 1 %"})
    fewer = draw_attention(IMAGE, panels, [1])
    assert one.dtype == np.uint8
    assert two.shape[0] == one.shape[0] > fewer.shape[0]
    assert two.shape[1] > 1.8 * (one.shape[1] - 78)


def test_panels_share_a_scale() -> None:
    """A model that looks half as hard is half as bright."""
    strong = np.zeros((1, 5, 5), np.float32)
    strong[:, :, 1:] = 0.25
    weak = strong.copy()
    weak[:, :, 1:], weak[:, :, 0] = 0.125, 0.5
    panels = [
        Panel(title=name, attention=Attention(weights={0: weights}, grid=(2, 2), class_token=True))
        for name, weights in (("strong", strong), ("weak", weak))
    ]
    drawn = draw_attention(IMAGE, panels, [0])
    left, right = drawn[-30, 90 : drawn.shape[1] // 2 - 20], drawn[-30, drawn.shape[1] // 2 + 60 :]
    assert left.astype(int).sum(1).min() > right.astype(int).sum(1).min() + 50


def test_a_model_that_lacks_a_head_or_a_block() -> None:
    whole, pruned = with_class_token(), with_class_token(5, heads=(1, 3))
    pruned.weights.pop(1)
    panels = [Panel(title="a", attention=whole), Panel(title="b", attention=pruned)]
    assert draw_attention(IMAGE, panels, [0, 1]).shape == draw_attention(IMAGE, [panels[0]] * 2, [0, 1]).shape


@pytest.mark.parametrize("shape", [(8, 400, 3), (400, 8, 3), (1, 1, 3)])
def test_images_of_odd_proportions(shape: tuple[int, ...]) -> None:
    assert draw_attention(np.zeros(shape, np.uint8), [Panel(title="x", attention=with_class_token())], [0]).size


def test_many_heads_fit() -> None:
    weights = {0: softmaxed(0, 24, 1, 5)}
    panels = [Panel(title="x", attention=Attention(weights=weights, grid=(2, 2), class_token=True))] * 2
    assert draw_attention(IMAGE, panels, [0]).shape[1] <= MAX_WIDTH + 100
