"""All attention maps drawn over the image: a row per block, a column per head, models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.attention_maps.canvas import BACK, INK, SOFT, Panel, paste, resized, write
from edgevit.attention_maps.heat import HOTTEST, colour_bar, hottest, overlay
from edgevit.attention_maps.maps import Attention

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

TILE = 112  # pixels of a tile's longer side; less where there are many
MAX_WIDTH = 3200  # pixels of the picture
GAP, HEADER, LINE, MARGIN = 4, 30, 22, 78
BAR = 12  # pixels of the colour bar's height


def draw_grid(image_bgr: Image, panels: Sequence[Panel], blocks: Sequence[int], notes: dict[int, str] | None = None) -> Image:
    """A picture of all ``panels``: the image, its rollout, then for each of ``blocks`` every head and their mean.

    Args:
        image_bgr: uint8 [H, W, 3], what the model saw.
        panels: models of the same grid of patches.
        blocks: which blocks, in order; one that a panel lacks stays empty in it.
        notes: a word per block to write under its name.

    Returns:
        uint8 [height, width, 3] BGR. The panels' maps of one head share a scale, so that a difference shows.
    """
    columns = 1 + max(
        len(panel.attention.weights[block]) for panel in panels for block in blocks if block in panel.attention.weights
    )
    wide, tall = _tile_size(image_bgr.shape, columns * len(panels))
    panel_width = columns * (wide + GAP)
    width = MARGIN + len(panels) * (panel_width + 4 * GAP)
    rows = 1 + len(blocks)
    canvas = np.full((HEADER + 2 * LINE + rows * (tall + GAP), width, 3), BACK, np.uint8)
    small = resized(image_bgr, wide, tall)
    scale = max(hottest(panel.attention.rollout()) for panel in panels)
    for p, panel in enumerate(panels):
        left = MARGIN + p * (panel_width + 4 * GAP)
        write(canvas, panel.title, left, 20, INK, 0.5, panel_width)
        names = ["image", "rollout"]
        pictures = [small, overlay(small, panel.attention.rollout(), scale)]
        for i, (name, picture) in enumerate(zip(names, pictures, strict=True)):
            write(canvas, name, left + i * (wide + GAP) + 2, HEADER + 15, SOFT, 0.4, wide)
            paste(canvas, picture, left + i * (wide + GAP), HEADER + LINE)
    _legend(canvas, MARGIN + 2 * (wide + GAP), HEADER + LINE, wide, small)
    top = HEADER + LINE + tall + GAP
    for p in range(len(panels)):
        left = MARGIN + p * (panel_width + 4 * GAP)
        for i in range(columns):
            write(canvas, "mean" if i == 0 else f"head {i - 1}", left + i * (wide + GAP) + 2, top + 15, SOFT, 0.4, wide)
    for r, block in enumerate(blocks):
        y = top + LINE + r * (tall + GAP)
        write(canvas, f"block {block}", 4, y + 16, INK, 0.45, MARGIN)
        write(canvas, (notes or {}).get(block, ""), 4, y + 34, SOFT, 0.38, MARGIN)
        maps = [_with_mean(panel.attention, block) for panel in panels]
        for i in range(columns):
            own = [found[i] for found in maps if i < len(found)]
            scale = max((hottest(found) for found in own), default=0.0)
            for p, found in enumerate(maps):
                if i < len(found):
                    paste(canvas, overlay(small, found[i], scale), MARGIN + p * (panel_width + 4 * GAP) + i * (wide + GAP), y)
    return canvas


def _with_mean(attention: Attention, block: int) -> NDArray[np.float32]:
    """The heads' mean in front of the heads; nothing for a block without attention."""
    if block not in attention.weights:
        return np.zeros((0, *attention.grid), np.float32)
    maps = attention.maps(block)
    return np.concatenate([maps.mean(0, keepdims=True), maps])


def _tile_size(shape: tuple[int, ...], columns: int) -> tuple[int, int]:
    """Width and height of a tile in the image's proportions."""
    height, width = shape[:2]
    side = max(24.0, min(float(TILE), (MAX_WIDTH - MARGIN) / columns - GAP))
    scale = side / max(height, width)
    return max(8, round(width * scale)), max(8, round(height * scale))


def _legend(canvas: Image, x: int, y: int, wide: int, image: Image) -> None:
    """The colours and what they stand for: each map has its own scale, so there are no numbers."""
    paste(canvas, colour_bar(image, wide, BAR), x, y)
    write(canvas, f"0 to p{HOTTEST} of a map", x, y + BAR + 14, SOFT, 0.35, wide)
