"""One connection to a live source, through OpenCV."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import SourceError

if TYPE_CHECKING:
    from edgevit.runtime.frame import Image


class UnreachableError(SourceError):
    """Nothing answers where the source should be: no other way of connecting will do better."""


class Stream:
    """An OpenCV capture that has given its first picture. Used by one thread."""

    def __init__(self, capture: Any, *, rotate: int = 0) -> None:
        """Take over ``capture`` and turn its pictures ``rotate`` degrees clockwise: 0, 90, 180 or 270.

        Raises SourceError, and releases it, if it gives no picture.
        """
        import cv2

        self._capture, self._cv2 = capture, cv2
        self._rotation = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}.get(rotate)
        self._first = self.grab() if capture.isOpened() else None
        if self._first is None:
            capture.release()
            msg = "no picture came"
            raise SourceError(msg)
        self.fps: float | None = capture.get(cv2.CAP_PROP_FPS) or None

    def grab(self) -> float | None:
        """Wait for the next picture: the `time.perf_counter` at which it came, None if the stream has ended."""
        first, self._first = getattr(self, "_first", None), None
        if first is not None:
            return first
        try:
            grabbed = self._capture.grab()
        except self._cv2.error:
            return None
        return time.perf_counter() if grabbed else None

    def image(self) -> Image | None:
        """The picture that was grabbed, uint8 [H, W, 3] BGR and the caller's own; None if it cannot be decoded."""
        try:
            decoded, image = self._capture.retrieve()
            if not decoded or image is None or not image.size:
                return None
            image = self._bgr(image)
            return image if self._rotation is None else np.asarray(self._cv2.rotate(image, self._rotation), np.uint8)
        except self._cv2.error:
            return None

    def _bgr(self, image: Any) -> Image:
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels == 3:
            return np.asarray(image, np.uint8)
        codes = {1: self._cv2.COLOR_GRAY2BGR, 4: self._cv2.COLOR_BGRA2BGR}
        return np.asarray(self._cv2.cvtColor(image, codes[channels]), np.uint8)

    def close(self) -> None:
        """Release the device. Never under a read: OpenCV crashes."""
        self._capture.release()


Opener = Callable[[], Stream]
"""Connects; raises SourceError, without a password in it, if that fails."""
