"""Draws predictions onto a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgevit.runtime.caption import Caption
from edgevit.runtime.classify import Prediction
from edgevit.runtime.panel import draw_panel
from edgevit.runtime.strip import draw_strip

if TYPE_CHECKING:
    from edgevit.runtime.lettering import Image

OVERLAYS = ("off", "label", "full")
"""Nothing; a strip with the label; a panel with all predictions."""
POSITIONS = ("top", "bottom")


def draw(
    image_bgr: Image,
    predictions: Sequence[Prediction],
    *,
    fps: float | None,
    precision: str,
    latency_ms: float,
    best: Prediction | None = None,
    labels: Sequence[Prediction] | None = None,
    processed: float | None = None,
    overlay: str = "label",
    position: str = "top",
) -> Image:
    """A new image with what the model says of it.

    Args:
        image_bgr: uint8 [H, W, 3]; not changed.
        predictions: likeliest first, at least one; those that do not fit are left out.
        fps: frames per second, a file's own, or of a camera as they were classified; None if not known (yet).
        precision: such as ``int8``.
        latency_ms: capture to label.
        best: what the title says, where it is not the first of ``predictions``.
        labels: of a multi-label model, all that are there: the title names them, and their bars stand out.
        processed: of a file, how many frames were classified per second.
        overlay: one of `OVERLAYS`: ``label`` takes at most 12 % of the height, ``full`` 40 %.
        position: one of `POSITIONS`.

    Returns:
        uint8 [H', W', 3], the size of ``image_bgr`` or, if that is too small for text, larger by one factor; with ``off``
        ``image_bgr`` itself.
    """
    if overlay == "off":
        return image_bgr
    caption = Caption(
        predictions=predictions, best=best or predictions[0], labels=labels, fps=fps, processed=processed, precision=precision,
        latency_ms=latency_ms,
    )  # fmt: skip
    return (draw_panel if overlay == "full" else draw_strip)(image_bgr, caption, bottom=position == "bottom")
