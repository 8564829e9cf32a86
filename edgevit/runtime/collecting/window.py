"""Keys from the window that shows the frames."""

from __future__ import annotations

from edgevit.runtime.frame import Frame
from edgevit.runtime.outline import outlined
from edgevit.runtime.sinks.screens import WINDOW, WindowSink

QUIT = "q"
WAIT_MS = 50
"""Between two looks whether the window was closed."""


class WindowKeys(WindowSink):
    """A window, and the keys that are pressed in it. Ask `edgevit.runtime.sinks.screens.has_display` first."""

    def pressed(self, frame: Frame, *, wait: bool = False) -> list[str]:
        """Show ``frame``; those since the last call, a character each, ``q`` if the window was closed; with ``wait``, one."""
        import cv2

        cv2.imshow(WINDOW, outlined(frame))
        key = cv2.waitKey(WAIT_MS if wait else 1)
        while wait and key < 0 and self._is_open():
            key = cv2.waitKey(WAIT_MS)
        if not self._is_open():
            return [QUIT]
        return [chr(key & 0xFF)] if key >= 0 else []

    def _is_open(self) -> bool:
        import cv2

        return bool(cv2.getWindowProperty(WINDOW, cv2.WND_PROP_VISIBLE) >= 1)
