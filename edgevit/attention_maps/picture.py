"""Attention maps drawn over the image: a row per block, a column per head, models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.attention_maps.maps import Attention
from edgevit.errors import needs_extra
from edgevit.runtime.lettering import ascii_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

TILE = 112  # pixels of a tile's longer side; less where there are many
MAX_WIDTH = 3200  # pixels of the picture
GAP, HEADER, LINE, MARGIN = 4, 30, 22, 78
HEAT = 0.55  # share of the heat map in the overlay
HOTTEST = 99  # percentile of a map that gets the hottest color: a few tokens of large ViTs outshine all others
BACK, INK, SOFT = (250, 250, 250), (40, 36, 32), (130, 120, 110)


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One model's attention, and what to write above it."""

    title: str
    attention: Attention


def draw_attention(
    image_bgr: Image, panels: Sequence[Panel], blocks: Sequence[int], notes: dict[int, str] | None = None
) -> Image:
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
    small = _resized(image_bgr, wide, tall)
    scale = max(_hottest(panel.attention.rollout()) for panel in panels)
    for p, panel in enumerate(panels):
        left = MARGIN + p * (panel_width + 4 * GAP)
        _write(canvas, panel.title, left, 20, INK, 0.5, panel_width)
        names = ["image", "rollout"]
        pictures = [small, overlay(small, panel.attention.rollout(), scale)]
        for i, (name, picture) in enumerate(zip(names, pictures, strict=True)):
            _write(canvas, name, left + i * (wide + GAP) + 2, HEADER + 15, SOFT, 0.4, wide)
            _paste(canvas, picture, left + i * (wide + GAP), HEADER + LINE)
    top = HEADER + LINE + tall + GAP
    for p in range(len(panels)):
        left = MARGIN + p * (panel_width + 4 * GAP)
        for i in range(columns):
            _write(canvas, "mean" if i == 0 else f"head {i - 1}", left + i * (wide + GAP) + 2, top + 15, SOFT, 0.4, wide)
    for r, block in enumerate(blocks):
        y = top + LINE + r * (tall + GAP)
        _write(canvas, f"block {block}", 4, y + 16, INK, 0.45, MARGIN)
        _write(canvas, (notes or {}).get(block, ""), 4, y + 34, SOFT, 0.38, MARGIN)
        maps = [_with_mean(panel.attention, block) for panel in panels]
        for i in range(columns):
            own = [found[i] for found in maps if i < len(found)]
            scale = max((_hottest(found) for found in own), default=0.0)
            for p, found in enumerate(maps):
                if i < len(found):
                    _paste(canvas, overlay(small, found[i], scale), MARGIN + p * (panel_width + 4 * GAP) + i * (wide + GAP), y)
    return canvas


def overlay(image_bgr: Image, heat: NDArray[np.float32], scale: float) -> Image:
    """``heat`` [rows, columns], hottest from ``scale`` on, over ``image_bgr`` uint8 [H, W, 3]; a new image of that size."""
    with needs_extra("cpu"):
        import cv2
    level = np.clip(255 * heat / scale if scale > 0 else np.zeros_like(heat), 0, 255).astype(np.uint8)
    height, width = image_bgr.shape[:2]
    smooth = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
    colored = cv2.applyColorMap(smooth, cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.addWeighted(colored, HEAT, image_bgr, 1 - HEAT, 0), np.uint8)


def _with_mean(attention: Attention, block: int) -> NDArray[np.float32]:
    """The heads' mean in front of the heads; nothing for a block without attention."""
    if block not in attention.weights:
        return np.zeros((0, *attention.grid), np.float32)
    maps = attention.maps(block)
    return np.concatenate([maps.mean(0, keepdims=True), maps])


def _hottest(heat: NDArray[np.float32]) -> float:
    return float(np.percentile(heat, HOTTEST))


def _tile_size(shape: tuple[int, ...], columns: int) -> tuple[int, int]:
    """Width and height of a tile in the image's proportions."""
    height, width = shape[:2]
    side = max(24.0, min(float(TILE), (MAX_WIDTH - MARGIN) / columns - GAP))
    scale = side / max(height, width)
    return max(8, round(width * scale)), max(8, round(height * scale))


def _resized(image: Image, wide: int, tall: int) -> Image:
    with needs_extra("cpu"):
        import cv2
    return np.asarray(cv2.resize(image, (wide, tall), interpolation=cv2.INTER_AREA), np.uint8)


def _paste(canvas: Image, tile: Image, x: int, y: int) -> None:
    canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile


def _write(canvas: Image, text: str, x: int, y: int, color: tuple[int, int, int], size: float, room: int) -> None:
    """One line of text, cut to ``room`` pixels."""
    import cv2

    font: Any = cv2.FONT_HERSHEY_SIMPLEX
    text = ascii_label(text)
    while text and cv2.getTextSize(text, font, size, 1)[0][0] > room:
        text = text[:-1]
    cv2.putText(canvas, text, (x, y), font, size, color, 1, cv2.LINE_AA)
