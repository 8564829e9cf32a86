"""Where pictures go: each result is drawn once, for the window, the video and whatever else shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgevit.errors import ConfigError
from edgevit.runtime.decide import Decision
from edgevit.runtime.latency import Rate
from edgevit.runtime.outline import outlined
from edgevit.runtime.overlay import draw
from edgevit.runtime.sinks.base import Screen

if TYPE_CHECKING:
    from edgevit.runtime.sinks.base import Image

WINDOW = "edgevit"
QUIT_KEYS = (ord("q"), ord("Q"), 27)


class Overlays:
    """The sink that draws each decision once and hands the picture to all ``screens``."""

    def __init__(
        self,
        screens: Sequence[Screen],
        *,
        precision: str,
        overlay: str = "label",
        position: str = "top",
        paced: bool = False,
        fps: float | None = None,
    ) -> None:
        """``overlay`` and ``position`` are those of `draw`.

        With ``paced``, the frames are a file's: it plays at ``fps``, None for images, however fast they are classified.
        """
        self._screens = screens
        self._options = {"precision": precision, "overlay": overlay, "position": position}
        self._paced, self._fps = paced, fps
        self._rate = Rate()

    def __call__(self, decision: Decision) -> bool:
        """Draw and show; False once any screen asks to end."""
        self._rate.add(decision.finished)
        rate = self._rate.per_second
        picture = draw(
            outlined(decision.frame),
            decision.predictions,
            best=decision.best,
            labels=decision.labels if decision.multi_label else None,
            fps=self._fps if self._paced else rate,
            processed=rate if self._paced else None,
            latency_ms=decision.latency_ms,
            **self._options,
        )
        # A list: the video still gets the picture after which the window was closed.
        return False not in [screen(picture) for screen in self._screens]

    def close(self) -> None:
        """Close the screens."""
        for screen in self._screens:
            screen.close()


class WindowSink:
    """A window on this machine's display, with ``title``. Ask `has_display` first."""

    def __init__(self, title: str = WINDOW) -> None:
        """Open the window. Raises ConfigError if the display refuses."""
        import cv2

        self._title = title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            msg = f"cannot open a window: {error.err}. Write a video instead, or run on the machine's own desktop."
            raise ConfigError(msg) from error

    def __call__(self, image_bgr: Image) -> bool:
        """Show one picture; False when the user pressed q or Esc or closed the window."""
        import cv2

        cv2.imshow(self._title, image_bgr)
        key = cv2.waitKey(1) & 0xFF
        return key not in QUIT_KEYS and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close every window of OpenCV."""
        import cv2

        cv2.destroyAllWindows()


def has_display() -> bool:
    """Whether this machine has a desktop and this OpenCV can draw on it; headless wheels cannot."""
    import cv2

    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(desktop) and not re.search(r"GUI:\s+NONE", cv2.getBuildInformation())
