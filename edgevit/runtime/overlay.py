"""Draws predictions onto a frame."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.runtime.classify import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Color = tuple[int, int, int]

MIN_SIDE = 480
"""Pixels; smaller images are enlarged until their shorter side has so many, so that text is legible."""
MAX_ENLARGED = 1920
"""Pixels; enlarging stops here, however thin the image is."""
UNITS = 24
"""The image's shorter side in units; all of the layout is in these, so it grows with the image."""
ROW = 1.3
"""Units from one bar to the next."""
FRAME = 4.3
"""Units of a panel without bars: the margins, the title and the last line."""
MAX_CHARACTERS = 96
"""Of a label. No panel has room for more, and measuring text takes time."""
CAPITAL = 21
"""Pixels a capital letter is high at scale 1, in OpenCV 4 and 5; their `getTextSize` differ."""
SHADE = 4
"""One part in so many of the picture shines through the panel."""
WHITE, GRAY, BEST, OTHER = (255, 255, 255), (190, 190, 190), (150, 110, 20), (125, 105, 75)


def draw(
    image_bgr: Image,
    predictions: Sequence[Prediction],
    *,
    fps: float | None,
    precision: str,
    latency_ms: float,
    best: Prediction | None = None,
    labels: Sequence[Prediction] | None = None,
) -> Image:
    """A new image with a panel: label, confidence, one bar per prediction, speed and precision.

    Args:
        image_bgr: uint8 [H, W, 3]; not changed.
        predictions: likeliest first, at least one; those that do not fit are left out.
        fps: frames per second, None if not known yet.
        precision: such as ``int8``.
        latency_ms: capture to label.
        best: what the title says, where it is not the first of ``predictions``.
        labels: of a multi-label model, all that are there: the title names them, and their bars stand out.

    Returns:
        uint8 [H', W', 3], the size of ``image_bgr`` or, if that is small, larger by one factor.
    """
    image = _enlarged(image_bgr)
    height, width = image.shape[:2]
    unit = min(height, width) / UNITS
    bars = predictions[: int((UNITS - FRAME) / ROW)]
    right = min(width, round(22 * unit))
    panel = image[: min(height, round((FRAME + ROW * len(bars)) * unit)), :right]
    _frost(panel, max(1, round(unit)))

    bar_left, bar_right = round(0.5 * unit), right - round(0.5 * unit)
    left, right = round(0.8 * unit), right - round(0.8 * unit)
    best = best or predictions[0]
    title = best.label if not labels else ", ".join(each.label for each in labels)
    # Several confidences are in the bars, and so is that of a class which is not believed.
    figure = f"{best.confidence:.1%}" if labels is None and best.index >= 0 else ""
    there = {predictions[0].index} if labels is None else {each.index for each in labels}
    _row(image, left, round(0.5 * unit), right, round(1.8 * unit), title, figure, WHITE)
    for rank, prediction in enumerate(bars):
        top, tall = round((2.6 + ROW * rank) * unit), round(1.15 * unit)
        _bar(image, bar_left, top, bar_right, tall, prediction.confidence, BEST if prediction.index in there else OTHER)
        _row(image, left, top, right, tall, prediction.label, f"{prediction.confidence:.1%}", WHITE)
    speed = f"{latency_ms:.1f} ms" if fps is None else f"{fps:.1f} fps   {latency_ms:.1f} ms"
    top = round((2.8 + ROW * len(bars)) * unit)
    _row(image, left, top, right, round(1.15 * unit), speed, precision, GRAY)
    return image


def _enlarged(image: Image) -> Image:
    """A copy, larger if it is small."""
    import cv2

    height, width = image.shape[:2]
    factor = min(MIN_SIDE / min(height, width), MAX_ENLARGED / max(height, width))
    if factor <= 1:
        return image.copy()
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _frost(panel: Image, grain: int) -> None:
    """Darken and blur what is behind the text, which stays readable over pure white and over other text."""
    import cv2

    height, width = panel.shape[:2]
    coarse = cv2.resize(panel, (-(-width // grain), -(-height // grain)), interpolation=cv2.INTER_AREA) // SHADE
    cv2.resize(coarse, (width, height), dst=panel, interpolation=cv2.INTER_LINEAR)


def _bar(image: Image, left: int, top: int, right: int, tall: int, share: float, color: Color) -> None:
    """Fill ``share`` of the row from the left."""
    image[top : top + tall, left : left + round((right - left) * share)] = color


def _row(image: Image, left: int, top: int, right: int, tall: int, text: str, figure: str, color: Color) -> None:
    """Text on the left, cut to the room that the figure on the right leaves it."""
    figure_left = right - _text_width(figure, tall)
    _text(image, left, top, tall, _cut(ascii_label(text), figure_left - left - tall // 2, tall), color)
    _text(image, figure_left, top, tall, figure, color)


def _text(image: Image, left: int, top: int, tall: int, text: str, color: Color) -> None:
    """One line of text, centred in a row ``tall`` pixels high."""
    import cv2

    font, scale, thickness = _font(tall)
    baseline = top + round((tall + CAPITAL * scale) / 2)
    cv2.putText(image, text, (left, baseline), font, scale, color, thickness, cv2.LINE_AA)


def _font(tall: int) -> tuple[int, float, int]:
    """OpenCV's font, scale and stroke for a row ``tall`` pixels high."""
    import cv2

    return cv2.FONT_HERSHEY_SIMPLEX, tall / 38, max(1, tall // 24)


def _text_width(text: str, tall: int) -> int:
    import cv2

    return cv2.getTextSize(text, *_font(tall))[0][0]


def _cut(text: str, room: int, tall: int) -> str:
    """The text, or as much of its beginning as ``room`` pixels hold, with dots."""
    text = text[:MAX_CHARACTERS]
    if _text_width(text, tall) <= room:
        return text
    while text and _text_width(text + "...", tall) > room:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def ascii_label(label: str) -> str:
    """The label in ASCII: accents dropped, anything else that OpenCV's fonts lack as ``?``."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", label) if not unicodedata.combining(char))
    return "".join(char if " " <= char <= "~" else "?" for char in plain)
