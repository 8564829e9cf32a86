"""Shows in a picture what of it the model is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.runtime.frame import Frame, Image

LINES = (((0, 0, 0), 3), ((255, 255, 255), 1))
"""BGR and width: white on black is seen on any picture."""
SIDE = 480
"""Pixels of a picture's shorter side for which these widths are meant."""


def outlined(frame: Frame) -> Image:
    """The whole picture, uint8 [H, W, 3], with a line around the frame's region; itself if it has none."""
    import cv2

    if (box := frame.region) is None:
        return frame.image_bgr
    image = frame.image_bgr.copy()
    factor = max(1, round(min(image.shape[:2]) / SIDE))
    corner = (box.left + box.width - 1, box.top + box.height - 1)
    for colour, width in LINES:
        cv2.rectangle(image, (box.left, box.top), corner, colour, width * factor)
    return image
