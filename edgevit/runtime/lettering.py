"""One line of text after another on a picture: OpenCV's strokes, cut to the room that there is, on what is darkened for them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Color = tuple[int, int, int]

MAX_CHARACTERS = 96
"""Of a label. No picture has room for more, and measuring text takes time."""
MAX_ENLARGED = 1920
"""Pixels; enlarging stops here, however thin the image is."""
CAPITAL = 21
"""Pixels a capital letter is high at scale 1, in OpenCV 4 and 5; their `getTextSize` differ."""
SHADE = 4
"""One part in so many of the picture shines through behind text."""
WHITE, GRAY = (255, 255, 255), (190, 190, 190)


def enlarged(image: Image, factor: float) -> Image:
    """A copy, ``factor`` times as large if that is more than 1; no side becomes longer than `MAX_ENLARGED`."""
    import cv2

    height, width = image.shape[:2]
    factor = min(factor, MAX_ENLARGED / max(height, width))
    if factor <= 1:
        return image.copy()
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def frost(panel: Image, grain: int) -> None:
    """Darken and blur what is behind the text, which stays readable over pure white and over other text."""
    import cv2

    height, width = panel.shape[:2]
    coarse = cv2.resize(panel, (-(-width // grain), -(-height // grain)), interpolation=cv2.INTER_AREA) // SHADE
    cv2.resize(coarse, (width, height), dst=panel, interpolation=cv2.INTER_LINEAR)


def row(image: Image, left: int, top: int, right: int, tall: int, label: str, figure: str, color: Color) -> None:
    """Text on the left, cut to the room that the figure on the right leaves it."""
    figure_left = right - text_width(figure, tall)
    text(image, left, top, tall, cut(ascii_label(label), figure_left - left - tall // 2, tall), color)
    text(image, figure_left, top, tall, figure, color)


def text(image: Image, left: int, top: int, tall: int, words: str, color: Color) -> None:
    """One line of text, centred in a row ``tall`` pixels high."""
    import cv2

    font, scale, thickness = _font(tall)
    baseline = top + round((tall + CAPITAL * scale) / 2)
    cv2.putText(image, words, (left, baseline), font, scale, color, thickness, cv2.LINE_AA)


def _font(tall: int) -> tuple[int, float, int]:
    """OpenCV's font, scale and stroke for a row ``tall`` pixels high."""
    import cv2

    return cv2.FONT_HERSHEY_SIMPLEX, tall / 38, max(1, tall // 24)


def text_width(words: str, tall: int) -> int:
    """Pixels that ``words`` are wide in a row ``tall`` pixels high."""
    import cv2

    return cv2.getTextSize(words, *_font(tall))[0][0]


def cut(words: str, room: int, tall: int) -> str:
    """The text, or as much of its beginning as ``room`` pixels hold, with dots."""
    words = words[:MAX_CHARACTERS]
    if text_width(words, tall) <= room:
        return words
    while words and text_width(words + "...", tall) > room:
        words = words[:-1]
    return words.rstrip() + "..." if words else ""


def ascii_label(label: str) -> str:
    """The label in ASCII: accents dropped, anything else that OpenCV's fonts lack as ``?``."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", label) if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in plain)
