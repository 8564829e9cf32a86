"""A map as colours over the image, and the bar that says which colour is how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import needs_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

HEAT = 0.55
"""Share of the colours; the rest is the image."""
HOTTEST = 99
"""Percentile of a map that gets the hottest color: a few tokens of large ViTs outshine all others."""


def overlay(image_bgr: Image, heat: NDArray[np.float32], scale: float) -> Image:
    """``heat`` [rows, columns], hottest from ``scale`` on, over ``image_bgr`` uint8 [H, W, 3]; a new image of that size."""
    with needs_extra("cpu"):
        import cv2
    level = np.clip(255 * heat / scale if scale > 0 else np.zeros_like(heat), 0, 255).astype(np.uint8)
    height, width = image_bgr.shape[:2]
    smooth = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
    colored = cv2.applyColorMap(smooth, cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.addWeighted(colored, HEAT, image_bgr, 1 - HEAT, 0), np.uint8)


def hottest(heat: NDArray[np.float32]) -> float:
    """What gets the hottest color of a map."""
    return float(np.percentile(heat, HOTTEST))


def colour_bar(image_bgr: Image, wide: int, tall: int) -> Image:
    """The colours from 0 to the hottest, left to right, as `overlay` shows them over ``image_bgr``'s mean gray level."""
    ramp = np.linspace(0, 1, wide, dtype=np.float32)[None]
    return overlay(np.full((tall, wide, 3), round(float(image_bgr.mean())), np.uint8), ramp, 1.0)
