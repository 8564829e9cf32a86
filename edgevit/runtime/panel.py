"""The overlay that tells all: label, a bar for each prediction, speed and precision, on at most 40 % of the height."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.runtime.lettering import GRAY, WHITE, enlarged, frost, row

if TYPE_CHECKING:
    from edgevit.runtime.caption import Caption
    from edgevit.runtime.lettering import Color, Image

MOST = 0.4
"""Of the picture's height."""
MIN_SIDE = 480
"""Pixels; smaller images are enlarged until their shorter side has so many, so that text is legible."""
LEGIBLE = 14
"""Pixels; a panel lower than that says nothing: such a picture is left as it is."""
UNITS = 24
"""The image's shorter side in units; all of the layout is in these, so it grows with the image."""
WIDE = 22
"""Units of the panel's width."""
ROW = 1.3
"""Units from one bar to the next."""
FRAME = 4.3
"""Units of a panel without bars: the margins, the title and the last line."""
BEST, OTHER = (150, 110, 20), (125, 105, 75)


def draw_panel(image_bgr: Image, caption: Caption, *, bottom: bool) -> Image:
    """A new image uint8 [H', W', 3] with the panel at its left; larger by one factor if ``image_bgr`` is small.

    Predictions that would make it higher than `MOST` of the picture are left out.
    """
    image = enlarged(image_bgr, MIN_SIDE / min(image_bgr.shape[:2]))
    height, width = image.shape[:2]
    unit = min(height, width) / UNITS
    bars = caption.predictions[: int((MOST * height / unit - FRAME) / ROW)]
    right, tall = min(width, round(WIDE * unit)), int((FRAME + ROW * len(bars)) * unit)
    if tall < LEGIBLE:
        return image
    panel = image[height - tall :, :right] if bottom else image[:tall, :right]
    frost(panel, max(1, round(unit)))
    bar_left, bar_right = round(0.5 * unit), right - round(0.5 * unit)
    left, right = round(0.8 * unit), right - round(0.8 * unit)
    row(panel, left, round(0.5 * unit), right, round(1.8 * unit), caption.title, caption.confidence, WHITE)
    for rank, prediction in enumerate(bars):
        top, high = round((2.6 + ROW * rank) * unit), round(1.15 * unit)
        _bar(panel, bar_left, top, bar_right, high, prediction.confidence, BEST if prediction.index in caption.there else OTHER)
        row(panel, left, top, right, high, prediction.label, f"{prediction.confidence:.1%}", WHITE)
    top = round((2.8 + ROW * len(bars)) * unit)
    row(panel, left, top, right, round(1.15 * unit), caption.speed, caption.precision, GRAY)
    return image


def _bar(image: Image, left: int, top: int, right: int, tall: int, share: float, color: Color) -> None:
    """Fill ``share`` of the row from the left."""
    image[top : top + tall, left : left + round((right - left) * share)] = color
