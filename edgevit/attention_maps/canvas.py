"""What the pictures of attention maps are put together from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.attention_maps.maps import Attention
from edgevit.errors import needs_extra
from edgevit.runtime.lettering import ascii_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

BACK, INK, SOFT = (250, 250, 250), (40, 36, 32), (130, 120, 110)


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One model's attention, and what to write of it."""

    name: str
    """Such as ``int8``."""
    title: str
    """The same with the model's answer."""
    attention: Attention


def resized(image: Image, wide: int, tall: int) -> Image:
    """``image`` at another size. Raises MissingPackageError without OpenCV."""
    with needs_extra("cpu"):
        import cv2
    way = cv2.INTER_AREA if wide <= image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (wide, tall), interpolation=way), np.uint8)


def paste(canvas: Image, tile: Image, x: int, y: int) -> None:
    """Put ``tile`` with its upper left corner at (x, y)."""
    canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile


def text_width(text: str, size: float) -> int:
    """Pixels that ``text`` is wide."""
    import cv2

    return cv2.getTextSize(ascii_label(text), cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0]


def write(canvas: Image, text: str, x: int, y: int, color: tuple[int, int, int], size: float, room: int) -> None:
    """One line of text whose baseline begins at (x, y), cut to ``room`` pixels."""
    import cv2

    font: Any = cv2.FONT_HERSHEY_SIMPLEX
    text = ascii_label(text)
    while text and cv2.getTextSize(text, font, size, 1)[0][0] > room:
        text = text[:-1]
    cv2.putText(canvas, text, (x, y), font, size, color, 1, cv2.LINE_AA)
