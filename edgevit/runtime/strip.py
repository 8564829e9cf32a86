"""The overlay that leaves the picture free: a strip with the label, at most 12 % of the height."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.runtime.lettering import GRAY, WHITE, ascii_label, cut, enlarged, frost, text, text_width

if TYPE_CHECKING:
    from edgevit.runtime.caption import Caption
    from edgevit.runtime.lettering import Image

MOST = 0.12
"""Of the picture's height."""
USUAL = 0.07
"""Of its shorter side."""
LEAST_TALL, LEGIBLE = 22, 14
"""Pixels of a strip: what a small picture's has where there is room for it, and what text needs at least."""
LEAST_WIDE = 160
"""Pixels; a narrower picture is enlarged, or no label would fit."""


def draw_strip(image_bgr: Image, caption: Caption, *, bottom: bool) -> Image:
    """A new image uint8 [H', W', 3] with one line: label, confidence and, where there is room, frames per second.

    Of the size of ``image_bgr``, but for pictures lower than 117 or narrower than 160 pixels, which are enlarged. One that is too
    thin for text is left as it is.
    """
    height, width = image_bgr.shape[:2]
    image = enlarged(image_bgr, max((LEGIBLE + 0.01) / MOST / height, LEAST_WIDE / width))
    height, width = image.shape[:2]
    tall = min(max(LEAST_TALL, round(USUAL * min(height, width))), int(MOST * height))
    if tall < LEGIBLE // 2 or width < LEAST_WIDE // 2:
        return image
    top = height - tall if bottom else 0
    frost(image[top : top + tall], max(1, tall // 12))
    margin = tall // 3
    left, right = margin, width - margin
    label, figure, pace = ascii_label(caption.title), caption.confidence, caption.pace
    beside = text_width(figure, tall) + margin * bool(figure)
    free = right - left - beside
    if pace and text_width(label[:200], tall) + 2 * margin + text_width(pace, tall) <= free:
        text(image, right - text_width(pace, tall), top, tall, pace, GRAY)
    label = cut(label, free, tall)
    text(image, left, top, tall, label, WHITE)
    text(image, left + text_width(label, tall) + margin, top, tall, figure, WHITE)
    return image
