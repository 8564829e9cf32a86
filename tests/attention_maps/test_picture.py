"""The drawing: its size, where it is hot, and that one scale serves both models."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.attention_maps.canvas import BACK, Panel
from edgevit.attention_maps.grid import MAX_WIDTH, draw_grid
from edgevit.attention_maps.heat import colour_bar, overlay
from edgevit.attention_maps.maps import Attention
from edgevit.attention_maps.picture import BAR, MOST_WIDE, TILE, draw_attention
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
    panels = [Panel(name="x", title=f"{name} – ü 猫", attention=with_class_token(i)) for i, name in enumerate(("fp32", "int8"))]
    one = draw_grid(IMAGE, panels[:1], [0, 1])
    two = draw_grid(IMAGE, panels, [0, 1], {0: "moved 1 %"})
    fewer = draw_grid(IMAGE, panels, [1])
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
        Panel(name="x", title=name, attention=Attention(weights={0: weights}, grid=(2, 2), class_token=True))
        for name, weights in (("strong", strong), ("weak", weak))
    ]
    drawn = draw_grid(IMAGE, panels, [0])
    left, right = drawn[-30, 90 : drawn.shape[1] // 2 - 20], drawn[-30, drawn.shape[1] // 2 + 60 :]
    assert left.astype(int).sum(1).min() > right.astype(int).sum(1).min() + 50


def test_a_model_that_lacks_a_head_or_a_block() -> None:
    whole, pruned = with_class_token(), with_class_token(5, heads=(1, 3))
    pruned.weights.pop(1)
    panels = [Panel(name="x", title="a", attention=whole), Panel(name="x", title="b", attention=pruned)]
    assert draw_grid(IMAGE, panels, [0, 1]).shape == draw_grid(IMAGE, [panels[0]] * 2, [0, 1]).shape


@pytest.mark.parametrize("shape", [(8, 400, 3), (400, 8, 3), (1, 1, 3)])
def test_images_of_odd_proportions(shape: tuple[int, ...]) -> None:
    assert draw_grid(np.zeros(shape, np.uint8), [Panel(name="x", title="x", attention=with_class_token())], [0]).size


def test_many_heads_fit() -> None:
    weights = {0: softmaxed(0, 24, 1, 5)}
    panels = [Panel(name="x", title="x", attention=Attention(weights=weights, grid=(2, 2), class_token=True))] * 2
    assert draw_grid(IMAGE, panels, [0]).shape[1] <= MAX_WIDTH + 100


# --- at a glance ------------------------------------------------------------------------------------------------------------


def panels(*attentions: Attention) -> list[Panel]:
    return [Panel(name=f"v{i}", title=f"v{i}: <label> ü 猫 {i} %", attention=each) for i, each in enumerate(attentions)]


def runs(filled: np.ndarray) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(int), [0]])))
    return [int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize(("models", "blocks", "tiles"), [(1, [1], 3), (2, [1], 5), (2, [0, 1], 7)])
def test_a_glance_is_the_image_the_rollouts_and_the_blocks(models: int, blocks: list[int], tiles: int) -> None:
    drawn = draw_attention(IMAGE, panels(*(with_class_token(i) for i in range(models))), blocks)
    row = (drawn[150:160] != BACK).any(axis=2).all(axis=0)  # through all of the tiles of the first row
    assert runs(row)[: min(tiles, 5)] == [TILE] * min(tiles, 5)
    assert drawn.shape[1] <= MOST_WIDE
    if tiles <= 5:
        assert len(runs(row)) == tiles


def test_many_blocks_go_on_in_the_next_row() -> None:
    pair = panels(with_class_token(0), with_class_token(1))
    one, many = draw_attention(IMAGE, pair, [0]), draw_attention(IMAGE, pair, [0, 1] * 3)
    assert many.shape[0] > 2 * one.shape[0] - 100
    assert many.shape[1] <= MOST_WIDE


def test_models_share_the_bar_below_them() -> None:
    """The bar's right end is the hottest place of both, and half as much attention has the colour of its middle."""
    strong = np.zeros((1, 5, 5), np.float32)
    strong[:, :, 1:] = 0.25
    weak = strong.copy()
    weak[:, :, 1:], weak[:, :, 0] = 0.125, 0.5
    shown = [Attention(weights={0: weights}, grid=(2, 2), class_token=True) for weights in (strong, weak)]
    drawn = draw_attention(IMAGE, panels(*shown), [0]).astype(int)
    tall = round(TILE * 60 / 90)
    group = drawn[:, -16 - 2 * TILE - 6 : -16]  # the last group: block 0 of both
    top = 30 + 24 + 20
    hot, half = group[top + tall // 2, TILE // 2], group[top + tall // 2, TILE + 6 + TILE // 2]
    bar = group[top + tall + 6 + BAR // 2]
    assert np.abs(bar[-1] - hot).max() <= 2
    assert np.abs(bar[len(bar) // 2] - half).max() <= 4
    assert hot.sum() > half.sum() + 50


def test_the_bar_goes_from_nothing_to_the_hottest() -> None:
    bar = colour_bar(IMAGE, 100, 5)
    ends = [overlay(IMAGE, np.full((1, 1), value, np.float32), 1.0)[0, 0] for value in (0.0, 1.0)]
    assert bar.shape == (5, 100, 3)
    assert (bar[0, 0] == ends[0]).all()
    assert (bar[0, -1] == ends[1]).all()


def test_a_glance_at_a_model_that_lacks_the_block() -> None:
    pruned = with_class_token(5)
    pruned.weights.pop(1)
    whole = draw_attention(IMAGE, panels(with_class_token(), with_class_token()), [1], {1: "moved 1 %"})
    assert draw_attention(IMAGE, panels(with_class_token(), pruned), [1]).shape == whole.shape


@pytest.mark.parametrize("shape", [(8, 400, 3), (400, 8, 3), (1, 1, 3), (518, 518, 3)])
def test_a_glance_at_images_of_odd_proportions(shape: tuple[int, ...]) -> None:
    assert draw_attention(np.zeros(shape, np.uint8), panels(with_class_token()), [0]).size
