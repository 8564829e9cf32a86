"""Where a model looks at a glance: the image, the rollout and few blocks, models side by side, with bars that say how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgevit.attention_maps.canvas import BACK, INK, SOFT, Panel, paste, resized, text_width, write
from edgevit.attention_maps.heat import HOTTEST, colour_bar, hottest, overlay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

TILE = 240
"""Pixels of a tile's longer side."""
MOST_WIDE = 1600
"""Pixels of the picture; more groups begin a new row."""
MARGIN, GAP, APART = 16, 6, 28
"""Pixels around the picture, between two tiles of a group, and between groups."""
TITLE, HEADING, NAME, BAR, NUMBERS = 30, 24, 20, 12, 22
"""Pixels of height: the answers' line, and from the top of a group down to its numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Maps of all models that share a scale; the image alone has none."""

    heading: str
    maps: Sequence[NDArray[np.float32] | None]
    names: Sequence[str]

    @property
    def scale(self) -> float:
        return max((hottest(each) for each in self.maps if each is not None), default=0.0)


def draw_attention(
    image_bgr: Image, panels: Sequence[Panel], blocks: Sequence[int], notes: Mapping[int, str] | None = None
) -> Image:
    """A picture of the image, the rollouts of all ``panels``, and of each of ``blocks`` the mean over heads.

    Args:
        image_bgr: uint8 [H, W, 3], what the model saw.
        panels: models of the same grid of patches.
        blocks: which blocks, in order; one that a panel lacks stays empty for it.
        notes: a word per block to write beside its name.

    Returns:
        uint8 [height, width, 3] BGR. A group of maps shares a scale, whose bar is below it in percent of all attention.
    """
    scale = TILE / max(image_bgr.shape[:2])
    wide, tall = (max(8, round(side * scale)) for side in image_bgr.shape[1::-1])
    small, names = resized(image_bgr, wide, tall), [panel.name for panel in panels]
    groups = [_Group(heading="rollout", maps=[panel.attention.rollout() for panel in panels], names=names)]
    for block in blocks:
        note = (notes or {}).get(block, "")
        maps = [panel.attention.maps(block).mean(0) if block in panel.attention.weights else None for panel in panels]
        groups.append(_Group(heading=f"block {block}, mean of heads{f', {note}' if note else ''}", maps=maps, names=names))
    image = _group(_Group(heading="image", maps=[], names=[]), small)
    tiles = [image, *(_group(group, small) for group in groups)]
    titles, foot = (
        "   ".join(panel.title for panel in panels),
        f"% of all attention; colours end at percentile {HOTTEST} of a map",
    )
    places, width, height = _flow(tiles, max(text_width(titles, 0.6), text_width(foot, 0.42)) + 2 * MARGIN)
    canvas = np.full((height + NUMBERS, width, 3), BACK, np.uint8)
    write(canvas, titles, MARGIN, 24, INK, 0.6, width - 2 * MARGIN)
    for tile, (x, y) in zip(tiles, places, strict=True):
        paste(canvas, tile, x, y)
    write(canvas, foot, MARGIN, height + 12, SOFT, 0.42, width - 2 * MARGIN)
    return canvas


def _flow(tiles: Sequence[Image], least: int) -> tuple[list[tuple[int, int]], int, int]:
    """Where each tile goes, left to right in rows, and the size that all of them take."""
    most, places, x, y = max(MOST_WIDE, *(tile.shape[1] + 2 * MARGIN for tile in tiles)), list[tuple[int, int]](), MARGIN, TITLE
    for tile in tiles:
        if x > MARGIN and x + tile.shape[1] + MARGIN > most:
            x, y = MARGIN, y + tile.shape[0] + GAP
        places.append((x, y))
        x += tile.shape[1] + APART
    right = max(x + tile.shape[1] for tile, (x, _) in zip(tiles, places, strict=True)) + MARGIN
    return places, max(right, min(least, most)), y + tiles[-1].shape[0]


def _group(group: _Group, image: Image) -> Image:
    """A heading, each model's map over ``image`` [H, W, 3], and the bar; without maps the image itself."""
    tall, wide = image.shape[:2]
    count = max(1, len(group.maps))
    width = count * (wide + GAP) - GAP
    canvas = np.full((HEADING + NAME + tall + GAP + BAR + NUMBERS, width, 3), BACK, np.uint8)
    write(canvas, group.heading, 0, 17, INK, 0.5, width)
    top = HEADING + NAME
    if not group.maps:
        paste(canvas, image, 0, top)
        return canvas
    for i, (name, heat) in enumerate(zip(group.names, group.maps, strict=True)):
        x = i * (wide + GAP)
        write(canvas, name if heat is not None else f"{name}: no attention here", x, HEADING + 13, SOFT, 0.42, wide)
        if heat is not None:
            paste(canvas, overlay(image, heat, group.scale), x, top)
    below = top + tall + GAP
    paste(canvas, colour_bar(image, width, BAR), 0, below)
    for share in (0.0, 0.5, 1.0):
        text = f"{100 * share * group.scale:.2g} %"
        x = round(share * width - share * text_width(text, 0.42))
        write(canvas, text, x, below + BAR + 16, SOFT, 0.42, width)
    return canvas
