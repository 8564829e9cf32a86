"""Pictures made of a photo to train on: part of it, a little turned, mirrored, in other light. NumPy and OpenCV, on uint8 frames.

They pass through the model's own preprocessing, so what is learned is what the camera will deliver. The amounts are moderate:
a defect at the rim or a faint colour has to stay what it is. Gray photos stay gray.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevit.preprocess import Preprocessing, prepare

if TYPE_CHECKING:
    from edgevit.preprocess import Frame

AREA = (0.6, 1.0)  # of a crop, of the photo's
ASPECT = math.log(1.25)  # of a crop, beside the photo's: up to this factor either way
ANGLE = 10.0  # degrees either way
LIGHT = 0.2  # brightness, contrast and saturation change by up to this share
HUE = 4  # of OpenCV's 180


def augmented(frame: Frame, contract: Preprocessing, random: np.random.Generator, *, flip: bool) -> Frame:
    """A model input uint8 [height, width, 3] BGR of a photo uint8 [H, W, 3] BGR, as ``random`` has it."""
    view = _turned(prepare(_crop(frame, random), contract), random.uniform(-ANGLE, ANGLE))
    if random.random() < 0.5 and flip:
        view = view[:, ::-1]
    return np.ascontiguousarray(_relit(view, random))


def _crop(frame: Frame, random: np.random.Generator) -> Frame:
    """Random resized crop (arXiv 1409.4842); the resizing is `prepare`'s."""
    area, stretch = random.uniform(*AREA), math.exp(random.uniform(-ASPECT, ASPECT) / 2)
    shares = (math.sqrt(area) * stretch, math.sqrt(area) / stretch)
    sides = [min(whole, max(1, round(share * whole))) for share, whole in zip(shares, frame.shape[:2], strict=True)]
    top, left = (int(random.integers(0, whole - part + 1)) for whole, part in zip(frame.shape[:2], sides, strict=True))
    return np.ascontiguousarray(frame[top : top + sides[0], left : left + sides[1]])


def _turned(view: Frame, degrees: float) -> Frame:
    import cv2

    height, width = view.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(view, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _relit(view: Frame, random: np.random.Generator) -> Frame:
    import cv2

    brightness, contrast, saturation = 1 + random.uniform(-LIGHT, LIGHT, 3)
    hue = int(random.integers(-HUE, HUE + 1))
    hsv = cv2.cvtColor(view, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + hue) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
    coloured = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR).astype(np.float32)
    mean = coloured.mean()
    found: Frame = np.clip(((coloured - mean) * contrast + mean) * brightness + 0.5, 0, 255).astype(np.uint8)
    return found
