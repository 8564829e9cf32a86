"""What of a frame decides whether it is kept: a thumbnail, how sharp it is, and whether it was exposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.runtime.frame import Image

    Levels = NDArray[np.float32]

SIDE = 256
"""Pixels of the longer side at which sharpness is measured: a ViT sees about as many. Smaller frames stay as they are."""
THUMBNAIL, BLOCKS = 32, 8
CONTRAST = 50.0
"""Standard deviation of gray levels that a picture is brought to before its sharpness is measured."""
FAINTEST = 8.0
"""A picture of less counts as one of so much: noise alone is not sharp."""
DARK, BRIGHT, RANGE = 40, 215, 16
"""Gray levels. Dark: 98 % of the pixels are darker; overexposed: 98 % are brighter; flat: 96 % lie within such a range."""
NEARLY_WHITE, NOTHING_DARKER = 240, 100
"""Overexposed, too: half of the pixels are brighter than the one, 98 % than the other. A dark part before a lit screen is not."""
NOISE_MASK = ((1, -2, 1), (-2, 4, -2), (1, -2, 1))
"""Sees noise and hardly a picture (Immerkaer, Fast noise variance estimation, CVIU 64(2), 1996). White noise passes six times as
strong; through the Laplacian's four neighbours its variance is twenty times its own."""

MEDIAN_OF_ONE = 0.6745
"""Median of the absolute values of a normal distribution of standard deviation 1."""

Exposure = Literal["dark", "overexposed", "flat"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What was measured of one frame."""

    thumbnail: Levels
    """Gray levels float32 [32, 32], 0 to 255: means of the pixels that each stands for."""
    sharpness: float
    """Variance of the Laplacian of the gray picture, 256 pixels at its longer side and brought to a standard deviation of 50
    levels, so that it does not change with the exposure, less what the camera's noise adds. Sharp photos have 150 to 5000."""
    blocks: Levels
    """Where it is: the same of 8 x 8 blocks, float32 [8, 8], as the mean square."""
    exposure: Exposure | None
    """What is wrong with it, if anything is."""


def look_at(image_bgr: Image) -> Look:
    """Measure a frame uint8 [H, W, 3] BGR."""
    import cv2

    gray = _shrunk(np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)))
    levels = gray.astype(np.float32)
    gain = CONTRAST / max(float(levels.std()), FAINTEST)
    edges, noise = np.asarray(cv2.Laplacian(levels, cv2.CV_32F)), 20 * _noise(levels) ** 2
    blocks = np.asarray(cv2.resize(edges**2, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA), np.float32)
    return Look(
        thumbnail=thumbnail_of(gray), sharpness=gain**2 * max(0.0, float(edges.var()) - noise),
        blocks=gain**2 * np.maximum(blocks - np.float32(noise), 0), exposure=exposure_of(gray),
    )  # fmt: skip


def exposure_of(gray: NDArray[np.uint8]) -> Exposure | None:
    """Whether a gray picture uint8 [H, W] is black, white or of one gray, however noisy."""
    low, middle, high = np.percentile(gray, (2, 50, 98))
    if high < DARK:
        return "dark"
    if low > BRIGHT or (low > NOTHING_DARKER and middle > NEARLY_WHITE):
        return "overexposed"
    return "flat" if high - low < RANGE else None


def thumbnail_of(gray: NDArray[np.uint8]) -> Levels:
    """A gray picture uint8 [H, W] as float32 [32, 32]."""
    import cv2

    return np.asarray(cv2.resize(gray.astype(np.float32), (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA), np.float32)


def _shrunk(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    height, width = gray.shape
    longer = max(height, width)
    if longer <= SIDE:
        return gray
    size_wh = max(1, round(width * SIDE / longer)), max(1, round(height * SIDE / longer))
    return np.asarray(cv2.resize(gray, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _noise(levels: Levels) -> float:
    """Standard deviation of white noise in a picture; by the median, so that its edges do not count."""
    import cv2

    seen = np.abs(np.asarray(cv2.filter2D(levels, cv2.CV_32F, np.array(NOISE_MASK, np.float32))))
    return float(np.median(seen)) / MEDIAN_OF_ONE / 6
